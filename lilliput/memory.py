"""Memory: what there is, whether it ran out, and how large a batch would have fit."""

import resource
from contextlib import suppress
from pathlib import Path

import torch

from lilliput.plan import Plan
from lilliput.technique import Technique

SPARE = 0.8  # of what there is: the allocators' own loss, and the system's


def ran_out(error: BaseException) -> bool:
    """Whether this is what torch, numpy or Python raise for want of memory."""
    said = ("can't allocate memory", "could not create a primitive")  # the second by oneDNN, which says no more
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in said)


def available_bytes(device: str = "cpu") -> int:
    """What the device could still give; on a CPU the page cache counted in, and no more than a container or a limit
    of this process leaves."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    found = []
    with suppress(OSError, StopIteration):
        found.append(1024 * _kib(Path("/proc/meminfo"), "MemAvailable"))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with suppress(OSError, StopIteration):
        for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
            if (most := resource.getrlimit(limit)[0]) != resource.RLIM_INFINITY:
                found.append(max(0, most - 1024 * _kib(Path("/proc/self/status"), field)))
    return min(found, default=2**63)


def _kib(path: Path, field: str) -> int:
    return int(next(line for line in path.read_text().splitlines() if line.startswith(field)).split()[1])


def batch_that_fits(technique: Technique, size: int, plan: Plan) -> int:
    """About the largest batch, of multiples of 8, whose training fits the free memory; 0 if not even 2 images do."""
    each, whatever = _bytes_kept(plan.place(technique).train(), size, plan)
    most = int((SPARE * available_bytes(plan.device) - whatever) // each)
    return most // 8 * 8 if most >= 8 else most if most >= 2 else 0


def _bytes_kept(technique: Technique, size: int, plan: Plan) -> tuple[float, float]:
    """What one image more keeps for the backward pass, and what is there whatever the batch; from two small ones."""
    kept = []
    for batch in (2, 4):
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        views = technique.views(torch.rand(batch, 3, size, size).to(plan.device), plan.generator(0))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), plan.autocast():
            technique.loss(*views)
        kept.append(sum(seen.values()))
    each = (kept[1] - kept[0]) / 2
    learned = sum(parameter.nbytes for parameter in technique.parameters())
    return 1.25 * each, max(0.0, kept[0] - 2 * each) + 3 * learned  # a gradient, and two of the optimiser's
