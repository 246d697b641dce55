"""The most memory that pretraining holds: every technique on every backbone, each in a process of its own.

python -m benchmarks.memory [--data scenes] [--size 96] [--batch 128] [--techniques ...] [--backbones ...]

An epoch of four steps as the command line runs it, on drawn pictures unless told; the process's own highest resident
set, as its log has it. More images take no more: the store stays on disk, mapped.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from lilliput import catalog
from lilliput.training.record import read_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--techniques", nargs="+", default=list(catalog.TECHNIQUES))
    parser.add_argument("--backbones", nargs="+", default=list(catalog.BACKBONES))
    parser.add_argument("--data", default="scenes", help="a data set or a folder of images")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    size, batch = options.size, options.batch
    print(f"MiB resident at most, {size} px, batch {batch}\n")
    print(f"| | {' | '.join(options.backbones)} |")
    print(f"| --- |{' ---: |' * len(options.backbones)}")
    for technique in options.techniques:
        peaks = [f"{peak_mib(technique, backbone, options.data, size, batch):,.0f}" for backbone in options.backbones]
        print(f"| {technique} | {' | '.join(peaks)} |", flush=True)


def peak_mib(technique: str, backbone: str, data: str, size: int, batch: int) -> float:
    """The most MiB resident in an epoch of four steps."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lilliput", "pretrain", technique, backbone, "--data", data]
        command += [
            "--image-size",
            str(size),
            "--batch",
            str(batch),
            "--limit",
            str(4 * batch),
            "--epochs",
            "1",
            "--out",
            folder,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return read_log(Path(folder))[-1]["peak_memory_mib"]


if __name__ == "__main__":
    main()
