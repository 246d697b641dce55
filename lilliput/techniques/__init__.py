"""Pretext techniques, one file each; a file that defines a Technique is one."""

from lilliput.techniques._parts import (
    constant,
    counted,
    frozen_copy,
    full_precision,
    mlp,
    move_towards,
    own_places,
    spread,
)
from lilliput.techniques._technique import BackboneBuilder, Technique, pass_on

__all__ = [
    "BackboneBuilder",
    "Technique",
    "constant",
    "counted",
    "frozen_copy",
    "full_precision",
    "mlp",
    "move_towards",
    "own_places",
    "pass_on",
    "spread",
]
