"""LARS: You, Gitman, Ginsburg 2017, https://arxiv.org/abs/1708.03888, algorithm 1."""

import torch
from torch.optim import Optimizer


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
            update = torch._foreach_add([p.grad for p in weights], weights, alpha=group["weight_decay"])
            if group["adapt"]:
                torch._foreach_mul_(update, self._trust_ratios(weights, update, group["trust"]))
            # the rate is inside the velocity (algorithm 1), so a falling rate does not rescale past steps
            torch._foreach_mul_(update, group["lr"])
            velocities = [self._velocity(p) for p in weights]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, update)
            torch._foreach_sub_(weights, velocities)

    def _velocity(self, parameter):
        if "velocity" not in self.state[parameter]:
            self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        return self.state[parameter]["velocity"]

    @staticmethod
    def _trust_ratios(weights, update, trust):
        sizes, steps = torch._foreach_norm(weights), torch._foreach_norm(update)
        return [
            torch.where((w > 0) & (u > 0), trust * w / u.clamp(min=1e-12), torch.ones_like(w))
            for w, u in zip(sizes, steps, strict=True)
        ]
