"""Muon: momentum whose matrices are brought near to orthogonal ones before each step; here a share of the weights long.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; convolutions as matrices of output by all else, as there.
The length of a step is measured by the weights' own, as in LARS (You et al. 2017, https://arxiv.org/abs/1708.03888):
networks start from weights of very different sizes, and before a batch norm their size does not matter.
"""

from collections import defaultdict

import torch
from torch import Tensor
from torch.optim import Optimizer

from lilliput.optim import foreach

QUINTIC = (3.4445, -4.7750, 2.0315)  # the article's: they bring singular values near 1 in the fewest steps
STEPS = 3  # of Newton and Schulz
SHORTEST = 1e-7  # that a length is divided by


class Muon(Optimizer):
    """Weights are stepped along an orthogonal matrix near their Nesterov momentum, by `lr` of their own length.

    Groups with `adapt=False` are stepped as by SGD with momentum.
    """

    def __init__(self, params, *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0, steps: int = STEPS):
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps, "adapt": True}
        )

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            if not learning:
                continue
            gradients = [p.grad for p in learning]
            velocities = [self._velocity(p) for p in learning]
            if not group["adapt"]:
                gradients = list(foreach.add(gradients, learning, alpha=group["weight_decay"]))
            foreach.mul_(velocities, group["momentum"])
            foreach.add_(velocities, gradients)
            updates = velocities
            if group["adapt"]:
                seen = foreach.add(gradients, velocities, alpha=group["momentum"])  # Nesterov's
                updates = as_long_as(learning, orthogonal_all(list(seen), group["steps"]))
                foreach.mul_(learning, 1 - group["lr"] * group["weight_decay"])
            foreach.add_(learning, updates, alpha=-group["lr"])

    def _velocity(self, parameter):
        if "velocity" not in self.state[parameter]:
            self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        return self.state[parameter]["velocity"]


def orthogonal_all(updates: list[Tensor], steps: int) -> list[Tensor]:
    """Each as `orthogonal` makes it, those of one shape at once."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, update in enumerate(updates):
        alike[len(update), update[0].numel()].append(place)
    made: list[Tensor] = list(updates)
    for places in alike.values():
        stack = orthogonal(torch.stack([updates[place].flatten(1) for place in places]), steps)
        for place, matrix in zip(places, stack, strict=True):
            made[place] = matrix.view_as(updates[place])
    return made


def operations(weight: Tensor, steps: int = STEPS) -> int:
    """Additions and multiplications that `orthogonal` needs for it."""
    short, long = sorted((len(weight), weight[0].numel()))
    return 4 * short**2 * long + (8 * steps - 6) * short**3


def as_long_as(weights: list[Tensor], updates: list[Tensor]) -> list[Tensor]:
    """The updates, each made as long as the weights that it is for; as long as 1 where those are all zero."""
    lengths, own = torch.stack(list(foreach.norm(weights))), torch.stack(list(foreach.norm(updates)))
    factors = lengths.where(lengths > 0, 1) / own.clamp(min=SHORTEST)
    return [update * factor for update, factor in zip(updates, factors, strict=True)]


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """[N, H, W] -> their singular values brought near 1 by so many steps of Newton and Schulz.

    A step is X <- (a + b G + c G G) X with G = X X'. It is a polynomial in the first G alone, so that all of them are
    taken on the short side's square, and the long side is multiplied twice however many they are.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=SHORTEST)
    a, b, c = QUINTIC
    gram, whole = x @ x.mT, None
    for left in reversed(range(steps)):
        step = torch.baddbmm(b * gram, gram, gram, alpha=c)
        step.diagonal(dim1=1, dim2=2).add_(a)
        whole = step if whole is None else step @ whole
        if left:
            gram = step @ gram @ step
    x = x if whole is None else whole @ x
    return x.mT if tall else x
