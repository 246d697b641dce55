"""Several processes that train as one: each has its part of every batch, and all of them the same weights.

What is trained is the mean of the processes' losses. Whatever they exchange within the loss has the gradient that this
asks for, and the gradients of weights are averaged: then it does not matter whether a loss is a mean over images, each
process's over its own, or is reckoned by all of them alike from what they have gathered. One process alone exchanges
nothing, and all that is here gives back what it was given.

Data parallelism as in Li et al., VLDB 2020, https://arxiv.org/abs/2006.15704, without the overlap.
"""

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lilliput.errors import BadSetting, LilliputError
from lilliput.system import launched, signals
from lilliput.system.progress import sent_to

T = TypeVar("T")


class _Place(NamedTuple):
    rank: int
    size: int


ALONE = _Place(0, 1)
_here = ALONE


def rank() -> int:
    """The number of this process, from 0."""
    return _here.rank


def size() -> int:
    """How many processes train together."""
    return _here.size


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return _here.rank == 0


@contextmanager
def joined() -> Iterator[None]:
    """Within, this process is one of those that torchrun started, if it did, and only the first of them speaks.

    LilliputError where another one has ended. All leave together, so that none ends what another still needs.
    """
    if launched.size() == 1:
        yield
        return
    if not dist.is_initialized():
        cuda = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        atexit.register(_part)  # and not before: of two groups, the second could meet what is left of the first
    try:
        with among(launched.rank(), launched.size()):
            yield
            highest(0)
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise LilliputError("another process of this run has ended: what it said tells why") from None


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def among(rank: int, size: int) -> Iterator[None]:
    """Within, this process is number `rank` of so many, between which torch's process group lies ready."""
    global _here
    before, _here = _here, _Place(rank, size)
    try:
        with nullcontext() if rank == 0 else sent_to(lambda message: None):
            yield
    finally:
        _here = before


@contextmanager
def apart() -> Iterator[None]:
    """Within, this process is by itself: for what it does while the others wait, or do something else."""
    global _here
    before, _here = _here, ALONE
    try:
        yield
    finally:
        _here = before


def own_device(device: str | None) -> str | None:
    """Of a GPU that is asked for, or the usual one where none is: that of this process."""
    if size() == 1 or not torch.cuda.is_available() or torch.device(device or "cuda").type != "cuda":
        return device
    if launched.rank_here() >= torch.cuda.device_count():
        raise BadSetting(
            f"{launched.rank_here() + 1} processes or more on a machine of {torch.cuda.device_count()} GPU(s): give "
            f"torchrun --nproc-per-node {torch.cuda.device_count()}, or --device cpu"
        )
    torch.cuda.set_device(launched.rank_here())
    return f"cuda:{launched.rank_here()}"


def own(rows: Tensor) -> Tensor:
    """The part of this process of what was made for the whole batch, [N B, ...] -> [B, ...]."""
    count = len(rows) // size()
    return rows[rank() * count : (rank() + 1) * count] if size() > 1 else rows


def gather(rows: Tensor) -> Tensor:
    """[B, ...] of each of N processes -> [N B, ...] in their order, in all of them; the reverse of `own`.

    Backwards every process gets, for its rows, the sum of what all of them make of these.
    """
    return _Gathered.apply(rows) if size() > 1 else rows


def total(value: Tensor) -> Tensor:
    """The sum of all processes' values, of any shape; with the gradient of that."""
    return gather(value[None]).sum(0) if size() > 1 else value


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        pieces = [torch.empty_like(rows) for _ in range(size())]
        dist.all_gather(pieces, rows)
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return own(gradient)


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Each becomes its mean over all processes; in one exchange."""
    if size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, values in zip(tensors, flat.div_(size()).split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


@torch.no_grad()
def send_weights(module: nn.Module) -> None:
    """All of them get the first one's parameters and buffers: another kind of processor may have drawn others."""
    if size() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            sent = tensor.contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent)


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them, which wait for it; where it fails, they end without a word."""
    if size() == 1:
        return make()
    made: list[Any] = [None, False]
    try:
        if is_first():
            with apart():
                made = [make(), True]
    finally:
        dist.broadcast_object_list(made, 0, device=torch.device("cpu"))
    if not made[1]:
        raise SystemExit(1)
    return made[0]


def highest(number: int) -> int:
    """The highest of all processes' numbers. They wait for each other here; no accelerator waits."""
    if size() == 1:
        return number
    told = torch.tensor(number)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return int(told)


def asked() -> int | None:
    """As `signals.asked`, of any of the processes: all stop at the same step."""
    if size() == 1:
        return signals.asked()
    number = highest(signals.asked() or 0)
    if number:
        signals.ask(number)
    return number or None


def check_alike(value: Any, what: str) -> None:
    """LilliputError where a process has another value than the first."""
    if highest(int(from_first(lambda: value) != value)):
        raise LilliputError(f"the processes of this run differ in {what}: start them by one command, on the same files")


def _lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "onnection" in str(error)
