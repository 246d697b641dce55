"""How a run uses this machine: device, precision, memory format, threads, compiled or not."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lilliput.errors import BadSetting, LilliputError
from lilliput.system.machine import allocator, processor
from lilliput.system.progress import say
from lilliput.system.records import read_json, write_json
from lilliput.system.seeds import seeded

M = TypeVar("M", bound=nn.Module)
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MOST_THREADS = 4096
TRIALS, TRIED = 3, 32  # steps of each plan, and the most images in them, before one is chosen


@dataclass(frozen=True)
class Plan:
    """Where and in which numbers a run computes."""

    device: str  # cpu, cuda, cuda:1, mps
    precision: str  # fp32, bf16, fp16 (weights and losses stay fp32)
    channels_last: bool
    threads: int | None = None  # on a CPU; sums of other shapes give other last bits
    compile: bool = False  # training by torch.compile
    deterministic: bool = False  # the same bits on CUDA too, where the quickest kernels add in any order

    def take_effect(self) -> None:
        """What is set for the whole process: from here on compute so."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(self.deterministic)
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
            torch.backends.cudnn.benchmark = False

    def place(self, module: M) -> M:
        """The module on the device, in the plan's memory format."""
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module  # type: ignore[call-overload]

    def hasten(self, technique: M) -> M:
        """The technique, its networks compiled where the plan says so; names and weights stay as they are."""
        if self.compile:
            for network in technique.children():
                network.compile()
        return technique

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

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def fixed(self) -> dict[str, Any]:
        """All but the device, as `choose` takes it."""
        fields = self.as_dict()
        del fields["device"]
        return fields

    def __str__(self) -> str:
        threads = [f"{self.threads} thread{'s' * (self.threads > 1)}"] if self.threads else []
        layout = ["channels_last"] if self.channels_last else ["contiguous"]
        memory = [f"memory by {allocator()}"] if allocator() else []
        return ", ".join(
            [
                self.device,
                self.precision,
                *layout,
                *threads,
                *["compiled"] * self.compile,
                *["deterministic"] * self.deterministic,
                *memory,
            ]
        )


def choose(
    device: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    *,
    network: Callable[[], nn.Module] | None = None,
    name: str = "",
    size: int = 96,
    batch: int = TRIED,
) -> Plan:
    """The best plan for this machine; a given device, and what is `fixed`, are kept. BadSetting where they cannot be.

    fixed: precision, channels_last, threads, compile, deterministic. With a `network` (a builder of it), its image
    size and batch, what is not fixed is measured, once for all runs of that `name` here. torch.compile is never chosen:
    to compile takes longer than a trial may.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadSetting(f"device {device!r} cannot be used here ({reason}); try --device cpu") from None
    wanted = {key: value for key, value in (fixed or {}).items() if value is not None}
    _check(wanted, device)
    usual = {"precision": _usual(device), "channels_last": True, "compile": False, "deterministic": False}
    usual["threads"] = torch.get_num_threads() if torch.device(device).type == "cpu" else None
    plan = Plan(device, **{**usual, **wanted})
    trials = [(change, margin) for change, margin in _alternatives(plan) if not set(change) & set(wanted)]
    return _remembered(plan, trials, network, name, size, batch) if network and trials else plan


def _check(wanted: dict[str, Any], device: str) -> None:
    kinds = {"precision": str, "channels_last": bool, "threads": int, "compile": bool, "deterministic": bool}
    for key, value in wanted.items():
        if key not in kinds:
            raise BadSetting(f"a plan has no {key!r}; it has {', '.join(kinds)}")
        if type(value) is not kinds[key]:
            raise BadSetting(f"the plan's {key} {value!r} is no {kinds[key].__name__}")
    if (precision := wanted.get("precision", "fp32")) not in DTYPES:
        raise BadSetting(f"precision {precision!r} is none of {', '.join(DTYPES)}")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise BadSetting("precision 'fp16' is for accelerators; on a CPU take fp32 or bf16")
    if not 1 <= wanted.get("threads", 1) <= MOST_THREADS:
        raise BadSetting(f"the plan's threads {wanted['threads']} must be at least 1 and at most {MOST_THREADS}")


def _usual(device: str) -> str:
    if torch.device(device).type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def _alternatives(plan: Plan) -> list[tuple[dict[str, Any], float]]:
    """Changes to try, and by how much each must win.

    On a CPU, bf16 doubles the speed of dense convolutions and halves that of depthwise ones.
    """
    precision = (
        []
        if torch.device(plan.device).type == "mps"
        else [({"precision": "fp32" if plan.precision != "fp32" else "bf16"}, 1.2)]
    )
    threads = [({"threads": plan.threads // 2}, 1.1)] if plan.threads and plan.threads > 1 else []
    return [*precision, ({"channels_last": not plan.channels_last}, 1.1), *threads]


def _remembered(plan: Plan, trials: list, network: Callable[[], nn.Module], name: str, size: int, batch: int) -> Plan:
    """What was measured before, of the same things on the same machine; else measured now, and kept."""
    from lilliput.system.files import home

    what = {
        "from": plan.as_dict(), "network": name, "size": size, "batch": batch, "processor": processor(),
        "accelerator": torch.cuda.get_device_name(plan.device) if torch.device(plan.device).type == "cuda" else None,
        "torch": torch.__version__, "allocator": allocator(),
    }  # fmt: skip
    file = home() / "plans" / f"{hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]}.json"
    try:
        if name and file.exists():
            kept = Plan(**read_json(file)["plan"])
            _check(
                {key: value for key, value in kept.fixed().items() if (key, value) != ("threads", None)}, plan.device
            )
            return dataclasses.replace(kept, device=plan.device)
    except (LilliputError, OSError, TypeError, KeyError):
        pass  # damaged, or an older Lilliput's: measured anew
    plan = _measured(plan, trials, network, size, batch)
    say(f"{name} at {size} px runs best here with {plan}")
    if name:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {**what, "plan": plan.as_dict()})
        except (LilliputError, OSError):
            pass  # a home that cannot be written costs only time
    return plan


def _measured(plan: Plan, trials: list, network: Callable[[], nn.Module], size: int, batch: int) -> Plan:
    """Change by change, the plan that is the quicker; a change that does not win by its margin is not made."""
    images = torch.rand(min(batch, TRIED), 3, size, size, generator=torch.Generator().manual_seed(0)).to(plan.device)
    with seeded(0), own_threads():
        model = network()
        for change, margin in trials:
            other = dataclasses.replace(plan, **change)
            seconds: dict[Plan, list[float]] = {plan: [], other: []}
            for _ in range(TRIALS):  # in turn, so that a change of the machine's speed meets both
                for one, found in seconds.items():
                    found.append(_seconds(model, images, one))
            if min(seconds[other]) * margin < min(seconds[plan]):
                plan = other
    return plan


def _seconds(model: nn.Module, images: Tensor, plan: Plan) -> float:
    """A step forward and back."""
    plan.take_effect()
    model = plan.place(model).train()
    if not plan.channels_last:
        model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    _wait(plan.device)
    began = time.perf_counter()
    with plan.autocast():
        features = model(images)
    features.float().sum().backward()
    _wait(plan.device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()


@contextmanager
def own_threads() -> Iterator[None]:
    """What the block does to torch's number of threads, and to its choice of algorithms, ends with it."""
    before, was = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(was)
