"""Images a second, and seconds to the first batch: shards streamed from the disk and from a server, and the store.

python -m benchmarks.streaming --pool DIR [--size 96] [--batch 128] [--each 1000] [--rounds 3] [--out results/streaming]

The pool is packed in shards first. Each figure is of a process of its own, the sides in turn, round by round, so that a
change of the machine's speed meets all of them. `cold`: with nothing prepared, so that the store decodes and writes all
images before its first batch, and a stream reads all headers for its index; `warm`: with stores and indices at rest.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd

SIDES = ("store", "shards", "served")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", required=True, help="a folder of images")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--each", type=int, default=1000, help="images in a shard")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="results/streaming")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure, options.size, options.batch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        count = pack(Path(options.pool), Path(folder) / "shards", options.each)
        with served(Path(folder) / "shards") as address:
            last = f"{{000..{count - 1:03d}}}.tar"
            places = (options.pool, f"{folder}/shards/{last}", f"{address}/{last}")
            rows = list(figures(dict(zip(SIDES, places, strict=True)), Path(folder), options))
    table = pd.DataFrame(rows)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    table.to_csv(Path(options.out) / "results.csv", index=False)
    print_table(table)


def pack(pool: Path, place: Path, each: int) -> int:
    """The files below a folder in shards, as `tar` would; how many shards."""
    place.mkdir()
    files = sorted(path for path in pool.rglob("*") if path.is_file())
    firsts = range(0, len(files), each)
    for number, first in enumerate(firsts):
        with tarfile.open(place / f"{number:03d}.tar", "w") as tar:
            for path in files[first : first + each]:
                tar.add(path, path.relative_to(pool).as_posix())
    return len(firsts)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the folder, on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # who looks a shard up hangs up before its content

    with Server(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def figures(places: dict[str, str], folder: Path, options: argparse.Namespace) -> Iterator[dict]:
    """A row for each side, round and state."""
    for number in range(options.rounds):
        for side, place in places.items():
            home = folder / f"home-{side}-{number}"
            for state in ("cold", "warm"):
                load, _, _ = os.getloadavg()
                command = [sys.executable, "-m", "benchmarks.streaming", "--pool", options.pool, "--measure", place]
                command += ["--size", str(options.size), "--batch", str(options.batch)]
                environment = {**os.environ, "LILLIPUT_HOME": str(home)}
                said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
                yield {"side": side, "round": number, "state": state, "load": load, **json.loads(said.splitlines()[-1])}


def measured(place: str, size: int, batch: int) -> dict[str, float]:
    """Of an epoch, in a process that has just begun: seconds to the first batch, and images a second from then on."""
    import torch

    from lilliput.datasets import open_data

    began = time.perf_counter()
    images = open_data(place, image_size=size).pool
    batches = images.batches(batch, "cpu", 1, torch.Generator().manual_seed(0))
    next(batches)
    first = time.perf_counter()
    count = sum(len(rest) for rest in batches)
    return {"images": len(images), "first_s": first - began, "images_per_s": count / (time.perf_counter() - first)}


def print_table(table: pd.DataFrame) -> None:
    means = table.groupby(["state", "side"], sort=False)[["first_s", "images_per_s", "load"]].median()
    print(f"{table.images.iloc[0]} images, medians of {table['round'].max() + 1} rounds\n")
    print("| state | side | seconds to the first batch | images/s | of the store's | load |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for (state, side), row in means.iterrows():
        share = row.images_per_s / means.images_per_s[state, "store"]
        print(f"| {state} | {side} | {row.first_s:.2f} | {row.images_per_s:,.0f} | {share:.3f} | {row.load:.1f} |")


if __name__ == "__main__":
    main()
