"""How large a batch would have fit."""

import torch

from lilliput.data.store import SMALLEST_SIZE
from lilliput.system.machine import available_bytes
from lilliput.system.plan import Plan
from lilliput.techniques import Technique
from lilliput.training.cell import Cell

SPARE = 0.8  # of what there is: the allocators' own loss, and the system's


def batch_that_fits(technique: Technique, size: int, plan: Plan) -> int:
    """About the largest batch, of multiples of 8, whose training fits the free memory; 0 if not even 2 images do."""
    each, whatever = _bytes_saved(plan.place(technique).train(), size, plan)
    most = int((SPARE * available_bytes(plan.device) - whatever) // each)
    return most // 8 * 8 if most >= 8 else most if most >= 2 else 0


def _bytes_saved(technique: Technique, size: int, plan: Plan) -> tuple[float, float]:
    """What one image more keeps for the backward pass, and what is there whatever the batch; from two small ones."""
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
    return 1.25 * each, max(0.0, saved[0] - 2 * each) + 3 * learned  # a gradient, and two of the optimiser's


def what_fits(cell: Cell, size: int, plan: Plan) -> str:
    """What to do after memory ran out, from what two small batches keep for their backward pass."""
    batch = cell.recipe.batch
    fits = min(batch_that_fits(cell.build(), size, plan), batch // 2)
    smaller = int(size * (fits / batch) ** 0.5) // 8 * 8
    ways = [f"--batch {fits}"] * (fits > 1) + [f"--image-size {smaller}"] * (smaller >= SMALLEST_SIZE)
    return f"out of memory with a batch of {batch} at {size} px; " + (
        f"{' or '.join(ways)} would fit" if ways else "not even a batch of 2 would fit: take a smaller backbone"
    )
