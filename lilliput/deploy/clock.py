"""How long an exported file takes for one image, and how much memory: in a process that does nothing else.

`python -m lilliput.deploy.clock '{"kind": "onnx", "path": ...}'` prints JSON. onnx is timed without importing torch.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.errors import BadSetting
from lilliput.system.machine import peak_bytes, reset_peak

RUNS, SECONDS = 300, 4.0  # warm runs: so many, or as many as fit, but at least FEWEST
FEWEST = 20
WARMING = 5


def clocked(kind: str, path: Path, **circumstances: Any) -> dict[str, float]:
    """`load_ms`, `first_ms` (cold), `p50_ms` and `p95_ms` (warm, batch 1), and `peak_mib` of a process of its own.

    `circumstances`: size, threads, uint8, classes (of a torch encoder's classifier, or None), use (files of a user's
    own that an encoder was built by).
    """
    words = json.dumps({"kind": kind, "path": str(path.resolve()), **circumstances})
    done = subprocess.run([sys.executable, "-m", __name__, words], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise BadSetting(f"{path} cannot be timed: {(done.stderr.strip().splitlines() or ['it was killed'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(load: Callable[[], Callable[[np.ndarray], Any]], image: np.ndarray) -> dict[str, float]:
    """What `clocked` gives, of what `load` loads, a function of `image`."""
    reset_peak()
    began = time.perf_counter()
    run = load()
    loaded = time.perf_counter()
    run(image)
    first = time.perf_counter()
    for _ in range(WARMING):
        run(image)
    times: list[float] = []
    warm = time.perf_counter()
    while len(times) < RUNS and (len(times) < FEWEST or time.perf_counter() - warm < SECONDS):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    half, most = np.percentile(times, [50, 95])
    spans = {"load_ms": loaded - began, "first_ms": first - loaded, "p50_ms": half, "p95_ms": most}
    return {**{name: round(1000 * span, 4) for name, span in spans.items()}, "peak_mib": round(peak_bytes() / 2**20, 1)}


def _onnx(path: str, threads: int, **_: Any) -> Callable[[], Callable]:
    import onnxruntime

    def load() -> Callable:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda image: session.run(None, {name: image})

    return load


def _exported(kind: str) -> Callable[..., Callable[[], Callable]]:
    def of_kind(path: str, threads: int, **_: Any) -> Callable[[], Callable]:
        import importlib

        import torch

        torch.set_num_threads(threads)
        if kind == "executorch":  # of its own, as torch's: to import is not to load
            importlib.import_module("executorch.runtime")
        opened = importlib.import_module(f"lilliput.deploy.{kind}").opened

        def load() -> Callable:
            run = opened(Path(path))
            return lambda image: run(torch.from_numpy(image))

        return load

    return of_kind


def _torch(
    path: str, threads: int, uint8: bool, classes: int | None, use: list[str], **_: Any
) -> Callable[[], Callable]:
    import torch

    from lilliput import catalog
    from lilliput.deploy.network import Deployed
    from lilliput.training.encoders import load_encoder

    torch.set_num_threads(threads)
    catalog.use(*use)

    def load() -> Callable:
        encoder: Any = load_encoder(path)
        head = None if classes is None else torch.nn.Linear(encoder.dim, classes)
        network = Deployed(encoder, uint8=uint8, head=head)

        def run(image: np.ndarray) -> Any:
            with torch.inference_mode():
                return network(torch.from_numpy(image))

        return run

    return load


KINDS: dict[str, Callable[..., Callable[[], Callable]]] = {
    "onnx": _onnx,
    "torch": _torch,
    "torchscript": _exported("torchscript"),
    "executorch": _exported("executorch"),
}


def main(words: str) -> None:
    told = json.loads(words)
    image = np.random.default_rng(0).random((1, 3, told["size"], told["size"]), dtype=np.float32)
    if told["uint8"]:
        image = (image * 255).astype(np.uint8)
    print(json.dumps(measured(KINDS[told.pop("kind")](**told), image)))


if __name__ == "__main__":
    main(sys.argv[1])
