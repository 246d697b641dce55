"""How a run uses this machine: device, precision, memory format, threads, compiled or not."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from lilliput.errors import BadSetting, LilliputError
from lilliput.system import distributed
from lilliput.system.files import home
from lilliput.system.machine import allocator, processor
from lilliput.system.progress import say
from lilliput.system.records import json_digest, read_json, write_json
from lilliput.system.seeds import seeded
from lilliput.system.visible import counted

M = TypeVar("M", bound=nn.Module)
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
KINDS = {"precision": str, "channels_last": bool, "threads": int, "compile": bool, "deterministic": bool}
KINDS |= {"accumulate": int}
MOST_THREADS = 4096
TRIAL_STEPS, TRIAL_IMAGES = 3, 32  # steps of each plan, and the most images in them, before one is chosen
HOPELESS = 4  # times as slow after two steps: no more are tried


@dataclass(frozen=True)
class Plan:
    """Where and in which numbers a run computes."""

    device: str  # cpu, cuda, cuda:1, mps
    precision: str  # fp32, bf16, fp16 (weights and losses stay fp32)
    channels_last: bool
    threads: int | None = None  # on a CPU; sums of other shapes give other last bits
    compile: bool = False  # training by torch.compile
    deterministic: bool = False  # the same bits on CUDA too, where the quickest kernels add in any order
    accumulate: int | None = None  # parts in which the backbone takes a batch; None: as few as memory takes
    processes: int = 1  # that have a batch together

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

    def autocast(self) -> AbstractContextManager:
        """Mixed precision for a forward pass, or nothing."""
        dtype = DTYPES[self.precision]
        return nullcontext() if dtype is None else torch.autocast(torch.device(self.device).type, dtype)

    def generator(self, seed: int) -> torch.Generator:
        """Random numbers drawn where the images are."""
        return torch.Generator(device=self.device).manual_seed(seed)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def fixed(self) -> dict[str, Any]:
        """All that can be fixed, as `choose` takes it."""
        return {name: value for name, value in self.as_dict().items() if name in KINDS}

    def __str__(self) -> str:
        words = [self.device, self.precision, "channels_last" if self.channels_last else "contiguous"]
        if self.threads:
            words.append(counted(self.threads, "thread(s)"))
        if self.compile:
            words.append("compiled")
        if self.deterministic:
            words.append("deterministic")
        if self.accumulate and self.accumulate > 1:
            words.append(f"batches in {self.accumulate} parts")
        if self.processes > 1:
            words.append(f"{self.processes} processes")
        if allocator():
            words.append(f"memory by {allocator()}")
        return ", ".join(words)


@dataclass(frozen=True)
class Workload:
    """What plans are tried on."""

    network: Callable[[], nn.Module]  # builds it
    name: str  # of the network; "" for one whose plan shall not be remembered
    size: int  # of the images, pixels a side
    batch: int


class Change(NamedTuple):
    """Another value of a plan's field, and by what factor it must be quicker to be taken."""

    field: str
    value: Any
    margin: float


def choose(
    device: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    *,
    network: Callable[[], nn.Module] | None = None,
    name: str = "",
    size: int = 96,
    batch: int = TRIAL_IMAGES,
) -> Plan:
    """The best plan for this machine; a given device, and what is `fixed`, are kept. BadSetting where they cannot be.

    fixed: fields of a Plan. With a `network` (a builder of it), its image size and batch, precision, memory format and
    threads are measured where they are not fixed, once for all runs of that `name` here. torch.compile is never chosen:
    to compile takes longer than a trial may.
    """
    device = _usable(distributed.own_device(device) or _best_device())
    wanted = {key: value for key, value in (fixed or {}).items() if value is not None}
    _check(wanted, device)
    usual = {"precision": _usual(device), "channels_last": True, "compile": False, "deterministic": False}
    usual["threads"] = torch.get_num_threads() if torch.device(device).type == "cpu" else None
    plan = Plan(device, **{**usual, **wanted})
    changes = [change for change in _alternatives(plan) if change.field not in wanted]
    return _remembered(plan, changes, Workload(network, name, size, batch)) if network and changes else plan


def nearest(plan: Mapping[str, Any]) -> Plan:
    """A plan of the same precision and memory format on the best device here; of fp32 where that has not the other."""
    fixed = {key: plan[key] for key in ("precision", "channels_last")}
    try:
        return choose(fixed=fixed)
    except BadSetting:  # half precision, of an accelerator that this machine has not
        return choose(fixed={**fixed, "precision": "fp32"})


def like(
    begun: Mapping[str, Any],
    device: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    *,
    names: Collection[str] = ("precision", "channels_last"),
) -> Plan:
    """The device of a record's plan and its fields of these `names`, but for what is given; where the record's cannot
    be had here, the nearest to them. BadSetting where what is given cannot."""
    kept = {name: value for name, value in begun.items() if name in names}
    try:
        return choose(device or begun["device"], {**kept, **(fixed or {})})
    except BadSetting:
        if device is None and not fixed:
            return nearest(begun)
        return choose(device, {**kept, "precision": None, **(fixed or {})})


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _usable(device: str) -> str:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadSetting(f"device {device!r} cannot be used here ({reason}); try --device cpu") from None
    return device


def _check(wanted: dict[str, Any], device: str) -> None:
    for key, value in wanted.items():
        if key not in KINDS:
            raise BadSetting(f"a plan has no {key!r}; it has {', '.join(KINDS)}")
        if type(value) is not KINDS[key]:
            raise BadSetting(f"the plan's {key} {value!r} is no {KINDS[key].__name__}")
    if (precision := wanted.get("precision", "fp32")) not in DTYPES:
        raise BadSetting(f"precision {precision!r} is none of {', '.join(DTYPES)}")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise BadSetting("precision 'fp16' is for accelerators; on a CPU take fp32 or bf16")
    if not 1 <= wanted.get("threads", 1) <= MOST_THREADS:
        raise BadSetting(f"the plan's threads {wanted['threads']} must be at least 1 and at most {MOST_THREADS}")
    if wanted.get("accumulate", 1) < 1:
        raise BadSetting(f"the plan's accumulate {wanted['accumulate']} must be at least 1")


def _usual(device: str) -> str:
    if torch.device(device).type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def _alternatives(plan: Plan) -> list[Change]:
    """What to try. On a CPU, bf16 doubles the speed of dense convolutions and halves that of depthwise ones."""
    changes = []
    if torch.device(plan.device).type != "mps":
        changes.append(Change("precision", "bf16" if plan.precision == "fp32" else "fp32", 1.2))
    changes.append(Change("channels_last", not plan.channels_last, 1.1))
    if plan.threads and plan.threads > 1:
        changes.append(Change("threads", plan.threads // 2, 1.1))
    return changes


def _remembered(plan: Plan, changes: list[Change], work: Workload) -> Plan:
    """What was measured before, of the same things on the same machine; else measured now, and remembered."""
    conditions = _conditions(plan, work)
    file = home() / "plans" / f"{json_digest(conditions)[:16]}.json"
    earlier = _read(file, plan.device) if work.name else None
    if earlier is not None:
        return earlier
    plan = _measured(plan, changes, work)
    say(f"{work.name} at {work.size} px runs best here with {plan}")
    if work.name:
        with suppress(LilliputError, OSError):  # a home that cannot be written costs only time
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {**conditions, "plan": plan.as_dict()})
    return plan


def _conditions(plan: Plan, work: Workload) -> dict[str, Any]:
    """What a measured plan depends on."""
    return {
        "from": plan.as_dict(),
        "network": work.name,
        "size": work.size,
        "batch": work.batch,
        "processor": processor(),
        "instructions": _instructions(),
        "accelerator": torch.cuda.get_device_name(plan.device) if torch.device(plan.device).type == "cuda" else None,
        "torch": torch.__version__,
        "allocator": allocator(),
    }


def _instructions() -> list[Any]:
    """What a processor can do that decides about bf16: of one name some have it and some do not."""
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return [torch.backends.cpu.get_cpu_capability(), *(ask() if ask else None for ask in asked)]


def _read(file: Path, device: str) -> Plan | None:
    """The plan in the file, on this device; None where it is damaged, or an older Lilliput's: to be measured anew."""
    try:
        if not file.exists():
            return None
        plan = Plan(**read_json(file)["plan"])
        _check({key: value for key, value in plan.fixed().items() if value is not None}, device)
        return replace(plan, device=device)
    except (LilliputError, OSError, TypeError, KeyError):
        return None


def _measured(plan: Plan, changes: list[Change], work: Workload) -> Plan:
    """Change by change, the plan that is the quicker; a change that does not win by its margin is not made."""
    count = min(work.batch, TRIAL_IMAGES)
    images = torch.rand(count, 3, work.size, work.size, generator=torch.Generator().manual_seed(0)).to(plan.device)
    with seeded(0), own_threads():
        model = work.network()
        for change in changes:
            changed = replace(plan, **{change.field: change.value})
            seconds: dict[Plan, list[float]] = {plan: [], changed: []}
            for _ in range(TRIAL_STEPS):  # in turn, so that a change of the machine's speed meets both
                for tried, times in seconds.items():
                    times.append(_seconds(model, images, tried))
                tries = len(seconds[changed])
                if tries > 1 and min(seconds[changed]) > HOPELESS * min(seconds[plan]):  # bf16 where there is none
                    break
            if min(seconds[changed]) * change.margin < min(seconds[plan]):
                plan = changed
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
