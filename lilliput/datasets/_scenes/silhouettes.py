"""Ten things to draw, each in varied pose, as lists of flat coloured parts.

Own drawings. Animals are jointed figures seen from the side or the front; vehicles are small solids seen from any
side. All stand on y = 0 with y upwards; the scene scales and places them.
"""

from collections.abc import Callable
from math import cos, radians, sin, sqrt
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    tone: str  # "main", "second", "glass", ...: the scene knows their colours; "prop" is no part of the thing
    shade: float  # 1: as the tone is, less: darker
    polygons: list[np.ndarray]  # each [K, 2]


def draw_parts(label: str, rng: np.random.Generator) -> list[Part]:
    """One of the ten classes in a pose of its own."""
    return FIGURES[label](rng)


# --- plane shapes ----------------------------------------------------------------------------------------

EIGHTHS = np.linspace(0, 1, 5)[:-1, None]
CATMULL_ROM = 0.5 * np.hstack(
    [
        -EIGHTHS + 2 * EIGHTHS**2 - EIGHTHS**3,
        2 - 5 * EIGHTHS**2 + 3 * EIGHTHS**3,
        EIGHTHS + 4 * EIGHTHS**2 - 3 * EIGHTHS**3,
        -(EIGHTHS**2) + EIGHTHS**3,
    ]
)
HALF_TURN = np.linspace(-np.pi / 2, np.pi / 2, 6)
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 15)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 15)[:-1])], 1)


def blob(*points) -> np.ndarray:
    """A closed smooth curve through the points."""
    knots = np.asarray(points, float)
    count = len(knots)
    neighbours = (np.arange(count)[:, None] + (-1, 0, 1, 2)) % count
    return (CATMULL_ROM @ knots[neighbours]).reshape(-1, 2)


def bend(*points) -> np.ndarray:
    """An open smooth curve through the points."""
    knots = np.asarray(points, float)
    last = len(knots) - 1
    neighbours = np.clip(np.arange(last)[:, None] + (-1, 0, 1, 2), 0, last)
    return np.concatenate([(CATMULL_ROM @ knots[neighbours]).reshape(-1, 2), knots[-1:]])


def oval(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> np.ndarray:
    points = CIRCLE * (rx, ry)
    return np.add(turned(points, degrees) if degrees else points, (x, y))


def spot(at, rx: float, ry: float, degrees: float = 0.0) -> np.ndarray:
    return oval(at[0], at[1], rx, ry, degrees)


def turned(points, degrees: float) -> np.ndarray:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return np.asarray(points, float) @ np.array([[c, s], [-s, c]])


def limb(path, start_width: float, end_width: float) -> list[np.ndarray]:
    """A tapering stroke with round joints: one capsule for each piece of the path."""
    path = np.asarray(path, float)
    radii = np.linspace(start_width, end_width, len(path)) / 2
    steps = np.diff(path, axis=0)
    angles = np.arctan2(steps[:, 1], steps[:, 0])[:, None] + HALF_TURN
    arcs = np.stack([np.cos(angles), np.sin(angles)], -1)  # [pieces, 6, 2]
    fronts = path[1:, None] + radii[1:, None, None] * arcs
    backs = path[:-1, None] - radii[:-1, None, None] * arcs
    return list(np.concatenate([fronts, backs], 1))


def joints(start, lengths, degrees) -> np.ndarray:
    """A chain of bones: each bone's angle is measured from straight down, forwards positive."""
    angles = np.radians(degrees)
    bones = np.stack([np.sin(angles), -np.cos(angles)], 1) * np.asarray(lengths)[:, None]
    return np.vstack([start, np.asarray(start) + np.cumsum(bones, 0)])


def placed(parts: list[Part], at, size: float = 1.0, degrees: float = 0.0) -> list[Part]:
    return [Part(p.tone, p.shade, [turned(q * size, degrees) + at for q in p.polygons]) for p in parts]


def stretched(parts: list[Part], x: float, y: float = 1.0) -> list[Part]:
    return [Part(p.tone, p.shade, [q * (x, y) for q in p.polygons]) for p in parts]


def one(tone: str, polygon, shade: float = 1.0) -> Part:
    return Part(tone, shade, [np.asarray(polygon, float)])


def chance(rng: np.random.Generator, probability: float) -> bool:
    return rng.random() < probability


# --- animals ---------------------------------------------------------------------------------------------


def four_legs(
    rng, *, leg: float, depth: float, thick: float, tuck: float, front: float = 0.42, foot: str = "main", paw=0.0
):
    """Trunk and legs of a walker that faces right: far legs, trunk, near legs. The trunk is one unit long."""
    stride = rng.choice([rng.uniform(0, 8), rng.uniform(12, 26), rng.uniform(30, 48)], p=[0.35, 0.4, 0.25])
    phase = rng.uniform(0, 2 * np.pi)
    behind: list[Part] = []
    before: list[Part] = []
    for side, late in ((0, 0.0), (1, np.pi * rng.uniform(0.6, 1.1))):
        swing = stride * sin(phase + late)
        lift = stride * rng.uniform(0.2, 1.4) * max(0.0, cos(phase + late))
        reach = leg + 0.3 * depth
        fore = joints((front, reach), (reach * 0.45, reach * 0.52), (swing, swing - lift))
        counter = -swing + rng.uniform(-5, 5)
        hind = joints(
            (-0.4, reach), np.array([0.38, 0.34, 0.32]) * reach, (counter + 20, counter - 32 - lift * 0.5, counter + 4)
        )
        shade = 0.68 if side == 0 else 0.94
        pieces = behind if side == 0 else before
        pieces.append(
            Part("main", shade, limb(hind[:2], depth * 0.62, thick * 1.5) + limb(hind[1:], thick * 1.4, thick * 0.85))
        )
        pieces.append(
            Part("main", shade, limb(fore[:2], depth * 0.45, thick * 1.1) + limb(fore[1:], thick * 1.1, thick * 0.85))
        )
        ends = [limb([end, np.add(end, (paw, -0.02))], thick * 1.0, thick * 1.1)[0] for end in (fore[-1], hind[-1])]
        pieces.append(Part(foot, shade, ends))
    low, high = leg, leg + depth
    sag = rng.uniform(-0.04, 0.05)
    trunk = blob(
        (-0.54, low + 0.55 * depth),
        (-0.45, high - 0.03),
        (-0.1, high - sag - 0.02),
        (0.35, high + 0.02),
        (0.56, low + 0.6 * depth),
        (0.42, low + 0.02),
        (0.1, low - 0.01),
        (-0.3, low + tuck),
    )
    return behind, [one("main", trunk)], before


def eye(x: float, y: float, r: float) -> list[Part]:
    return [one("light", oval(x, y, r, r)), one("dark", oval(x + r * 0.2, y, r * 0.65, r * 0.75))]


def horse(rng) -> list[Part]:
    behind, trunk, before = four_legs(rng, leg=0.62, depth=0.44, thick=0.11, tuck=0.1, foot="dark", paw=0.03)
    rise = rng.choice([rng.uniform(35, 65), rng.uniform(-45, -15)], p=[0.7, 0.3])  # head up, or grazing
    base = np.array([0.4, 0.9])
    poll = base + turned([(0.62, 0)], rise)[0]
    middle = (base + poll) / 2 + (-0.02, 0.05)
    neck = limb(bend(base, middle, poll), 0.36, 0.19)
    crest = bend(
        np.add(base, (-0.12, 0.13)), middle + turned([(0.0, 0.12)], rise)[0], poll + turned([(0.05, 0.11)], rise)[0]
    )
    mane = Part("hair", 1.0, limb(crest, 0.13, 0.09))
    swish = rng.uniform(-0.1, 0.35)
    tail = Part(
        "hair",
        0.9,
        limb(bend((-0.5, 0.98), (-0.66 - swish / 2, 0.9), (-0.68 - swish, 0.55), (-0.62 - swish, 0.28)), 0.08, 0.17),
    )
    head = [
        one("main", [(-0.02, 0.16), (0.06, 0.5), (0.16, 0.17)], 0.75),
        one(
            "main",
            blob(
                (-0.15, 0.12),
                (0.12, 0.22),
                (0.75, 0.08),
                (1.0, -0.03),
                (1.02, -0.18),
                (0.85, -0.26),
                (0.45, -0.2),
                (0.1, -0.3),
                (-0.15, -0.2),
            ),
        ),
        one("dark", blob((0.86, 0.0), (1.03, -0.05), (1.02, -0.2), (0.86, -0.25)), 1.3),
        one("main", [(-0.1, 0.14), (-0.04, 0.46), (0.08, 0.18)], 0.95),
        *eye(0.27, 0.06, 0.05),
    ]
    if chance(rng, 0.4):
        head.append(one("light", [(0.35, 0.14), (0.85, 0.04), (0.8, -0.02), (0.4, 0.08)]))
    head = placed(head, poll, 0.46, rise - rng.uniform(70, 95) if rise > 0 else rise - rng.uniform(10, 35))
    return [*behind, tail, *trunk, Part("main", 1.0, neck), mane, *before, *head]


def antler(rng, shade: float) -> Part:
    lean = rng.uniform(-0.1, 0.15)
    beam = bend((0, 0.15), (-0.35 + lean, 0.65), (-0.25 + lean, 1.15), (0.1 + lean, 1.5))
    tines = [limb([beam[k], beam[k] + (0.35, 0.38 - 0.02 * k)], 0.1, 0.05) for k in (3, 6, 9)]
    return Part("horn", shade, limb(beam, 0.14, 0.07) + [piece for tine in tines for piece in tine])


def deer(rng) -> list[Part]:
    behind, trunk, before = four_legs(rng, leg=0.68, depth=0.34, thick=0.066, tuck=0.1, foot="dark", paw=0.02)
    rise = rng.choice([rng.uniform(50, 80), rng.uniform(-50, -20)], p=[0.75, 0.25])
    base = np.array([0.43, 0.9])
    poll = base + turned([(0.5, 0)], rise)[0]
    neck = Part("main", 1.0, limb(bend(base, (base + poll) / 2 + (0.03, 0), poll), 0.26, 0.13))
    scut = [one("light", oval(-0.53, 0.86, 0.07, 0.12, 15)), one("main", oval(-0.57, 0.95, 0.035, 0.09, 30), 0.8)]
    head = [one("main", blob((0.0, 0.1), (-0.2, 0.35), (-0.6, 0.5), (-0.35, 0.1)), 0.7)]
    stag = chance(rng, 0.75)
    if stag:
        head.append(antler(rng, 0.75))
    head += [
        one(
            "main", blob((-0.2, 0.1), (0.1, 0.24), (0.6, 0.08), (0.98, -0.06), (0.95, -0.2), (0.4, -0.25), (-0.1, -0.2))
        ),
        one("dark", oval(0.95, -0.09, 0.1, 0.09)),
        one("light", blob((0.4, -0.16), (0.85, -0.15), (0.8, -0.22), (0.3, -0.24))),
        one("main", blob((-0.05, 0.15), (0.02, 0.42), (-0.22, 0.75), (-0.28, 0.3)), 0.9),
        *eye(0.25, 0.06, 0.07),
    ]
    if stag:
        head += placed([antler(rng, 1.0)], (0.05, 0.05))
    head = placed(head, poll, 0.34, rng.uniform(-30, 5) if rise > 0 else rise)
    spots = []
    if chance(rng, 0.3):
        spots = [
            Part("light", 1.0, [oval(x, y, 0.022, 0.022) for x, y in rng.uniform((-0.4, 0.82), (0.35, 0.98), (9, 2))])
        ]
    return [*behind, *scut[1:], *trunk, scut[0], *spots, neck, *before, *head]


def dog_head(rng, floppy: bool) -> list[Part]:
    long = rng.uniform(0.65, 1.0)
    head = [] if floppy else [one("main", [(-0.15, 0.3), (0.02, 0.78), (0.2, 0.32)], 0.7)]
    if chance(rng, 0.4):
        head.append(one("tongue", blob((long - 0.25, -0.25), (long, -0.3), (long - 0.02, -0.62), (long - 0.18, -0.6))))
    head += [
        one("main", oval(0, 0, 0.44, 0.42)),
        Part("main", 1.0, limb([(0.15, -0.08), (long, -0.17)], 0.55, 0.32)),
        Part("dark", 1.0, limb([(0.35, -0.29), (long, -0.28)], 0.03, 0.03)),
        one("dark", oval(long + 0.12, -0.08, 0.1, 0.09)),
        *eye(0.22, 0.12, 0.08),
    ]
    if floppy:
        head.append(one("second", blob((-0.2, 0.36), (0.02, 0.28), (0.03, -0.2), (-0.16, -0.55), (-0.38, -0.25)), 0.75))
    else:
        head.append(one("main", [(-0.38, 0.2), (-0.3, 0.8), (0.0, 0.36)], 0.9))
    return head


def dog(rng) -> list[Part]:
    pose = rng.choice(["walk", "sit", "front"], p=[0.6, 0.22, 0.18])
    floppy = chance(rng, 0.65)
    if pose == "front":
        return front_sitter(rng, dog_face(rng, floppy), wide=0.9)
    if pose == "sit":
        wag = rng.uniform(0, 50)
        tail = Part(
            "main", 0.85, limb(joints((-0.4, 0.12), (0.2, 0.2, 0.15), (-70 - wag, -95 - wag, -120 - wag)), 0.11, 0.06)
        )
        return [tail, *side_sitter(rng), *placed(dog_head(rng, floppy), (0.2, 1.12), 0.44, rng.uniform(-15, 25))]
    behind, trunk, before = four_legs(rng, leg=rng.uniform(0.3, 0.52), depth=0.36, thick=0.11, tuck=0.12, paw=0.06)
    top = trunk[0].polygons[0][:, 1].max()
    curl = rng.uniform(-30, 60)
    tail = Part(
        "main",
        0.9,
        limb(joints((-0.48, top - 0.08), (0.2, 0.17, 0.15), (-115 - curl / 2, -140 - curl, -165 - curl)), 0.12, 0.06),
    )
    rise = rng.uniform(15, 60)
    base = np.array([0.42, top - 0.14])
    poll = base + turned([(0.32, 0)], rise)[0]
    neck = Part("main", 1.0, limb([base, poll], 0.34, 0.25))
    collar = [
        Part(
            "band",
            1.0,
            limb([base + (poll - base) * 0.55 + turned([(0, s * 0.14)], rise)[0] for s in (-1, 1)], 0.06, 0.06),
        )
    ]
    head = placed(dog_head(rng, floppy), np.add(poll, (0.05, 0.05)), 0.4, rng.uniform(-20, 15))
    return [*behind, tail, *trunk, neck, *(collar if chance(rng, 0.4) else []), *before, *head]


def cat_head(rng) -> list[Part]:
    return [
        one("main", [(-0.12, 0.35), (0.08, 0.92), (0.3, 0.36)], 0.7),
        one("main", oval(0, 0, 0.52, 0.47)),
        one("light", oval(0.38, -0.16, 0.2, 0.17)),
        one("tongue", oval(0.56, -0.08, 0.06, 0.05)),
        one("main", [(-0.45, 0.2), (-0.36, 0.9), (0.02, 0.44)]),
        one("tongue", [(-0.34, 0.35), (-0.32, 0.7), (-0.12, 0.42)], 0.8),
        one("eyes", oval(0.24, 0.1, 0.12, 0.1)),
        one("dark", oval(0.27, 0.1, 0.035, 0.1)),
        Part("light", 0.9, [w for y in (-0.04, -0.2, -0.34) for w in limb([(0.4, -0.15), (0.95, y)], 0.02, 0.02)]),
    ]


def stripes(rng, box) -> Part:
    """Tabby bands inside a box (x0, x1, y0, y1) of the trunk."""
    x0, x1, y0, y1 = box
    at = np.linspace(x0, x1, 6) + rng.uniform(-0.03, 0.03, 6)
    return Part(
        "main", 0.55, [q for x in at for q in limb([(x, y1), (x + 0.05, rng.uniform(y0, (y0 + y1) / 2))], 0.06, 0.015)]
    )


def cat(rng) -> list[Part]:
    pose = rng.choice(["walk", "sit", "front"], p=[0.5, 0.28, 0.22])
    tabby = chance(rng, 0.5)
    if pose == "front":
        return front_sitter(rng, cat_face(rng), wide=0.75, tail=True)
    if pose == "sit":
        flip = rng.uniform(-0.15, 0.3)
        tail = Part(
            "main",
            0.85,
            limb(bend((-0.35, 0.1), (-0.7, 0.06 + flip / 3), (-0.9, 0.25 + flip), (-0.75, 0.45 + flip)), 0.1, 0.08),
        )
        marks = [stripes(rng, (-0.3, 0.05, 0.45, 0.75))] if tabby else []
        return [tail, *side_sitter(rng), *marks, *placed(cat_head(rng), (0.18, 1.06), 0.46, rng.uniform(-15, 15))]
    behind, trunk, before = four_legs(rng, leg=rng.uniform(0.26, 0.36), depth=0.3, thick=0.095, tuck=0.04, paw=0.05)
    top = trunk[0].polygons[0][:, 1].max()
    lift, hook = rng.uniform(0.05, 0.65), rng.uniform(-0.2, 0.2)
    tail = Part(
        "main",
        0.9,
        limb(
            bend((-0.48, top - 0.07), (-0.7, top + lift * 0.15), (-0.82, top + lift * 0.6), (-0.78 + hook, top + lift)),
            0.1,
            0.075,
        ),
    )
    marks = [stripes(rng, (-0.4, 0.3, top - 0.2, top - 0.03))] if tabby else []
    head_at = np.array([0.62, top + rng.uniform(-0.12, 0.14)])
    neck = Part("main", 1.0, limb([(0.42, top - 0.14), head_at], 0.26, 0.22))
    return [*behind, tail, *trunk, *marks, neck, *before, *placed(cat_head(rng), head_at, 0.42, rng.uniform(-20, 12))]


def side_sitter(rng) -> list[Part]:
    lean = rng.uniform(-0.06, 0.06)
    return [
        Part("main", 0.7, limb([(0.15, 0.6), (0.3 + lean, 0.04)], 0.18, 0.1)),
        one(
            "main",
            blob(
                (-0.42, 0.04),
                (-0.5, 0.3),
                (-0.28, 0.72),
                (0.0, 1.05),
                (0.28, 1.0),
                (0.32, 0.68),
                (0.18, 0.3),
                (0.05, 0.03),
            ),
        ),
        one("main", blob((-0.42, 0.02), (-0.44, 0.3), (-0.15, 0.45), (0.08, 0.22), (0.0, 0.02)), 0.88),
        Part("main", 0.88, limb([(-0.1, 0.05), (0.18, 0.04)], 0.1, 0.1)),
        Part("main", 0.95, limb([(0.2, 0.65), (0.22 + lean, 0.05), (0.3 + lean, 0.04)], 0.2, 0.1)),
    ]


def front_sitter(rng, face: list[Part], *, wide: float, tail: bool = False) -> list[Part]:
    """Sitting towards us: haunches, chest, two front legs, a face on top that may tilt and turn."""
    parts = []
    if tail:
        way = rng.choice([-1.0, 1.0])
        parts.append(
            Part(
                "main",
                0.75,
                limb(bend((way * 0.3, 0.1), (way * 0.65, 0.1), (way * 0.72, 0.35), (way * 0.6, 0.55)), 0.1, 0.08),
            )
        )
    parts += [
        one(
            "main",
            blob(
                (-0.42 * wide, 0.03),
                (-0.5 * wide, 0.25),
                (-0.3, 0.6),
                (-0.2, 1.0),
                (0.2, 1.0),
                (0.3, 0.6),
                (0.5 * wide, 0.25),
                (0.42 * wide, 0.03),
            ),
            0.85,
        ),
        one("second", blob((-0.13, 0.9), (0.13, 0.9), (0.15, 0.6), (0.0, 0.4), (-0.15, 0.6))),
        Part(
            "main", 1.0, limb([(-0.14, 0.6), (-0.14, 0.05)], 0.16, 0.15) + limb([(0.14, 0.6), (0.14, 0.05)], 0.16, 0.15)
        ),
        one("main", oval(-0.4 * wide, 0.06, 0.14, 0.06), 0.95),
        one("main", oval(0.4 * wide, 0.06, 0.14, 0.06), 0.95),
    ]
    return parts + placed(
        stretched(face, rng.uniform(0.85, 1.0)),
        (rng.uniform(-0.06, 0.06), 1.18),
        rng.uniform(0.4, 0.52),
        rng.uniform(-18, 18),
    )


def pair(make: Callable[[float], list[Part]]) -> list[Part]:
    return make(-1.0) + make(1.0)


def cat_face(rng) -> list[Part]:
    whiskers = [
        w for s in (-1, 1) for y in (-0.1, -0.25, -0.4) for w in limb([(s * 0.15, -0.25), (s * 1.0, y)], 0.025, 0.02)
    ]
    return [
        *pair(lambda s: [one("main", [(s * 0.8, 0.15), (s * 0.72, 1.1), (s * 0.12, 0.55)])]),
        *pair(lambda s: [one("tongue", [(s * 0.68, 0.4), (s * 0.64, 0.86), (s * 0.3, 0.56)], 0.8)]),
        one("main", oval(0, 0, 0.85, 0.68)),
        one("light", oval(0, -0.32, 0.34, 0.22)),
        *pair(lambda s: [one("eyes", oval(s * 0.36, 0.1, 0.19, 0.15)), one("dark", oval(s * 0.36, 0.1, 0.06, 0.15))]),
        one("tongue", [(-0.1, -0.15), (0.1, -0.15), (0, -0.28)]),
        Part("light", 0.95, whiskers),
    ]


def dog_face(rng, floppy: bool) -> list[Part]:
    def ear(s: float) -> list[Part]:
        if floppy:
            return [
                one(
                    "second",
                    blob((s * 0.4, 0.6), (s * 0.75, 0.5), (s * 0.95, -0.1), (s * 0.8, -0.5), (s * 0.6, -0.2)),
                    0.75,
                )
            ]
        return [one("main", [(s * 0.6, 0.2), (s * 0.62, 1.0), (s * 0.15, 0.55)], 0.8)]

    return [
        *(pair(ear) if not floppy else []),
        one(
            "main",
            blob(
                (-0.5, 0.5), (0, 0.65), (0.5, 0.5), (0.65, 0.1), (0.42, -0.45), (0, -0.65), (-0.42, -0.45), (-0.65, 0.1)
            ),
        ),
        *([one("tongue", blob((-0.12, -0.5), (0.12, -0.5), (0.13, -0.9), (-0.1, -0.9)))] if chance(rng, 0.5) else []),
        one("light", oval(0, -0.34, 0.33, 0.28)),
        one("dark", oval(0, -0.2, 0.17, 0.12)),
        Part("dark", 1.0, limb([(-0.16, -0.5), (0, -0.42), (0.16, -0.5)], 0.04, 0.04)),
        *pair(lambda s: eye(s * 0.28, 0.14, 0.12)),
        *(pair(ear) if floppy else []),
    ]


def monkey_face(rng) -> list[Part]:
    return [
        *pair(
            lambda s: [
                one("main", oval(s * 0.85, 0.05, 0.27, 0.3), 0.85),
                one("skin", oval(s * 0.87, 0.03, 0.15, 0.18)),
            ]
        ),
        one("main", oval(0, 0.05, 0.78, 0.75)),
        one("skin", oval(-0.27, 0.12, 0.32, 0.3)),
        one("skin", oval(0.27, 0.12, 0.32, 0.3)),
        one("skin", oval(0, -0.32, 0.5, 0.36)),
        *pair(lambda s: eye(s * 0.25, 0.14, 0.11)),
        Part(
            "dark",
            1.0,
            [
                oval(-0.08, -0.17, 0.05, 0.04),
                oval(0.08, -0.17, 0.05, 0.04),
                *limb(bend((-0.25, -0.38), (0, -0.46), (0.25, -0.38)), 0.05, 0.05),
            ],
        ),
    ]


def monkey_head(rng) -> list[Part]:
    """From the side: a round skull, a bare face pushed forwards, one round ear."""
    return [
        one("main", oval(0, 0.05, 0.75, 0.75)),
        one("skin", oval(0.48, 0.1, 0.28, 0.38)),
        one("skin", oval(0.62, -0.25, 0.36, 0.32)),
        Part("dark", 1.0, limb([(0.6, -0.38), (0.93, -0.32)], 0.05, 0.05)),
        *eye(0.52, 0.15, 0.11),
        one("main", oval(-0.2, 0.05, 0.25, 0.27), 0.75),
        one("skin", oval(-0.18, 0.04, 0.15, 0.17)),
    ]


def curly_tail(rng, at, away: float = 1.0) -> Part:
    """A long tail that runs away from the body and rolls up at its end."""
    x, y = at
    high = rng.uniform(0.15, 0.9)
    turn = np.linspace(0, 1.5 * np.pi, 6)
    roll = np.stack([-0.16 * np.cos(turn), 0.16 * np.sin(turn)], 1) * np.linspace(1, 0.5, 6)[:, None]
    path = np.vstack([[(0, 0), (-0.28, 0.02), (-0.55, high * 0.5)], np.add(roll, (-0.5, high))]) * (away, 1) + (x, y)
    return Part("main", 0.85, limb(bend(*path), 0.08, 0.055))


def monkey(rng) -> list[Part]:
    pose = rng.choice(["sit", "front", "hang", "walk"], p=[0.3, 0.2, 0.28, 0.22])
    if pose == "walk":
        behind, trunk, before = four_legs(rng, leg=0.42, depth=0.28, thick=0.1, tuck=0.05, foot="skin", paw=0.06)
        head = placed(monkey_head(rng), (0.62, rng.uniform(0.66, 0.88)), 0.25, rng.uniform(-15, 15))
        return [*behind, curly_tail(rng, (-0.48, 0.62)), *trunk, *before, *head]
    if pose == "front":
        return monkey_front(rng)
    if pose == "hang":
        return monkey_hanging(rng)
    raised = chance(rng, 0.5)
    arm = (25, 150) if raised else (20, rng.uniform(-10, 60))
    near = joints((0.08, 0.86), (0.38, 0.36), arm)
    far = joints((0.12, 0.86), (0.38, 0.38), (rng.uniform(20, 50), rng.uniform(10, 80)))
    leg = [(-0.15, 0.2), (0.25, rng.uniform(0.45, 0.6)), (0.28, 0.06), (0.42, 0.04)]
    return [
        curly_tail(rng, (-0.3, 0.15)),
        Part("main", 0.68, limb([(x + 0.1, y) for x, y in leg], 0.22, 0.11) + limb(far, 0.15, 0.1)),
        one(
            "main",
            blob((-0.32, 0.03), (-0.42, 0.35), (-0.25, 0.85), (0.05, 1.02), (0.22, 0.8), (0.2, 0.4), (0.12, 0.04)),
        ),
        one("second", blob((0.05, 0.8), (0.2, 0.75), (0.19, 0.4), (0.08, 0.2), (0.02, 0.5))),
        Part("main", 0.92, limb(leg[:3], 0.24, 0.11)),
        Part("skin", 0.9, limb(leg[2:], 0.1, 0.08)),
        *placed(monkey_head(rng), (0.12, 1.16), 0.31, rng.uniform(-15, 20)),
        Part("main", 0.95, limb(near, 0.17, 0.11)),
        one("skin", spot(near[-1], 0.07, 0.07), 0.9),
    ]


def monkey_front(rng) -> list[Part]:
    def knees(s: float) -> list[Part]:
        return [
            Part(
                "main", 0.9, limb([(s * 0.15, 0.15), (s * rng.uniform(0.42, 0.55), 0.4), (s * 0.42, 0.05)], 0.2, 0.12)
            ),
            one("skin", oval(s * 0.45, 0.04, 0.12, 0.05)),
        ]

    def arm(s: float) -> list[Part]:
        chain = joints((s * 0.26, 0.82), (0.36, 0.34), (s * rng.uniform(10, 60), s * rng.choice([-40.0, 20.0, 130.0])))
        return [Part("main", 0.95, limb(chain, 0.15, 0.1)), one("skin", spot(chain[-1], 0.07, 0.07))]

    body = [
        one(
            "main",
            blob((-0.3, 0.02), (-0.36, 0.35), (-0.28, 0.85), (0, 1.0), (0.28, 0.85), (0.36, 0.35), (0.3, 0.02)),
            0.92,
        ),
        one("second", oval(0, 0.45, 0.2, 0.33)),
    ]
    face = placed(monkey_face(rng), (0, 1.14), rng.uniform(0.33, 0.4), rng.uniform(-15, 15))
    return [curly_tail(rng, (-0.2, 0.1)), *body, *pair(knees), *face, *pair(arm)]


def monkey_hanging(rng) -> list[Part]:
    swing = rng.uniform(-22, 22)
    arm = joints((0.05, 1.0), (0.42, 0.42), (180 - rng.uniform(-5, 25), 180 + rng.uniform(-5, 25)))
    other = joints((-0.05, 0.98), (0.38, 0.36), (rng.uniform(-60, 100), rng.uniform(-20, 160)))
    legs = [joints((x, 0.35), (0.36, 0.34), (rng.uniform(-15, 70), rng.uniform(-60, 20))) for x in (-0.08, 0.08)]
    body = [
        curly_tail(rng, (-0.1, 0.32)),
        Part("main", 0.7, limb(legs[0], 0.2, 0.11) + limb(other, 0.15, 0.1)),
        one("skin", spot(legs[0][-1], 0.09, 0.07), 0.8),
        one("main", blob((-0.2, 0.25), (-0.25, 0.65), (-0.16, 1.02), (0.12, 1.05), (0.22, 0.65), (0.16, 0.25))),
        one("second", oval(0.05, 0.62, 0.12, 0.26)),
        Part("main", 0.92, limb(legs[1], 0.22, 0.11) + limb(arm, 0.17, 0.1)),
        Part("skin", 0.95, [spot(legs[1][-1], 0.09, 0.07), spot(arm[-1], 0.08, 0.08), spot(other[-1], 0.07, 0.07)]),
        *placed(
            monkey_face(rng) if chance(rng, 0.5) else monkey_head(rng),
            (-0.02 + 0.1 * rng.uniform(-1, 1), 1.2),
            0.28,
            -swing,
        ),
    ]
    slope = rng.uniform(-0.15, 0.15)
    branch = Part("prop", 1.0, limb(turned([(-4, -slope * 4), (0, 0), (4, slope * 4)], -swing) + arm[-1], 0.2, 0.12))
    return placed([branch, *body], (0, 0), 1.0, swing)


def wing(rng, *, length: float, root: float, degrees: float, tone: str, shade: float) -> list[Part]:
    """A feathered wing from the origin outwards: arched leading edge, scalloped trailing edge. Up is 90 degrees."""
    fold = rng.uniform(-0.15, 0.15)
    lead = bend((root * 0.6, 0), (root * 0.75, length * 0.45), (root * 0.2 + fold, length))
    along = np.linspace(1, 0, 7)
    trail = np.stack(
        [-root * (0.25 + 0.75 * np.sin(np.pi * (0.15 + 0.65 * (1 - along)))) + fold * along, length * along], 1
    )
    notches = trail[:-1] * (0.72, 1) + (0, -0.04 * length)
    edge = np.stack([trail[:-1], notches], 1).reshape(-1, 2)
    cover = np.vstack([lead[: len(lead) * 3 // 4], [(-root * 0.15, length * 0.55), (-root * 0.35, 0.05 * length)]])
    parts = [one(tone, np.vstack([lead, edge, [(-root * 0.6, 0)]]), shade), one("main", cover, shade)]
    return [Part(p.tone, p.shade, [turned(q, degrees - 90) for q in p.polygons]) for p in parts]


def bird(rng) -> list[Part]:
    pose = rng.choice(["fly", "soar", "perch", "wade"], p=[0.3, 0.22, 0.3, 0.18])
    return {"fly": bird_flying, "soar": bird_soaring, "perch": bird_perched, "wade": bird_wading}[pose](rng)


def bird_flying(rng) -> list[Part]:
    lift = rng.choice([rng.uniform(60, 125), rng.uniform(-120, -70)], p=[0.65, 0.35])
    size = {"length": rng.uniform(0.75, 1.05), "root": rng.uniform(0.28, 0.36)}
    tone = rng.choice(["main", "second"])
    return [
        *placed(wing(rng, degrees=lift - rng.uniform(10, 35), tone=tone, shade=0.65, **size), (0.1, 0.06)),
        one("main", [(-0.45, 0.06), (-0.95, 0.16), (-0.98, 0.02), (-0.94, -0.1), (-0.45, -0.06)], 0.8),
        one("main", blob((-0.6, 0.02), (-0.1, 0.17), (0.4, 0.16), (0.62, 0.1), (0.4, -0.12), (-0.1, -0.17))),
        one("beak", [(0.66, 0.13), (0.9, 0.04), (0.66, 0.0)]),
        one("main", oval(0.55, 0.08, 0.16, 0.15)),
        one("dark", oval(0.6, 0.12, 0.03, 0.03)),
        *placed(wing(rng, degrees=lift, tone=tone, shade=0.92, **size), (0.05, 0.02)),
    ]


def bird_soaring(rng) -> list[Part]:
    """Seen from below or from the front, both wings out."""
    sweep, length = rng.uniform(-5, 30), rng.uniform(0.9, 1.2)
    tone = rng.choice(["main", "second"])
    half = wing(rng, length=length, root=0.26, degrees=90, tone=tone, shade=0.9)
    right = [
        Part(p.tone, p.shade, [np.add(turned(q[:, ::-1], -sweep), (0.08, 0.12)) for q in p.polygons]) for p in half
    ]
    body = [
        one(
            "main",
            [(-0.07, -0.3), (-0.2, -0.75), (-0.1, -0.7), (0, -0.78), (0.1, -0.7), (0.2, -0.75), (0.07, -0.3)],
            0.8,
        ),
        one("main", blob((0, -0.45), (-0.14, -0.1), (-0.12, 0.25), (0, 0.45), (0.12, 0.25), (0.14, -0.1))),
        one("beak", [(-0.05, 0.5), (0, 0.68), (0.05, 0.5)]),
        one("main", oval(0, 0.42, 0.1, 0.13)),
    ]
    return placed([*right, *stretched(right, -1.0), *body], (0, 0), 1.0, rng.uniform(-70, 70))


def bird_perched(rng) -> list[Part]:
    tilt = rng.uniform(5, 45)
    body = [
        one("second", [(-0.35, 0.08), (-1.0, 0.02), (-1.0, -0.12), (-0.35, -0.1)], 0.8),
        one(
            "main",
            blob((-0.5, 0.0), (-0.2, 0.22), (0.2, 0.27), (0.48, 0.18), (0.45, -0.1), (0.15, -0.27), (-0.2, -0.18)),
        ),
        one("light", blob((0.46, 0.02), (0.4, -0.14), (0.15, -0.25), (0.0, -0.2), (0.25, 0.0)), 0.95),
        one("second", blob((0.22, 0.14), (-0.1, 0.16), (-0.62, 0.0), (-0.3, -0.1), (0.1, -0.1)), 0.85),
    ]
    head = [
        one("beak", [(0.15, 0.08), (rng.uniform(0.36, 0.5), -0.02), (0.15, -0.08)]),
        one("main", oval(0, 0, 0.22, 0.21)),
        one("dark", oval(0.07, 0.05, 0.04, 0.04)),
    ]
    at = turned([(0.42, 0.24)], tilt)[0] + (0, 0.45)
    legs = Part(
        "beak",
        0.8,
        limb([(0.0, 0.3), (0.04, 0.0), (0.14, -0.01)], 0.045, 0.04)
        + limb([(0.12, 0.3), (0.14, 0.0), (0.24, -0.01)], 0.045, 0.04),
    )
    parts = [legs, *placed(body, (0, 0.45), 1.0, tilt), *placed(head, at, 1.0, rng.uniform(-15, 15))]
    if chance(rng, 0.5):
        slope = rng.uniform(-0.5, 0.5)
        parts.insert(0, Part("prop", 1.0, limb([(-4, -0.08 - slope), (0.1, -0.08), (4, -0.08 + slope)], 0.16, 0.12)))
    return parts


def bird_wading(rng) -> list[Part]:
    reach = rng.uniform(-0.1, 0.15)
    legs = [joints((x, 0.75), (0.36, 0.38), (rng.uniform(-20, 20), rng.uniform(-12, 8))) for x in (-0.06, 0.06)]
    neck = bend((0.3, 0.92), (0.52, 1.05), (0.42 + reach, 1.3), (0.52 + reach, 1.5))
    top = neck[-1]
    return [
        Part("beak", 0.7, limb(legs[0], 0.05, 0.04)),
        Part("beak", 0.95, limb(legs[1], 0.05, 0.04)),
        Part("beak", 0.9, [q for leg in legs for q in limb([leg[-1], leg[-1] + (0.12, -0.01)], 0.04, 0.03)]),
        one("main", blob((-0.72, 0.66), (-0.3, 0.95), (0.15, 1.02), (0.4, 0.92), (0.2, 0.72), (-0.2, 0.66))),
        Part("main", 1.0, limb(neck, 0.16, 0.1)),
        one("second", blob((0.15, 0.95), (-0.25, 0.92), (-0.75, 0.64), (-0.3, 0.72), (0.1, 0.78)), 0.85),
        one("beak", np.add(top, [(0.05, 0.06), (0.48, -0.08), (0.05, -0.05)])),
        one("main", spot(top, 0.12, 0.1)),
        one("dark", oval(top[0] + 0.03, top[1] + 0.03, 0.025, 0.025)),
    ]


# --- vehicles: small solids, x forwards, y up, z towards us ----------------------------------------------


class View:
    """Looks at a solid: turns points, keeps the faces that we see, shades them by the way they face."""

    def __init__(self, yaw: float, pitch: float, roll: float = 0.0, climb: float = 0.0):
        self.turn = _about(0, pitch) @ _about(1, yaw) @ _about(2, climb) @ _about(0, roll)

    def flat(self, points) -> np.ndarray:
        return (np.asarray(points, float) @ self.turn.T)[:, :2]

    def depth(self, point) -> float:
        return float(np.asarray(point, float) @ self.turn[2])

    def shade(self, normal) -> float:
        facing = self.turn @ normal
        return 0.72 + 0.2 * facing[1] + 0.16 * facing[2]

    def sees(self, normal) -> bool:
        return float(self.turn[2] @ normal) > 0.03

    def decal(self, tone: str, points, normal, shade: float = 1.0) -> list[Part]:
        """Something flat on a face; nothing when the face looks away."""
        return [one(tone, self.flat(points), shade)] if self.sees(np.asarray(normal, float)) else []

    def solid(self, left, right, tones: dict[int, str] | None = None, tone: str = "main") -> list[Part]:
        """Two outlines [K, 3] joined edge by edge, and both ends; `tones` names edges that differ."""
        left, right = np.asarray(left, float), np.asarray(right, float)
        middle = (left.mean(0) + right.mean(0)) / 2
        loops = [np.stack([left[k], left[k - 1], right[k - 1], right[k]]) for k in range(len(left))] + [left, right]
        faces = []
        for k, loop in enumerate(loops):
            normal = cross(loop[1] - loop[0], loop[2] - loop[0])
            size = sqrt(normal @ normal)
            if size < 1e-9:
                continue
            normal = normal / size if normal @ (loop.mean(0) - middle) > 0 else -normal / size
            if self.sees(normal):
                faces.append(
                    (self.depth(loop.mean(0)), one((tones or {}).get(k, tone), self.flat(loop), self.shade(normal)))
                )
        return [part for _, part in sorted(faces, key=lambda face: face[0])]

    def box(self, x, y, z, tone: str = "main") -> list[Part]:
        (x0, x1), (y0, y1), (z0, z1) = x, y, z
        rim = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        return self.solid([(*p, z0) for p in rim], [(*p, z1) for p in rim], tone=tone)

    def wheel(self, x: float, r: float, z: float) -> list[Part]:
        ring = np.column_stack([CIRCLE * r + (x, r), np.full(len(CIRCLE), z)])
        inner = np.column_stack([CIRCLE * r * 0.55 + (x, r), np.full(len(CIRCLE), z)])
        back = ring - (0, 0, np.sign(z) * r * 0.6)
        tyre = Part("tyre", 1.0, [self.flat(back), self.flat(ring), self.flat(np.vstack([back[:7], ring[6::-1]]))])
        return [tyre, *self.decal("hub", inner, (0, 0, np.sign(z)))]


def cross(a, b) -> np.ndarray:
    """As np.cross, without its care for other shapes: ten times as fast."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _about(axis: int, degrees: float) -> np.ndarray:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    turn = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return turn


def road_view(rng, most: float = 62) -> View:
    return View(rng.uniform(-most, most) + rng.choice([0, 180]), rng.uniform(3, 20))


def sides(points, half: float):
    """A side's outline at both sides of the car: (z sign, [K, 3])."""
    return [(s, np.array([(x, y, s * half) for x, y in points])) for s in (-1, 1)]


def far_then_near(view: View) -> tuple[int, int]:
    return (-1, 1) if view.sees(np.array([0, 0, 1.0])) else (1, -1)


def car(rng) -> list[Part]:
    view = road_view(rng)
    kind = rng.choice(["saloon", "hatch", "estate", "coupe"])
    bonnet, roof = rng.uniform(0.5, 0.58), rng.uniform(0.82, 0.95)
    rear = {"saloon": -0.5, "hatch": -0.82, "estate": -0.9, "coupe": -0.55}[kind]
    deck = 0.6 if kind in ("saloon", "coupe") else 0.56
    back_foot = {"saloon": -0.68, "hatch": -0.94, "estate": -0.95, "coupe": -0.85}[kind]
    screen = rng.uniform(0.36, 0.46)
    profile = [
        (-0.98, 0.18),
        (0.98, 0.18),
        (1.0, 0.42),
        (screen + 0.08, bonnet + 0.03),
        (0.1, roof),
        (rear + 0.1, roof),
        (back_foot, deck),
        (-1.0, deck - 0.05),
    ]
    half = 0.42

    def outline(s):
        return [(x, y, s * half * (1 - 0.28 * max(0.0, (y - 0.6) / 0.35))) for x, y in profile]

    parts = []
    far, near = far_then_near(view)
    for x in (-0.58, 0.6):
        parts += view.wheel(x, 0.2, far * half * 0.95)
    parts += view.solid(outline(-1), outline(1), {4: "glass", 6: "glass"})
    pillar = (rear + screen) / 2 - 0.05
    window = [
        (pillar + 0.03, roof - 0.06),
        (0.08, roof - 0.06),
        (screen - 0.04, bonnet + 0.06),
        (pillar + 0.03, bonnet + 0.06),
    ]
    window2 = [
        (rear + 0.14, roof - 0.06),
        (pillar - 0.03, roof - 0.06),
        (pillar - 0.03, bonnet + 0.06),
        (back_foot + 0.14, bonnet + 0.06),
    ]
    for s in (-1, 1):
        out = (0, 0, s)
        for pane in (window, window2):
            view_pane = [(x, y, s * half * (1 - 0.28 * max(0.0, (y - 0.6) / 0.35))) for x, y in pane]
            parts += view.decal("glass", view_pane, out)
        if kind == "coupe":
            parts += view.decal(
                "second",
                [(-0.98, 0.38, s * half), (0.98, 0.34, s * half), (0.98, 0.4, s * half), (-0.98, 0.46, s * half)],
                out,
            )
        parts += view.decal(
            "dark",
            [
                (pillar, 0.24, s * half),
                (pillar + 0.02, 0.24, s * half),
                (pillar + 0.02, bonnet, s * half),
                (pillar, bonnet, s * half),
            ],
            out,
        )
        z = s * half
        parts += view.decal(
            "lamp",
            [(0.99, 0.33, z * 0.9), (0.99, 0.33, z * 0.5), (0.99, 0.42, z * 0.5), (0.99, 0.42, z * 0.9)],
            (1, 0, 0),
        )
        parts += view.decal(
            "tail",
            [(-0.99, 0.36, z * 0.95), (-0.99, 0.36, z * 0.6), (-0.99, 0.48, z * 0.6), (-0.99, 0.48, z * 0.95)],
            (-1, 0, 0),
        )
    parts += view.decal("dark", [(0.99, 0.2, -0.25), (0.99, 0.2, 0.25), (1.0, 0.3, 0.25), (1.0, 0.3, -0.25)], (1, 0, 0))
    for x in (-0.58, 0.6):
        parts += view.wheel(x, 0.2, near * half)
    return parts


def truck(rng) -> list[Part]:
    view = road_view(rng, 55)
    kind = rng.choice(["box", "semi", "tank", "tipper"], p=[0.35, 0.3, 0.15, 0.2])
    length = {
        "box": rng.uniform(1.1, 1.5),
        "semi": rng.uniform(1.7, 2.2),
        "tank": rng.uniform(1.3, 1.8),
        "tipper": rng.uniform(1.0, 1.3),
    }[kind]
    half, high = 0.38, rng.uniform(0.95, 1.15)
    nose = chance(rng, 0.35)  # a bonnet in front of the cab
    far, near = far_then_near(view)
    axles = [
        0.42,
        -0.12 - length * 0.75,
        *([-0.12 - length * 0.75 - 0.4] if length > 1.2 else []),
        *([-0.05] if kind == "semi" else []),
    ]
    parts = [part for x in axles for part in view.wheel(x, 0.2, far * half)]
    parts += view.box((-0.1 - length, 0.65), (0.2, 0.32), (-half * 0.8, half * 0.8), "dark")
    tall = rng.uniform(0.85, 1.05) if kind != "box" else high * 0.88
    rim = [(0.1, 0.22), (0.78, 0.22), (0.8, 0.55), (0.7, tall), (0.1, tall)]
    if nose:
        rim = [(0.1, 0.22), (1.05, 0.22), (1.05, 0.55), (0.68, 0.6), (0.6, tall), (0.1, tall)]
    front = rim[1][0]
    glass_edge = 3 + nose
    cab = view.solid(
        [(x, y, -half * 0.95) for x, y in rim], [(x, y, half * 0.95) for x, y in rim], {glass_edge: "glass"}
    )
    for s in (-1, 1):
        z = s * half * 0.95
        cab += view.decal(
            "glass",
            [
                (0.3, 0.58, z),
                (rim[glass_edge][0] - 0.06, 0.58, z),
                (rim[glass_edge][0] - 0.1, tall - 0.1, z),
                (0.3, tall - 0.1, z),
            ],
            (0, 0, s),
        )
        cab += view.decal(
            "dark", [(0.26, 0.25, z), (0.28, 0.25, z), (0.28, tall - 0.08, z), (0.26, tall - 0.08, z)], (0, 0, s)
        )
        cab += view.decal(
            "lamp",
            [(front, 0.28, z * 0.95), (front, 0.28, z * 0.6), (front, 0.4, z * 0.6), (front, 0.4, z * 0.95)],
            (1, 0, 0),
        )
    cab += view.decal(
        "dark", [(front, 0.28, -0.18), (front, 0.28, 0.18), (front, 0.46, 0.18), (front, 0.46, -0.18)], (1, 0, 0)
    )
    load = truck_load(rng, view, kind, length, half, high)
    parts += load + cab if view.depth((1, 0, 0)) > 0 else cab + load
    return parts + [part for x in axles for part in view.wheel(x, 0.2, near * half)]


def truck_load(rng, view: View, kind: str, length: float, half: float, high: float) -> list[Part]:
    x0, x1 = -0.12 - length, 0.02
    if kind == "tank":
        ring = np.column_stack([CIRCLE[:, 1] * 0.33 + 0.66, CIRCLE[:, 0] * half])  # y, z
        return view.solid([(x0, *p) for p in ring], [(x1, *p) for p in ring], tone="second")
    if kind == "tipper":
        rim = [(x0, 0.75), (x0 + 0.25, 0.34), (x1, 0.34), (x1, 0.85)]
        heap = one(
            "prop",
            view.flat([(x0 + 0.1, 0.75, 0), ((x0 + x1) / 2, rng.uniform(0.95, 1.1), 0), (x1 - 0.05, 0.82, 0)]),
            1.0,
        )
        heap = Part("soil", 0.9, heap.polygons)
        return [heap, *view.solid([(x, y, -half) for x, y in rim], [(x, y, half) for x, y in rim], tone="second")]
    parts = view.box((x0, x1), (0.34, high), (-half, half), "second")
    ribs = np.linspace(x0, x1, 8)[1:-1]
    for s in (-1, 1):
        z = s * half
        if chance(rng, 0.5):
            parts += view.decal("band", [(x0, 0.55, z), (x1, 0.55, z), (x1, 0.75, z), (x0, 0.75, z)], (0, 0, s))
        for x in ribs:
            parts += view.decal(
                "second", [(x, 0.36, z), (x + 0.02, 0.36, z), (x + 0.02, high, z), (x, high, z)], (0, 0, s), 0.62
            )
    return parts + view.decal(
        "dark", [(x0, 0.36, -0.01), (x0, 0.36, 0.01), (x0, high, 0.01), (x0, high, -0.01)], (-1, 0, 0)
    )


def hull(view: View, half: float, deck: float, bow: float) -> list[Part]:
    """A boat's hull: a pointed deck above a shorter waterline."""
    plan = np.array(
        [
            (-1.0, -0.8),
            (-0.6, -1.0),
            (0.3, -1.0),
            (0.75, -0.6),
            (1.0, 0.0),
            (0.75, 0.6),
            (0.3, 1.0),
            (-0.6, 1.0),
            (-1.0, 0.8),
        ]
    )
    sheer = deck * (1 + bow * np.clip(plan[:, 0], 0, 1) ** 2)
    top = np.column_stack([plan[:, 0] * 1.05, sheer, plan[:, 1] * half])
    water = np.column_stack([plan[:, 0] * 0.9 - 0.03, np.zeros(9), plan[:, 1] * half * 0.8])
    line = water + (top - water) * 0.35
    return view.solid(water, line, {9: "band", 10: "band"}, tone="band") + view.solid(
        line, top, {9: "main", 10: "deck"}
    )


def ship(rng) -> list[Part]:
    view = View(rng.uniform(-55, 55) + rng.choice([0, 180]), rng.uniform(3, 16))
    kind = rng.choice(["cargo", "liner", "sail", "trawler"], p=[0.28, 0.27, 0.28, 0.17])
    return {"cargo": cargo_ship, "liner": liner, "sail": sailing_boat, "trawler": trawler}[kind](rng, view)


def by_depth(view: View, groups: list[tuple[float, list[Part]]]) -> list[Part]:
    """Groups of parts at places x along the ship, the farthest first."""
    return [part for _, parts in sorted(groups, key=lambda group: view.depth((group[0], 0, 0))) for part in parts]


def portholes(view: View, x, y: float, half: float, tone: str = "glass") -> list[Part]:
    parts = []
    for s in (-1, 1):
        for at in x:
            parts += view.decal(
                tone,
                [
                    (at, y, s * half),
                    (at + 0.06, y, s * half),
                    (at + 0.06, y + 0.05, s * half),
                    (at, y + 0.05, s * half),
                ],
                (0, 0, s),
            )
    return parts


def cargo_ship(rng, view: View) -> list[Part]:
    bridge = view.box((-0.9, -0.62), (0.3, rng.uniform(0.72, 0.9)), (-0.2, 0.2), "light") + portholes(
        view, np.linspace(-0.87, -0.7, 3), 0.6, 0.2
    )
    groups = [(-0.76, bridge), (-0.8, view.box((-0.85, -0.75), (0.8, 1.0), (-0.05, 0.05), "second"))]
    for x in np.linspace(-0.5, 0.5, 5):
        stack = 0.3
        pile: list[Part] = []
        for tone in rng.permutation(["second", "band", "main", "light"])[: rng.integers(1, 4)]:
            pile += view.box((x, x + 0.21), (stack, stack + 0.14), (-0.2, 0.2), str(tone))
            stack += 0.14
        groups.append((x + 0.1, pile))
    return hull(view, 0.24, 0.3, 0.3) + by_depth(view, groups)


def liner(rng, view: View) -> list[Part]:
    parts = hull(view, 0.24, 0.28, 0.3)
    for floor in range(int(rng.integers(2, 4))):
        x, y = (-0.8 + 0.07 * floor, 0.58 - 0.12 * floor), 0.28 + 0.15 * floor
        parts += view.box(x, (y, y + 0.15), (-0.2, 0.2), "light") + portholes(
            view, np.arange(x[0] + 0.05, x[1] - 0.06, 0.13), y + 0.06, 0.2
        )
        top = y + 0.15
    groups = []
    for x in np.linspace(-0.4, 0.2, int(rng.integers(1, 4))):
        chimney = limb(view.flat([(x, top, 0), (x - 0.04, top + 0.28, 0)]), 0.15, 0.15)
        cap = limb(view.flat([(x - 0.035, top + 0.26, 0), (x - 0.04, top + 0.3, 0)]), 0.15, 0.15)
        groups.append((float(x), [Part("second", 0.95, chimney), Part("dark", 1.0, cap)]))
    return parts + by_depth(view, groups)


def sailing_boat(rng, view: View) -> list[Part]:
    parts = hull(view, 0.26, 0.22, 0.35)
    masts = [(0.1, rng.uniform(1.4, 1.9))] if chance(rng, 0.6) else [(-0.4, 1.3), (0.25, 1.5)]
    belly = rng.uniform(-0.25, 0.25)
    groups = []
    for x, top in masts:
        wood = Part("prop", 0.8, limb(view.flat([(x, 0.2, 0), (x, top + 0.08, 0)]), 0.05, 0.03))
        reach = 0.75 if len(masts) == 1 else 0.5
        main = bend((x - 0.03, top, 0)[:2], (x - 0.35 * reach, top * 0.6), (x - reach, 0.36))
        sail = [(px, py, belly * sin(np.pi * (py - 0.36) / top)) for px, py in main] + [(x - 0.03, 0.36, 0)]
        jib = [
            (x + 0.04, top * 0.92, 0),
            (x + 0.2, top * 0.55, belly * 0.5),
            (x + reach * 0.9, 0.3, 0),
            (x + 0.06, 0.4, 0),
        ]
        wood = Part("soil", 1.0, wood.polygons)
        groups.append((x, [wood, one("sail", view.flat(sail)), one("sail", view.flat(jib), 0.85)]))
    return parts + by_depth(view, groups)


def trawler(rng, view: View) -> list[Part]:
    house = view.box((-0.05, 0.4), (0.3, 0.62), (-0.18, 0.18), "light") + portholes(
        view, (0.02, 0.15, 0.28), 0.45, 0.18
    )
    roof = view.box((-0.08, 0.43), (0.62, 0.68), (-0.2, 0.2), "second")
    rig = limb(view.flat([(-0.3, 0.3, 0), (-0.3, 1.15, 0)]), 0.05, 0.04) + limb(
        view.flat([(-0.3, 0.5, 0), (-0.85, 1.0, 0)]), 0.04, 0.03
    )
    return hull(view, 0.3, 0.32, 0.6) + by_depth(view, [(0.2, house + roof), (-0.3, [Part("dark", 1.2, rig)])])


def airplane(rng) -> list[Part]:
    """Fuselage, two wings, tailplane, fin; jets or propellers; from the side, from below, or banking."""
    view = View(
        rng.uniform(-65, 65) + rng.choice([0, 180]),
        rng.choice([rng.uniform(5, 70), rng.uniform(-70, -8)]),
        rng.uniform(-25, 25),
        rng.uniform(-12, 15),
    )
    jet = chance(rng, 0.65)
    radius = rng.uniform(0.1, 0.14)
    sweep, span, chord = (
        (rng.uniform(0.35, 0.6), rng.uniform(0.8, 1.0), 0.36) if jet else (0.05, rng.uniform(0.85, 1.05), 0.32)
    )
    height = -0.05 if jet else rng.choice([-0.06, 0.11])
    groups: list[tuple[float, list[Part]]] = []
    tube = view.flat([(-1.0, 0.06, 0), (-0.6, 0.02, 0), (0.75, 0, 0), (0.93, -0.02, 0)])
    widths = [0.05, radius * 2, radius * 2, 0.09]
    body = [piece for k in range(3) for piece in limb(tube[k : k + 2], widths[k], widths[k + 1])]
    fuselage = [Part("main", 1.0, body)]
    fuselage += [Part("second", 1.0, limb(tube[2:], radius * 1.9, 0.09))] if not jet else []
    fuselage += cabin(view, radius)
    groups.append((0.0, fuselage))
    fin = [(-0.68, 0.06, 0), (-0.9, 0.5, 0), (-1.06, 0.5, 0), (-1.0, 0.05, 0)]
    groups.append((view.depth((-0.9, 0.3, 0)), [one("second", view.flat(fin), view.shade((0, 0, 1)))]))
    for s in (-1, 1):
        root = s * radius * 0.7
        plane = [
            (0.28, height, root),
            (0.28 - sweep, height + 0.06, s * span),
            (0.12 - sweep, height + 0.06, s * span),
            (0.28 - chord * 1.15, height, root),
        ]
        up = 0.98 if view.sees(np.array([0, 1.0, 0])) else 0.72
        panel = [one("main", view.flat(plane), up)]
        if jet:
            pod = limb(
                view.flat([(0.2 - sweep * 0.3, -0.13, s * 0.36), (-0.02 - sweep * 0.3, -0.13, s * 0.36)]), 0.13, 0.11
            )
            engine = [Part("hub", 0.85, pod)]
            panel = panel + engine if not view.sees(np.array([0, 1.0, 0])) else engine + panel
        groups.append((view.depth((0, height, s * span * 0.5)), panel))
        small = [
            (-0.72, 0.06, s * 0.04),
            (-0.88 - sweep * 0.15, 0.08, s * 0.36),
            (-1.0 - sweep * 0.15, 0.08, s * 0.36),
            (-0.96, 0.06, s * 0.04),
        ]
        groups.append((view.depth((-0.9, 0.06, s * 0.2)), [one("main", view.flat(small), up * 0.95)]))
    parts = [part for _, group in sorted(groups, key=lambda group: group[0]) for part in group]
    if not jet:
        blades = [(0.97, 0.33 * np.cos(a), 0.33 * np.sin(a)) for a in rng.uniform(0, np.pi) + np.array([0, np.pi])]
        parts += [
            Part("dark", 1.2, limb(view.flat(blades), 0.04, 0.04)),
            one("dark", spot(view.flat([(0.97, 0, 0)])[0], 0.05, 0.05)),
        ]
    return parts


def cabin(view: View, radius: float) -> list[Part]:
    """Windows along both flanks and the cockpit's glass, where we see them."""
    parts = []
    for s in (-1, 1):
        flank = np.array([0, 0.35, s * 0.94])
        panes = []
        for x in np.linspace(-0.55, 0.6, 10):
            panes += [(x, 0.35 * radius * 0.9, s * 0.94 * radius * 0.9)]
        if view.sees(flank):
            parts.append(Part("glass", 0.8, [oval(x, y, 0.022, 0.022) for x, y in view.flat(panes)]))
    windscreen = [
        (0.72, radius * 0.8, -radius * 0.5),
        (0.72, radius * 0.8, radius * 0.5),
        (0.86, radius * 0.35, radius * 0.35),
        (0.86, radius * 0.35, -radius * 0.35),
    ]
    return parts + view.decal("glass", windscreen, (0.5, 0.86, 0), 0.8)


FIGURES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "airplane": airplane,
    "bird": bird,
    "car": car,
    "cat": cat,
    "deer": deer,
    "dog": dog,
    "horse": horse,
    "monkey": monkey,
    "ship": ship,
    "truck": truck,
}
