"""How large a batch fits, and in how many parts a larger one does."""

import math
from dataclasses import replace

import torch

from lilliput.data.store import SMALLEST_SIZE
from lilliput.system.machine import available_bytes
from lilliput.system.plan import Plan
from lilliput.techniques import Technique
from lilliput.training.cell import Cell

SURE_PIXELS = 2**20  # in a batch, below which its memory is not asked for
SPARE = 0.8  # of what there is: the allocators' own loss, and the system's


def in_parts(plan: Plan, cell: Cell, size: int) -> Plan:
    """The plan with the parts in which it takes a batch: the number asked for, else as few as fit the free memory."""
    batch = cell.recipe.batch
    if plan.accumulate or batch * size**2 <= SURE_PIXELS:
        return replace(plan, accumulate=plan.accumulate or 1)
    fits = batch_that_fits(cell.build(), size, plan, of=batch)
    return replace(plan, accumulate=math.ceil(batch / fits) if fits else batch // 2)


def batch_that_fits(technique: Technique, size: int, plan: Plan, *, of: int = 0) -> int:
    """About the largest batch, of multiples of 8, whose training fits the free memory; 0 if not even 2 images do.

    As a part `of` a larger batch: the views of that one are all there beside it.
    """
    each, whatever, views = _bytes_saved(plan.place(technique).train(), size, plan)
    most = int((SPARE * available_bytes(plan.device) - whatever - of * views) // each)
    return most // 8 * 8 if most >= 8 else most if most >= 2 else 0


def _bytes_saved(technique: Technique, size: int, plan: Plan) -> tuple[float, float, float]:
    """What one image more keeps for the backward pass, what is there whatever the batch, from two small ones; and what
    an image's views take."""
    saved = []
    for batch in (2, 4):
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        views = technique.views(torch.rand(batch, 3, size, size).to(plan.device), plan.generator(0))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), plan.autocast():
            technique(*views)
        saved.append(sum(seen.values()))
    each = (saved[1] - saved[0]) / 2
    learned = sum(parameter.nbytes for parameter in technique.parameters())
    whatever = max(0.0, saved[0] - 2 * each) + 3 * learned  # a gradient, and two of the optimiser's
    return 1.25 * each, whatever, sum(view.nbytes for view in views) / batch


def what_fits(cell: Cell, size: int, plan: Plan) -> str:
    """What to do after memory ran out, from what two small batches keep for their backward pass."""
    batch = cell.recipe.batch
    together = plan.processes  # they have a batch in equal parts
    fits = min(together * batch_that_fits(cell.build(), size, plan), batch // 2) // together * together
    smaller = int(size * (fits / batch) ** 0.5) // 8 * 8
    parts = max(2 * (plan.accumulate or 1), math.ceil(batch / fits) if fits else 0)
    ways = [f"--accumulate {parts}"] * (together == 1) + [f"--batch {fits}"] if fits > 1 else []
    ways += [f"--image-size {smaller}"] if smaller >= SMALLEST_SIZE else []
    return f"out of memory with a batch of {batch} at {size} px; " + (
        f"{' or '.join(ways)} would fit" if ways else "not even a batch of 2 would fit: take a smaller backbone"
    )
