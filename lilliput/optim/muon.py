"""Muon: momentum whose matrices are brought near to orthogonal ones before each step.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; convolutions as matrices of output by all else, as there.
"""

from collections import defaultdict

import torch
from torch import Tensor
from torch.optim import Optimizer

from lilliput.optim import foreach

QUINTIC = (3.4445, -4.7750, 2.0315)  # the article's: they bring singular values near 1 in the fewest steps


class Muon(Optimizer):
    """Nesterov momentum; dense weights are stepped by an orthogonal matrix near it, all else by itself, as by SGD.

    Dense are matrices and convolutions over several channels. Groups with `adapt=False` are stepped as by SGD.
    """

    def __init__(self, params, *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0, steps: int = 3):
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps, "adapt": True}
        )

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            dense = [p for p in learning if group["adapt"] and _is_dense(p)]
            others = [p for p in learning if not (group["adapt"] and _is_dense(p))]
            if dense:
                updates = orthogonal_all(self._momenta(dense, group["momentum"]), group["steps"])
                foreach.mul_(dense, 1 - group["lr"] * group["weight_decay"])
                foreach.add_(dense, updates, alpha=-group["lr"])
            if others:
                for p, decayed in zip(others, _decayed(others, group["weight_decay"]), strict=True):
                    p.grad = decayed
                foreach.add_(others, self._momenta(others, group["momentum"]), alpha=-group["lr"])

    def _momenta(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Nesterov's: where the velocity will be, seen from here."""
        gradients, velocities = _gradients(parameters), [self._velocity(p) for p in parameters]
        foreach.mul_(velocities, momentum)
        foreach.add_(velocities, gradients)
        return list(foreach.add(gradients, velocities, alpha=momentum))

    def _velocity(self, parameter):
        if "velocity" not in self.state[parameter]:
            self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        return self.state[parameter]["velocity"]


def orthogonal_all(updates: list[Tensor], steps: int) -> list[Tensor]:
    """Each as `orthogonal` makes it, those of one shape at once; tall ones are scaled by the root of height / width."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, update in enumerate(updates):
        alike[len(update), update[0].numel()].append(place)
    made: list[Tensor] = list(updates)
    for (height, width), places in alike.items():
        stack = orthogonal(torch.stack([updates[place].flatten(1) for place in places]), steps)
        for place, matrix in zip(places, stack * max(1.0, height / width) ** 0.5, strict=True):
            made[place] = matrix.view_as(updates[place])
    return made


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """[N, H, W] -> their singular values brought near 1 by so many steps of Newton and Schulz.

    A step is X <- (a + b G + c G G) X with G = X X'. It is a polynomial in the first G alone, so that all of them are
    taken on the short side's square, and the long side is multiplied twice however many they are.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    gram, whole = x @ x.mT, None
    for _ in range(steps):
        step = torch.baddbmm(b * gram, gram, gram, alpha=c)
        step.diagonal(dim1=1, dim2=2).add_(a)
        whole = step if whole is None else step @ whole
        gram = step @ gram @ step
    x = x if whole is None else whole @ x
    return x.mT if tall else x


def _is_dense(parameter: Tensor) -> bool:
    return parameter.ndim > 1 and parameter.shape[1] > 1


def _decayed(parameters: list[Tensor], weight_decay: float) -> list[Tensor]:
    return list(foreach.add(_gradients(parameters), parameters, alpha=weight_decay))


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]
