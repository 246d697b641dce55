"""Eight bits for an ONNX file: static, S8S8, as pairs of QuantizeLinear and DequantizeLinear; by ONNX Runtime.

Each filter has its own scale (per channel): one for all of a layer ruins depthwise convolutions, whose filters differ
by orders of magnitude: Krishnamoorthi 2018, https://arxiv.org/abs/1806.08342, section 3.1. A classifier stays in float:
it divides every feature by its deviation, and of small ones would see little but the steps of eight bits.
"""

import io
import logging
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lilliput.data.store import Images
from lilliput.deploy.network import as_bytes
from lilliput.deploy.onnx_file import head_nodes, session_of, with_metadata
from lilliput.errors import wanted
from lilliput.system.progress import task
from lilliput.system.visible import counted

CALIBRATED, AT_ONCE = 256, 16  # images that are enough to find ranges by, and of them at a time
SENSED = 64  # images by which the layers' sensitivities are found
PERCENTILE = 99.99  # of the values; what lies beyond is cut
POINT = 0.01  # of accuracy: the most that may be lost in silence
# what reckons in eight bits, and what passes them on; a normalisation of images, a mean of maps stay as they are
WEIGHTED = ("Conv", "Gemm", "MatMul")
TYPES = (*WEIGHTED, "Add", "Concat", "Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Split", "Slice")


@dataclass(frozen=True)
class Setting:
    """How a file is quantised."""

    reduce_range: bool  # weights of seven bits
    calibration: str = "minmax"  # or "percentile"
    per_channel: bool = True
    in_float: tuple[str, ...] = ()  # nodes that stay as they are

    def __str__(self) -> str:
        words = ["per channel" if self.per_channel else "per tensor", f"ranges by {self.calibration}"]
        words += ["weights of 7 bits (no VNNI)"] if self.reduce_range else []
        words += [f"{counted(len(self.in_float), 'layer(s)')} left in float"] if self.in_float else []
        return ", ".join(words)


class Try(NamedTuple):
    """A setting, and what its file reached."""

    setting: Setting
    accuracy: float  # 0..1, on images held out


class Found(NamedTuple):
    """What `search` chose, and by what."""

    setting: Setting
    floats: float  # the accuracy of the file of floats
    tries: list[Try]


def saturates(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor's products of eight bits overflow sixteen: x86 without VNNI. Yes where it does not tell.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return False
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return not {"avx512_vnni", "avx_vnni"} & set(flags)


class Quantiser:
    """A model of floats (onnx's ModelProto), and images to calibrate by; gives models of eight bits."""

    def __init__(self, model: Any, images: Images, *, uint8: bool = False):
        wanted("onnxruntime.quantization", extra="export")
        onnx = wanted("onnx", extra="export")
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.model = onnx.shape_inference.infer_shapes(model)
        parts = (images.load(slice(first, first + AT_ONCE), "cpu") for first in range(0, len(images), AT_ONCE))
        self.batches = [as_bytes(part) if uint8 else part for part in parts]
        self.input, self.head = self.model.graph.input[0].name, head_nodes(self.model)
        self._ranges: dict[str, Any] = {}

    def quantised(self, setting: Setting, only: Sequence[str] = ()) -> bytes:
        """The content of a file; of `only` these nodes where they are named."""
        library = wanted("onnxruntime.quantization", extra="export")
        copied = type(self.model)()
        copied.CopyFrom(self.model)
        with _quiet():
            quantiser = library.QDQQuantizer(
                copied,
                setting.per_channel,
                setting.reduce_range,
                weight_qType=library.QuantType.QInt8,
                activation_qType=library.QuantType.QInt8,
                tensors_range=self._ranges_by(setting.calibration),
                nodes_to_quantize=list(only),
                nodes_to_exclude=[*self.head, *setting.in_float],
                op_types_to_quantize=list(TYPES),
                extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
            )
            quantiser.quantize_model()
        return with_metadata(quantiser.model.model, {**self.metadata, "int8": str(setting)}).SerializeToString()

    def layers(self) -> list[str]:
        """The nodes that have weights, and the sums: those whose eight bits can cost something."""
        nodes = [node.name for node in self.model.graph.node if node.op_type in (*WEIGHTED, "Add")]
        return [name for name in nodes if name not in self.head]

    def by_sensitivity(self, setting: Setting) -> list[str]:
        """The layers, that first which alone in eight bits moves the file's output most, in mean square."""
        batches = self.batches[: -(-SENSED // AT_ONCE)]
        exact = _outputs(self.model.SerializeToString(), self.input, batches)
        errors = {}
        with task("sensitivity of layers", len(self.layers())) as advance:
            for layer in self.layers():
                found = _outputs(self.quantised(replace(setting, in_float=()), [layer]), self.input, batches)
                errors[layer] = (found - exact).square().mean().item()
                advance(1)
        return sorted(errors, key=errors.__getitem__, reverse=True)

    def _ranges_by(self, method: str) -> Any:
        """The ranges of all activations, found once for each method."""
        if method not in self._ranges:
            self._ranges[method] = self._calibrated(method)
        return self._ranges[method]

    def _calibrated(self, method: str) -> Any:
        library = wanted("onnxruntime.quantization.calibrate", extra="export")
        kinds = {"minmax": library.CalibrationMethod.MinMax, "percentile": library.CalibrationMethod.Percentile}
        options = {"percentile": PERCENTILE} if method == "percentile" else {}
        with tempfile.TemporaryDirectory() as folder, _quiet():
            plain, augmented = Path(folder) / "plain.onnx", Path(folder) / "augmented.onnx"
            plain.write_bytes(self.model.SerializeToString())
            calibrator = library.create_calibrator(
                plain, list(TYPES), str(augmented), calibrate_method=kinds[method], extra_options=options
            )
            with task(f"calibrating by {method}", len(self.batches)) as advance:
                for batch in self.batches:  # one at a time: of all their activations together memory might run out
                    calibrator.collect_data(_Reader([{self.input: batch.numpy()}]))
                    advance(1)
            return calibrator.compute_data()


def search(quantiser: Quantiser, accuracy: Callable[[bytes], float]) -> Found:
    """The simplest setting that loses no more than a point of the floats' `accuracy`; where none does, the one that
    loses least. `accuracy` is of a file's content, on images that nothing is reported of."""
    floats = accuracy(quantiser.model.SerializeToString())
    tries: list[Try] = []
    for setting in _settings(quantiser):
        tries.append(Try(setting, accuracy(quantiser.quantised(setting))))
        if floats - tries[-1].accuracy <= POINT:
            break
    return Found(max(tries, key=lambda one: one.accuracy).setting, floats, tries)


def plainest() -> Setting:
    """What is tried first, and what stands where nobody can judge."""
    return Setting(reduce_range=saturates())


def _settings(quantiser: Quantiser) -> Iterator[Setting]:
    """The plainest first: two ways to find ranges, then more and more of the most sensitive layers in float."""
    yield (first := plainest())
    yield replace(first, calibration="percentile")
    order = quantiser.by_sensitivity(first)
    count = 1
    while count <= len(order) // 2:
        yield replace(first, in_float=tuple(order[:count]))
        count *= 2


class _Reader:
    """What ONNX Runtime asks for the next input."""

    def __init__(self, inputs: Sequence[dict[str, Any]]):
        self.inputs = iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.inputs, None)


def _outputs(model: bytes, name: str, batches: Sequence[Tensor]) -> Tensor:
    session = session_of(model)
    return torch.cat([torch.from_numpy(session.run(None, {name: batch.numpy()})[0]) for batch in batches])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice, which it logs and prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
