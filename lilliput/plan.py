"""How a run uses this machine: device, precision, memory format."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lilliput.errors import BadSetting

M = TypeVar("M", bound=nn.Module)
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MARGIN = 1.2  # by how much bf16 must win on a CPU before its coarser numbers are taken


@dataclass(frozen=True)
class Plan:
    """Where and in which numbers a run computes."""

    device: str  # cpu, cuda, cuda:1, mps
    precision: str  # fp32, bf16, fp16 (weights and losses stay fp32)
    channels_last: bool
    threads: int | None = None  # on a CPU; sums of other shapes give other last bits

    def take_threads(self) -> None:
        """Compute with the plan's number of threads from here on."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    def place(self, module: M) -> M:
        """The module on the device, in the plan's memory format."""
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module  # type: ignore[call-overload]

    def images(self, batch: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float in 0..1 on the device."""
        return batch.to(self.device, non_blocking=True).float().div_(255)

    def autocast(self) -> AbstractContextManager:
        """Mixed precision for a forward pass, or nothing."""
        dtype = DTYPES[self.precision]
        return nullcontext() if dtype is None else torch.autocast(torch.device(self.device).type, dtype)

    def generator(self, seed: int) -> torch.Generator:
        """Random numbers drawn where the images are."""
        return torch.Generator(device=self.device).manual_seed(seed)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


def choose(
    device: str | None = None,
    precision: str | None = None,
    *,
    network: Callable[[], nn.Module] | None = None,
    size: int = 96,
) -> Plan:
    """The best plan for this machine; a given device or precision is kept. BadSetting where it cannot be had.

    With a `network` to try (a builder of it) and its image size, precision on a CPU is what measures faster there.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadSetting(f"device {device!r} cannot be used here ({reason}); try --device cpu") from None
    if precision is not None and precision not in DTYPES:
        raise BadSetting(f"precision {precision!r} is none of {', '.join(DTYPES)}")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise BadSetting("precision 'fp16' is for accelerators; on a CPU take fp32 or bf16")
    if precision is None:
        precision = _measured(device, network, size) if network else _usual(device)
    threads = torch.get_num_threads() if torch.device(device).type == "cpu" else None
    return Plan(device, precision, channels_last=True, threads=threads)


def _usual(device: str) -> str:
    if torch.device(device).type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def _measured(device: str, network: Callable[[], nn.Module], size: int) -> str:
    """On a CPU, bf16 doubles the speed of dense convolutions and halves that of depthwise ones: so it is tried."""
    if torch.device(device).type != "cpu":
        return _usual(device)
    plans = [Plan(device, precision, channels_last=True) for precision in ("fp32", "bf16")]
    with seeded(0):
        model = plans[0].place(network()).train()
    images = torch.rand(32, 3, size, size, generator=torch.Generator().manual_seed(0))
    full, half = (min(_seconds(model, images, plan) for _ in range(3)) for plan in plans)
    return "bf16" if half * MARGIN < full else "fp32"


def _seconds(model: nn.Module, images: Tensor, plan: Plan) -> float:
    began = time.perf_counter()
    with plan.autocast():
        features = model(images)
    features.float().sum().backward()
    return time.perf_counter() - began


@contextmanager
def own_threads() -> Iterator[None]:
    """What the block does to torch's number of threads ends with it."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generators hold this seed within the block, and what they held before after it.

    For what takes no generator: the initialisation of layers.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
