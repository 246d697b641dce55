"""Residual blocks that begin as what they are given: the scale of a branch's last norm is zero.

Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1. A network of many blocks then starts as one of few.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lilliput.backbones._batch_norm import BATCH_NORMS
from lilliput.backbones._trial import TrialFailed, at_fitting_size, black_images
from lilliput.system.modes import evaluating

SUMS = ("add", "add_", "__add__", "__iadd__", "__radd__")  # what torch calls them


def begin_residuals_at_zero(backbone: Any) -> list[str]:
    """In place, in a network just drawn; the names of the norms whose scale was set to zero.

    They end a branch that is added to what the branch was given. A block whose other branch has layers too, and a
    network without such sums, stay as they are.
    """
    names = {norm: name for name, norm in backbone.named_modules() if isinstance(norm, BATCH_NORMS) and norm.affine}
    try:
        last = at_fitting_size(backbone.net, lambda size: _last_norms(backbone, list(names), size))
    except TrialFailed:  # its stages are measured when it is built, so this is a norm's own refusal: none to be set
        return []
    for norm in last:
        nn.init.zeros_(norm.weight)
    return [names[norm] for norm in last]


def _last_norms(backbone: Any, norms: list[Any], size: int) -> list[Any]:
    with _Sums() as sums, ExitStack() as hooks, evaluating(backbone), torch.enable_grad():
        for norm in norms:
            hook = norm.register_forward_hook(lambda norm, _, output: sums.normed.append((output, norm)))
            hooks.callback(hook.remove)
        backbone.stages(black_images(backbone.net, backbone.channels, size))
    return list(dict.fromkeys(sums.last))


class _Sums(TorchFunctionMode):
    """Notes the norms whose output is added to what it came from."""

    def __init__(self) -> None:
        super().__init__()
        self.normed: list[tuple[Tensor, nn.Module]] = []  # outputs, kept so that each stays itself
        self.last: list[nn.Module] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in SUMS and all(isinstance(term, Tensor) for term in args[:2]):
            for branch, given in (args[:2], args[1::-1]):
                self.last += [norm for output, norm in self.normed if output is branch and _comes_from(branch, given)]
        return func(*args, **(kwargs or {}))


def _comes_from(result: Tensor, given: Tensor) -> bool:
    """Whether `given` is among what `result` was computed from."""
    sought, left, seen = given.grad_fn, [result.grad_fn], set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [before for before, _ in node.next_functions]
    return sought in seen and sought is not result.grad_fn
