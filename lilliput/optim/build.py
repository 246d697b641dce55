"""A recipe's optimiser, over the parameters of a technique."""

from collections.abc import Iterable, Iterator
from typing import Any

from timm.optim import Lamb
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from lilliput.optim.lars import LARS
from lilliput.optim.muon import Muon, operations
from lilliput.optim.recipe import Recipe

SMALL_TENSORS = 2**17  # numbers in a tensor, on average, below which LAMB steps all tensors of a group by one call
MUON_UP_TO = 7e8  # operations of a step, above which it costs more than the gradient and is worth little (NOTEBOOK.md)


def make_optimiser(recipe: Recipe, module: nn.Module) -> Optimizer:
    """The recipe's optimiser over all parameters that learn; biases and norms (one dimension) are not decayed but
    where the recipe says so.

    Parts of it that the recipe names in `rates` learn at that multiple of the learning rate.
    """
    optimiser = _optimiser(recipe, _groups(recipe, module))
    set_rate(optimiser, recipe.peak_rate, muon=recipe.muon_rate)
    return optimiser


def _groups(recipe: Recipe, module: nn.Module) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for part in ("", *recipe.rates):
        own = [p for name, p in module.named_parameters() if p.requires_grad and _part(name, recipe.rates) == part]
        rate = recipe.rates.get(part, 1.0)
        weights = {"weight_decay": recipe.weight_decay, "adapt": True, "always_adapt": True, "share": rate}
        decay = recipe.weight_decay if recipe.decay_vectors else 0.0
        vectors = {"weight_decay": decay, "adapt": False, "share": rate * recipe.vector_rate}
        groups += [{"params": [p for p in own if p.ndim > 1], **weights}]
        groups += [{"params": [p for p in own if p.ndim <= 1], **vectors}]
    return [*_by_muon(groups, recipe)] if recipe.optimiser == "muon" else groups


def _by_muon(groups: list[dict[str, Any]], recipe: Recipe) -> Iterator[dict[str, Any]]:
    """The convolutions over several channels apart, but for the largest: all else is stepped as by SGD."""
    for group in groups:
        dense = [p for p in group["params"] if p.ndim == 4 and p.shape[1] > 1 and operations(p) <= MUON_UP_TO]
        known = {id(p) for p in dense}
        others = [p for p in group["params"] if id(p) not in known]
        yield {**group, "params": others, "adapt": False, "momentum": recipe.sgd_momentum}
        if dense:
            yield {**group, "params": dense, "adapt": True, "momentum": recipe.muon_momentum, "muon": True}


def _optimiser(recipe: Recipe, groups: list[dict[str, Any]]) -> Optimizer:
    betas = (recipe.sgd_momentum, recipe.beta2)
    if recipe.optimiser == "adamw":
        return AdamW(groups, lr=0.0, betas=betas, fused=True)
    if recipe.optimiser == "lamb":
        for group in groups:  # a call for all of many small tensors; large ones leave the cache between two calls
            group["foreach"] = sum(p.numel() for p in group["params"]) < SMALL_TENSORS * len(group["params"])
        return Lamb(groups, lr=0.0, betas=betas, max_grad_norm=None)
    if recipe.optimiser == "lars":
        return LARS(groups, lr=0.0, momentum=recipe.sgd_momentum, trust=recipe.trust)
    if recipe.optimiser == "muon":
        return Muon(groups, lr=0.0)
    return SGD(groups, lr=0.0, momentum=recipe.sgd_momentum, nesterov=recipe.nesterov, fused=True)


def set_rate(optimiser: Optimizer, rate: float, *, muon: float = 1.0) -> None:
    """The learning rate of the next step; every group takes its share of it, and Muon's the share `muon` of that."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"] * (muon if group.get("muon") else 1.0)


def _part(name: str, parts: Iterable[str]) -> str:
    """The part that a parameter of this name belongs to; "" for none."""
    return next((part for part in parts if name.startswith(f"{part}.")), "")
