"""LARS: You, Gitman, Ginsburg 2017, https://arxiv.org/abs/1708.03888, algorithm 1."""

import torch
from torch.optim import Optimizer

from lilliput.optim import foreach

SMALLEST_STEP = 1e-12  # so that none divides by zero


class LARS(Optimizer):
    """Momentum SGD whose step is scaled, layer by layer, by trust * |weights| / |gradient + decay * weights|.

    Groups with `adapt=False` are stepped as by plain SGD.
    """

    def __init__(self, params, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 0.001):
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        )

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            update = foreach.add([p.grad for p in weights], weights, alpha=group["weight_decay"])
            if group["adapt"]:
                foreach.mul_(update, self._trust_ratios(weights, update, group["trust"]))
            # the rate is inside the velocity (algorithm 1), so a falling rate does not rescale past steps
            foreach.mul_(update, group["lr"])
            velocities = [self._velocity(p) for p in weights]
            foreach.mul_(velocities, group["momentum"])
            foreach.add_(velocities, update)
            foreach.sub_(weights, velocities)

    def _velocity(self, parameter):
        if "velocity" not in self.state[parameter]:
            self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        return self.state[parameter]["velocity"]

    @staticmethod
    def _trust_ratios(weights, update, trust):
        sizes, steps = foreach.norm(weights), foreach.norm(update)
        return [
            torch.where((w > 0) & (u > 0), trust * w / u.clamp(min=SMALLEST_STEP), torch.ones_like(w))
            for w, u in zip(sizes, steps, strict=True)
        ]
