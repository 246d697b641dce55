"""One outdoor picture: sky and ground, clutter, a thing, its shadow, what hides part of it, and the light.

Own drawings. Every choice comes from the generator that is passed in. The canvas has one size, so that a picture at
48 px shows the same scene as at 96 px. Areas are painted as numbers and coloured at the very end, channel by channel:
several times as fast as carrying colours along.
"""

from collections.abc import Callable
from colorsys import hsv_to_rgb
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from lilliput.datasets._scenes.silhouettes import Part, blob, chance, draw_parts, limb, oval, spot, turned

CANVAS = 192
LEAST_AREA, MOST_AREA = 0.065, 0.36  # of the canvas, before anything hides a part
CONTEXTS = ("sky", "sea", "grass", "road")


class Habit(NamedTuple):
    """What goes with a class: where it is usually seen, and colours (hue, saturation, value)."""

    contexts: tuple[str, ...]
    things: tuple[tuple[float, float, float], ...]
    sky: tuple[float, float, float]
    ground: tuple[float, float, float]


BLUE, PALE, LEAF, FOREST, ASPHALT, SAND = (
    (0.58, 0.6, 0.85),
    (0.57, 0.2, 0.9),
    (0.28, 0.55, 0.6),
    (0.36, 0.6, 0.35),
    (0.6, 0.06, 0.45),
    (0.11, 0.4, 0.75),
)
HABITS = {
    "airplane": Habit(("sky",), ((0.6, 0.05, 0.92), (0.6, 0.1, 0.7)), BLUE, (0.55, 0.35, 0.6)),
    "bird": Habit(("sky", "grass"), ((0.08, 0.45, 0.4), (0.6, 0.05, 0.3)), PALE, (0.22, 0.45, 0.65)),
    "car": Habit(("road",), ((0.0, 0.85, 0.75), (0.01, 0.9, 0.6)), PALE, ASPHALT),
    "cat": Habit(("grass", "road"), ((0.08, 0.7, 0.8), (0.1, 0.1, 0.5)), (0.1, 0.25, 0.8), (0.08, 0.35, 0.5)),
    "deer": Habit(("grass",), ((0.07, 0.55, 0.55), (0.06, 0.5, 0.45)), LEAF, LEAF),
    "dog": Habit(("grass", "sea", "road"), ((0.1, 0.35, 0.85), (0.08, 0.2, 0.2)), PALE, SAND),
    "horse": Habit(("grass",), ((0.05, 0.7, 0.4), (0.06, 0.6, 0.25)), PALE, LEAF),
    "monkey": Habit(("grass",), ((0.07, 0.45, 0.3), (0.09, 0.5, 0.45)), FOREST, FOREST),
    "ship": Habit(("sea",), ((0.6, 0.1, 0.9), (0.6, 0.5, 0.3)), (0.56, 0.35, 0.9), (0.57, 0.65, 0.55)),
    "truck": Habit(("road",), ((0.02, 0.85, 0.8), (0.98, 0.8, 0.65)), (0.58, 0.1, 0.8), ASPHALT),
}
CLASSES = list(HABITS)

FIXED_TONES = {
    "dark": (0.08, 0.08, 0.09),
    "light": (0.92, 0.91, 0.88),
    "hair": (0.12, 0.08, 0.06),
    "horn": (0.8, 0.72, 0.55),
    "tongue": (0.88, 0.5, 0.52),
    "beak": (0.9, 0.58, 0.15),
    "skin": (0.86, 0.68, 0.56),
    "eyes": (0.7, 0.8, 0.25),
    "tyre": (0.1, 0.1, 0.11),
    "hub": (0.68, 0.68, 0.7),
    "lamp": (0.98, 0.95, 0.75),
    "tail": (0.8, 0.12, 0.1),
    "soil": (0.5, 0.4, 0.28),
    "sail": (0.94, 0.92, 0.86),
    "deck": (0.7, 0.56, 0.4),
}
ANIMALS = {"bird", "cat", "deer", "dog", "horse", "monkey"}


class Layer(NamedTuple):
    """Painted areas: 0 is unpainted, each other number has a colour."""

    numbers: np.ndarray  # uint8 or uint16 [C, C]
    colours: np.ndarray  # float32 [K, 3] in 0..1
    factor: np.ndarray  # float32 [C, C]: texture, shading, shadow

    @property
    def covers(self) -> np.ndarray:
        return self.numbers > 0


class Scene(NamedTuple):
    """A picture in layers: what is behind, the thing, what is before it, and the light on all."""

    backdrop: Layer
    props: Layer
    thing: Layer
    front: Layer
    light: np.ndarray  # float32 [C, C]: factor
    curves: np.ndarray  # uint8 [3, 256]: contrast, gamma, colour temperature


def make_scene(label: str, rng: np.random.Generator, colour_tie: float) -> Scene:
    habit = HABITS[label]
    context = pick(rng, habit.contexts) if chance(rng, 0.55) else pick(rng, CONTEXTS)
    parts, airborne = posed(label, rng)
    lower, upper = bounds(parts)
    sky = tied(rng, colour_tie, habit.sky, least_value=0.35)
    ground = tied(rng, colour_tie, habit.ground, least_value=0.2)
    horizon = horizon_for(rng, context, airborne, top=lower[1], feet=upper[1])
    behind = backdrop(rng, context, horizon, sky, ground)
    if label == "ship":
        water = ground if context == "sea" else tied(rng, colour_tie, habit.ground, least_value=0.2)
        float_on_water(rng, behind, lower, upper, water)
    elif context == "sea" and not airborne:
        beach(rng, behind, upper[1], tied(rng, colour_tie, SAND, least_value=0.3))
    scenery = behind.layer(far=texture(rng, "cloud"), close=texture(rng, pick(rng, GROUND_TEXTURES[context])))
    if not airborne:
        scenery = scenery._replace(factor=scenery.factor * cast_shadow(rng, lower, upper))
    thing = coloured_thing(label, rng, parts, scenery, tied_thing(rng, colour_tie, habit.things))
    front = occluder(rng, thing.covers, lower, upper, ground)
    grain = 1 + texture(rng, "grain") * np.float32(rng.uniform(0.01, 0.07))
    light = grain * slope(rng, rng.uniform(0, 0.3))
    return Scene(scenery, props(rng, parts), thing, front, light, tone_curves(rng))


def picture(scene: Scene, size: int, *, with_thing: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [3, size, size], and the thing's visible part, uint8 0 or 1 [size, size]."""
    layers = [scene.backdrop, scene.props, *([scene.thing] if with_thing else []), scene.front]
    layers = [layer for layer in layers if layer is not empty()]
    numbers, factor = scene.backdrop.numbers.astype(np.uint16), scene.backdrop.factor.copy()
    first = len(scene.backdrop.colours)
    for layer in layers[1:]:
        np.copyto(numbers, layer.numbers + np.uint16(first), where=layer.covers)
        np.copyto(factor, layer.factor, where=layer.covers)
        first += len(layer.colours)
    factor *= scene.light
    factor *= 255
    colours = np.concatenate([layer.colours for layer in layers])
    planes = []
    for channel in range(3):
        plane = colours[:, channel].take(numbers)
        plane *= factor
        np.clip(plane, 0, 255, out=plane)
        planes.append(resized(scene.curves[channel].take(plane.astype(np.uint8)), size))
    visible = scene.thing.covers & ~scene.front.covers
    return np.stack(planes), (resized(visible.astype(np.uint8) * 255, size) >= 128).astype(np.uint8)


def resized(plane: np.ndarray, size: int) -> np.ndarray:
    image = Image.fromarray(plane)
    if CANVAS % size == 0:
        return np.asarray(image.reduce(CANVAS // size))  # what BOX gives, quicker
    how = Image.Resampling.BOX if size < CANVAS else Image.Resampling.BICUBIC
    return np.asarray(image.resize((size, size), how))


# --- choices ---------------------------------------------------------------------------------------------


def pick(rng, options):
    return options[int(rng.random() * len(options))]


def free(rng, least_value: float = 0.1) -> tuple[float, float, float]:
    """A colour that knows of no class."""
    return rng.random(), min(0.85, rng.exponential(0.35)), rng.uniform(least_value, 0.95)


def near(rng, colour, amount: float = 1.0) -> np.ndarray:
    """RGB in 0..1 of a hue, saturation and value close to the one given."""
    h, s, v = colour
    h = (h + rng.normal(0, 0.02) * amount) % 1
    s = min(1.0, max(0.0, s + rng.normal(0, 0.08) * amount))
    v = min(1.0, max(0.0, v + rng.normal(0, 0.08) * amount))
    return np.array(hsv_to_rgb(h, s, v))


def tied(rng, tie: float, typical, *, least_value: float):
    """The colour that goes with the class, or with probability 1 - tie any."""
    anything = free(rng, least_value)
    return typical if chance(rng, tie) else anything


def tied_thing(rng, tie: float, typical):
    anything = free(rng)
    return pick(rng, typical) if chance(rng, tie) else anything


# --- textures --------------------------------------------------------------------------------------------

# horizontal and vertical grain (larger: smoother in that direction) and how fast fine detail falls off
SPECTRA = {
    "cloud": (9.0, 5.0, 1.5),
    "water": (14.0, 1.6, 1.3),
    "grass": (1.2, 5.0, 1.1),
    "gravel": (1.0, 1.0, 0.5),
    "grain": (1.0, 1.0, 0.0),
    "fur": (3.5, 1.2, 1.0),
    "patches": (10.0, 8.0, 2.2),
    "bands": (1.6, 20.0, 2.5),
}
GROUND_TEXTURES = {
    "sky": ("grass", "water"),
    "sea": ("water",),
    "grass": ("grass", "gravel"),
    "road": ("gravel", "water"),
}


@cache
def tile(kind: str) -> np.ndarray:
    """A periodic texture [2C, 2C] of mean 0 and spread 1; the same in every process."""
    wide, high, fall = SPECTRA[kind]
    side = 256
    noise = np.random.Generator(np.random.PCG64(list(kind.encode()))).standard_normal((side, side))
    x, y = np.fft.rfftfreq(side)[None, :] * side / 16, np.fft.fftfreq(side)[:, None] * side / 16
    spectrum = (0.15 + (x * wide) ** 2 + (y * high) ** 2) ** (-fall / 2)
    field = np.fft.irfft2(np.fft.rfft2(noise) * spectrum, (side, side))
    field = np.clip((field - field.mean()) / field.std(), -2.5, 2.5).astype(np.float32)
    return np.tile(field, (2, 2))


def texture(rng, kind: str) -> np.ndarray:
    """A random window [C, C] of a texture."""
    x, y = (int(v) for v in rng.integers(0, 256, 2))
    window = tile(kind)[y : y + CANVAS, x : x + CANVAS]
    return window[:, ::-1] if chance(rng, 0.5) else window


@cache
def _ramp() -> np.ndarray:
    return np.linspace(-1, 1, CANVAS, dtype=np.float32)


def slope(rng, strength: float) -> np.ndarray:
    """Light that falls off to one side: a factor [C, C] around 1."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.float32(1) + np.float32(strength) * (
        np.float32(np.cos(angle)) * _ramp() + np.float32(np.sin(angle)) * _ramp()[:, None]
    )


def tone_curves(rng) -> np.ndarray:
    contrast, gamma, lift = rng.uniform(0.65, 1.15), rng.uniform(0.7, 1.2), rng.uniform(-0.06, 0.1)
    warmth = rng.normal(0, 0.06)
    x = np.linspace(0, 1, 256) ** gamma
    curves = [((x - 0.5) * contrast + 0.5 + lift) * gain for gain in (1 + warmth, 1, 1 - warmth)]
    return np.clip(np.stack(curves) * 255, 0, 255).astype(np.uint8)


# --- painting --------------------------------------------------------------------------------------------


class Plane:
    """Areas painted as numbers; each number has a colour and how strongly two textures show in it. 0 is unpainted."""

    def __init__(self):
        self.image = Image.new("L", (CANVAS, CANVAS))
        self.pen = ImageDraw.Draw(self.image)
        self.colours: list = [(0.0, 0.0, 0.0)]
        self.rough: list[tuple[float, float]] = [(0.0, 0.0)]

    def add(self, colour, polygons, far: float = 0.0, close: float = 0.0) -> None:
        """Paint polygons [K, 2] in canvas pixels; `far` and `close` are the strengths of the textures."""
        if len(self.colours) > 255:
            return  # a plane counts to 255; nothing that we draw comes near
        number = len(self.colours)
        self.colours.append(colour)
        self.rough.append((far, close))
        for polygon in polygons:
            self.pen.polygon(polygon.ravel().tolist(), fill=number)

    def layer(self, *, far: np.ndarray | None = None, close: np.ndarray | None = None) -> Layer:
        if len(self.colours) == 1:
            return empty()
        numbers = np.asarray(self.image)
        factor = np.ones((CANVAS, CANVAS), np.float32)
        for field, strengths in zip((far, close), np.array(self.rough, np.float32).T, strict=True):
            if field is not None:
                factor += strengths.take(numbers) * field
        return Layer(numbers, np.array(self.colours, np.float32), factor)


@cache
def empty() -> Layer:
    numbers = np.zeros((CANVAS, CANVAS), np.uint8)
    return Layer(numbers, np.zeros((1, 3), np.float32), np.ones((CANVAS, CANVAS), np.float32))


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


# --- the thing -------------------------------------------------------------------------------------------


def posed(label: str, rng) -> tuple[list[Part], bool]:
    """Its parts in canvas pixels (y downwards), and whether it is off the ground."""
    parts = draw_parts(label, rng)
    off = any(part.tone == "prop" for part in parts) or bounds(parts)[0][1] < -0.2  # on a branch, or centred on 0
    airborne = label == "airplane" or (label in ANIMALS and off)
    squeeze = rng.uniform(0.72, 1.08) if label in ANIMALS else rng.uniform(0.92, 1.05)
    mirror = -1.0 if chance(rng, 0.5) else 1.0
    tilt = rng.normal(0, 9 if airborne else 4)
    parts = moved(parts, lambda points: turned(points * (squeeze * mirror, 1), tilt) * (1, -1))
    lower, upper = bounds(parts)  # y downwards: `lower` is the left top
    longest = float((upper - lower).max())
    area = np.exp(rng.uniform(np.log(LEAST_AREA), np.log(MOST_AREA)))
    side = min(np.sqrt(area / filled_share(parts, lower, longest)), 1.02)
    scale = side * CANVAS / longest
    slack = CANVAS - (upper - lower) * scale
    at = np.where(slack > 0, slack * rng.uniform(-0.04, 1.04, 2), slack * rng.uniform(0.3, 0.7, 2))
    if not airborne:
        at[1] = slack[1] * (rng.uniform(0.3, 1.0) if slack[1] > 0 else 0.5)
    return moved(parts, lambda points: (points - lower) * scale + at), airborne


def moved(parts: list[Part], move: Callable[[np.ndarray], np.ndarray]) -> list[Part]:
    """All points through `move` at once: a thing has a hundred polygons, and one call each would take longer."""
    sizes = [[len(q) for q in part.polygons] for part in parts]
    points = move(np.concatenate([q for part in parts for q in part.polygons]))
    result, start = [], 0
    for part, lengths in zip(parts, sizes, strict=True):
        polygons = []
        for length in lengths:
            polygons.append(points[start : start + length])
            start += length
        result.append(Part(part.tone, part.shade, polygons))
    return result


def bounds(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([q for p in parts if p.tone != "prop" for q in p.polygons])
    return points.min(0), points.max(0)


def filled_share(parts: list[Part], lower: np.ndarray, longest: float, side: int = 40) -> float:
    """How much of the square from `lower` with sides `longest` the parts cover."""
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for part in moved(parts, lambda points: (points - lower) * ((side - 1) / longest)):
        if part.tone != "prop":
            for polygon in part.polygons:
                pen.polygon(polygon.ravel().tolist(), fill=255)
    return max(0.02, float(np.asarray(image).mean()) / 255)


def coloured_thing(label: str, rng, parts: list[Part], scenery: Layer, main) -> Layer:
    parts = [part for part in parts if part.tone != "prop"]
    tones = tones_of(rng, near(rng, main), surroundings(parts, scenery))
    plane = Plane()
    for part in parts:
        soft = part.tone in ("main", "second", "hair")
        plane.add(np.asarray(tones[part.tone]) * part.shade, part.polygons, close=1.0 if soft else 0.3)
    if label in ANIMALS:
        kind = pick(rng, ("fur", "fur", "grass", "gravel"))
    else:
        kind = pick(rng, ("gravel", "water", "patches"))
    layer = plane.layer(close=texture(rng, kind) * np.float32(rng.uniform(0.03, 0.2)))
    if chance(rng, 0.3):
        layer = painted_over(label, rng, parts, layer, tones)
    return layer._replace(factor=layer.factor * rounded(rng, layer.covers))


def painted_over(label: str, rng, parts: list[Part], layer: Layer, tones: dict) -> Layer:
    """Piebald coats and paint stripes: the second colour shows on some of the main one."""
    kinds = ("patches", "bands") if label in ANIMALS else ("bands", "water")
    pattern = texture(rng, pick(rng, kinds)) > rng.uniform(0.2, 0.9)
    mains = np.array([False, *(part.tone == "main" for part in parts)])
    shades = np.array([0.0, *(part.shade for part in parts)])[:, None]
    other = np.where(mains[:, None], 0.3 * layer.colours + 0.7 * shades * tones["second"], layer.colours)
    numbers = layer.numbers + (pattern & layer.covers) * np.uint16(len(parts) + 1)
    return layer._replace(numbers=numbers, colours=np.concatenate([layer.colours, other]).astype(np.float32))


def surroundings(parts: list[Part], scenery: Layer) -> np.ndarray:
    """The mean colour of what the thing's frame holds without it."""
    lower, upper = (np.clip(corner, 0, CANVAS - 1).astype(int) for corner in bounds(parts))
    numbers = scenery.numbers[lower[1] : upper[1] + 1 : 4, lower[0] : upper[0] + 1 : 4]
    return np.bincount(numbers.ravel(), minlength=len(scenery.colours)) @ scenery.colours / numbers.size


def tones_of(rng, main: np.ndarray, around: np.ndarray) -> dict:
    """The thing's colours. What would melt into its surroundings is made lighter or darker."""
    away = rng.uniform(0.25, 0.35)
    if np.abs(main - around).max() < 0.25:
        main = np.clip(around + (away if around.mean() < 0.4 else -away) + 0.5 * (main - around), 0.02, 1)
    second = near(rng, free(rng)) if chance(rng, 0.5) else np.clip(main * rng.uniform(0.6, 1.5), 0, 1)
    hair = main * 0.45 if chance(rng, 0.6) else np.asarray(FIXED_TONES["hair"])
    glass = np.array((0.3, 0.37, 0.45)) * rng.uniform(0.5, 1.4)
    return {**FIXED_TONES, "main": main, "second": second, "band": near(rng, free(rng)), "hair": hair, "glass": glass}


def rounded(rng, mask: np.ndarray) -> np.ndarray:
    """Shading as if the shape bulged: a factor [C, C], lighter towards the light."""
    coarse = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).reduce(8), np.float32) / 255
    down, right = np.zeros_like(coarse), np.zeros_like(coarse)
    down[1:-1], right[:, 1:-1] = (coarse[2:] - coarse[:-2]) / 2, (coarse[:, 2:] - coarse[:, :-2]) / 2
    angle = rng.uniform(0.15 * np.pi, 0.85 * np.pi)  # from above
    lit = (down * np.sin(angle) + right * np.cos(angle)).astype(np.float32)
    lit = np.asarray(Image.fromarray(lit).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR))
    return (1 + rng.uniform(0.2, 0.9) * lit) * slope(rng, rng.uniform(0, 0.2))


def props(rng, parts: list[Part]) -> Layer:
    """Branches to hang from or to perch on: behind the thing, and no part of it."""
    plane = Plane()
    branch = [q for p in parts if p.tone == "prop" for q in p.polygons]
    if branch:
        plane.add(near(rng, (0.08, 0.4, rng.uniform(0.2, 0.5))), branch)
        ends = np.vstack(branch)
        low, high = np.clip(ends.min(0), 0, CANVAS), np.clip(ends.max(0), 0, CANVAS)
        at = rng.uniform(low, high, (9, 2)) + rng.normal(0, 10, (9, 2))
        leaves = [spot(place, rng.uniform(4, 11), rng.uniform(3, 6), rng.uniform(0, 180)) for place in at]
        plane.add(near(rng, (0.3, 0.5, 0.45), 2.5), leaves)
    return plane.layer()


def cast_shadow(rng, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """A soft dark oval under the feet, pushed away from the light: a factor [C, C]."""
    small = Image.new("L", (48, 48))
    wide, foot = (upper[0] - lower[0]) / 8, upper[1] / 4
    x = (lower[0] + upper[0]) / 8 + rng.uniform(-0.5, 0.5) * wide
    high = rng.uniform(0.12, 0.3) * wide
    ImageDraw.Draw(small).ellipse((x - wide, foot - high, x + wide, foot + high * 0.7), fill=255)
    soft = np.asarray(small.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR), np.float32)
    return 1 - soft * np.float32(rng.uniform(0.1, 0.5) / 255)


# --- sky, ground and clutter -----------------------------------------------------------------------------


def horizon_for(rng, context: str, airborne: bool, *, top: float, feet: float) -> float:
    if airborne:
        return CANVAS * (rng.uniform(0.75, 1.3) if context == "sky" else rng.uniform(0.3, 1.0))
    raised = rng.uniform(0.02, 0.12) if context == "sky" else rng.uniform(0.1, 0.9)
    return max(0.08 * CANVAS, feet - raised * max(feet - top, 0.3 * CANVAS))


def backdrop(rng, context: str, horizon: float, sky, ground) -> Plane:
    plane = Plane()
    above, below = (
        near(rng, sky),
        near(rng, (sky[0], sky[1] * rng.uniform(0.2, 0.9), min(1.0, sky[2] * rng.uniform(0.85, 1.3)))),
    )
    cloudy = rng.uniform(0.02, 0.16)
    edges = np.linspace(0, max(horizon, 20), 13)
    for k in range(12):
        plane.add(
            above + (below - above) * k / 11,
            [rectangle(0, edges[k], CANVAS, edges[k + 1] + 1 if k < 11 else CANVAS)],
            far=cloudy,
        )
    for _ in range(rng.integers(0, 5)):
        cloud(rng, plane, horizon, below)
    far_away(rng, plane, context, horizon, ground)
    lit = near(rng, ground)
    darker = rng.uniform(0.6, 1.1)
    rough = rng.uniform(0.04, 0.2)
    edges = horizon + (CANVAS + 2 - horizon) * np.linspace(0, 1, 7) ** 1.5
    if horizon < CANVAS:
        for k in range(6):
            plane.add(
                np.clip(lit * (1 + (darker - 1) * k / 5), 0, 1),
                [rectangle(0, edges[k], CANVAS, edges[k + 1] + 1)],
                close=rough,
            )
        {"sky": meadow, "sea": waves, "grass": meadow, "road": road}[context](rng, plane, horizon, lit)
    return plane


def cloud(rng, plane: Plane, horizon: float, tint: np.ndarray) -> None:
    x, y = rng.uniform(0, CANVAS), rng.uniform(0, max(horizon, 30))
    wide = rng.uniform(12, 50)
    puffs = [
        oval(x + dx * wide, y + dy * wide * 0.25, wide * r, wide * r * 0.5)
        for dx, dy, r in rng.uniform((-1, -1, 0.25), (1, 1, 0.7), (5, 3))
    ]
    plane.add(np.clip(tint * rng.uniform(0.75, 1.0) + rng.uniform(0, 0.35), 0, 1), puffs, far=0.06)


def clutter_colour(rng, ground) -> np.ndarray:
    if chance(rng, 0.5):
        return near(rng, (ground[0] + rng.normal(0, 0.03), min(1, ground[1] * 1.1), ground[2] * rng.uniform(0.4, 0.95)))
    return near(rng, free(rng))


def far_away(rng, plane: Plane, context: str, horizon: float, ground) -> None:
    """Hills, woods, houses: at or behind the horizon."""
    if chance(rng, 0.6):
        high = rng.uniform(5, 55, 6)
        ridge = np.column_stack([np.linspace(-20, CANVAS + 20, 6), horizon - high])
        plane.add(
            clutter_colour(rng, ground),
            [blob((-40, horizon + 40), *ridge, (CANVAS + 40, horizon + 40))],
            far=0.08,
            close=0.06,
        )
    kinds = {
        "road": (house, house, tree),
        "sea": (house, rock, tree),
        "grass": (tree, tree, bush, house),
        "sky": (tree, bush),
    }[context]
    for _ in range(rng.integers(0, 7)):
        pick(rng, kinds)(rng, plane, rng.uniform(0, CANVAS), horizon + rng.uniform(0, 5), rng.uniform(0.4, 1.5), ground)


def tree(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    high = 48 * size * rng.uniform(0.7, 1.3)
    plane.add(
        near(rng, (0.07, 0.45, 0.3)),
        [rectangle(x - 2.5 * size, foot - high * 0.5, x + 2.5 * size, foot + 1)],
        close=0.15,
    )
    colour = clutter_colour(rng, ground)
    if chance(rng, 0.35):
        tiers = [
            np.array([(x - w, foot - high * b), (x + w, foot - high * b), (x, foot - high * (b + 0.5))])
            for b, w in ((0.2, 14 * size), (0.42, 11 * size), (0.65, 8 * size))
        ]
        plane.add(colour, tiers, close=0.2)
        return
    crown = [
        oval(x + dx * 12 * size, foot - high * 0.7 + dy * 9 * size, r * 13 * size, r * 12 * size)
        for dx, dy, r in rng.uniform((-1, -1, 0.5), (1, 1, 1.0), (4, 3))
    ]
    plane.add(colour, crown, far=0.1, close=0.2)


def bush(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    puffs = [
        oval(x + dx * 16 * size, foot - 5 * size, r * 11 * size, r * 10 * size)
        for dx, r in rng.uniform((-1, 0.5), (1, 1), (4, 2))
    ]
    plane.add(clutter_colour(rng, ground), puffs, close=0.2)


def rock(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    turns = np.sort(rng.uniform(0, np.pi, 6))
    outline = np.column_stack(
        [x + 17 * size * np.cos(turns), foot + 2 - 15 * size * np.sin(turns) * rng.uniform(0.6, 1, 6)]
    )
    plane.add(near(rng, (rng.random(), 0.08, rng.uniform(0.25, 0.7))), [outline], close=0.2)


def house(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    wide, high = rng.uniform(14, 40) * size, rng.uniform(20, 65) * size
    wall = near(rng, free(rng, 0.25))
    plane.add(wall, [rectangle(x, foot - high, x + wide, foot + 1)], close=0.08)
    if chance(rng, 0.5):
        plane.add(
            near(rng, free(rng)),
            [np.array([(x - 3, foot - high), (x + wide + 3, foot - high), (x + wide / 2, foot - high - 14 * size)])],
            close=0.08,
        )
    columns, rows = np.arange(x + 3, x + wide - 5, 9 * size), np.arange(foot - high + 5, foot - 8, 11 * size)
    plane.add(
        wall * rng.uniform(0.3, 0.7), [rectangle(a, b, a + 4 * size, b + 5 * size) for a in columns for b in rows]
    )


def fence(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    high = rng.uniform(14, 30) * size
    posts = [rectangle(a, foot - high, a + 3, foot) for a in np.arange(rng.uniform(-15, 5), CANVAS, rng.uniform(9, 26))]
    rails = [rectangle(0, foot - high * k, CANVAS, foot - high * k + 2.5) for k in (0.8, 0.4)]
    plane.add(near(rng, (0.08, 0.25, rng.uniform(0.25, 0.9))), posts + rails, close=0.1)


def meadow(rng, plane: Plane, horizon: float, lit: np.ndarray) -> None:
    ground = (rng.normal(0.27, 0.05) % 1, 0.5, 0.5)
    for _ in range(rng.integers(0, 5)):
        foot = horizon + (CANVAS - horizon) * rng.uniform(0, 0.5)
        pick(rng, (bush, rock, tree, fence))(rng, plane, rng.uniform(0, CANVAS), foot, rng.uniform(0.4, 1.0), ground)
    tufts = rng.uniform((0, horizon), (CANVAS, CANVAS + 5), (12, 2)) if horizon < CANVAS - 5 else []
    blades = [
        np.array([(x - 3, y), (x + lean, y - 9), (x + 3, y)])
        for (x, y), lean in zip(tufts, rng.uniform(-4, 4, 12), strict=False)
    ]
    plane.add(np.clip(lit * rng.uniform(0.6, 1.4), 0, 1), blades)


def waves(rng, plane: Plane, horizon: float, lit: np.ndarray) -> None:
    crests = []
    for _ in range(rng.integers(4, 16)):
        x, y = rng.uniform((0, horizon), (CANVAS, CANVAS))
        near_us = 0.3 + (y - horizon) / CANVAS
        crests.append(blob((x - 30 * near_us, y), (x, y - 4 * near_us), (x + 30 * near_us, y), (x, y + 1)))
    plane.add(np.clip(lit + rng.uniform(-0.15, 0.3), 0, 1), crests, close=0.1)


def road(rng, plane: Plane, horizon: float, lit: np.ndarray) -> None:
    paint = near(rng, pick(rng, ((0.12, 0.1, 0.9), (0.13, 0.6, 0.85))))
    deep = CANVAS - horizon
    if chance(rng, 0.5):  # across
        top = horizon + deep * rng.uniform(0.05, 0.3)
        plane.add(np.clip(lit * rng.uniform(0.6, 1.3), 0, 1), [rectangle(0, top, CANVAS, CANVAS)], close=0.12)
        y = top + (CANVAS - top) * rng.uniform(0.3, 0.8)
        dashes = [rectangle(x, y, x + 22, y + 4) for x in np.arange(rng.uniform(-40, 0), CANVAS, 40)]
        plane.add(paint, [*dashes, rectangle(0, top + 2, CANVAS, top + 4)])
        return
    x, wide = rng.uniform(0.2, 0.8) * CANVAS, rng.uniform(60, 150)
    plane.add(
        np.clip(lit * rng.uniform(0.5, 1.3), 0, 1),
        [np.array([(x - 4, horizon), (x + 4, horizon), (x + wide, CANVAS), (x - wide, CANVAS)])],
        close=0.12,
    )
    for a, b in ((0.1, 0.2), (0.3, 0.48), (0.65, 0.95)):
        plane.add(
            paint,
            [
                np.array(
                    [
                        (x - 4 * a, horizon + a * deep),
                        (x + 4 * a, horizon + a * deep),
                        (x + 4 * b, horizon + b * deep),
                        (x - 4 * b, horizon + b * deep),
                    ]
                )
            ],
        )


def float_on_water(rng, plane: Plane, lower: np.ndarray, upper: np.ndarray, water) -> None:
    """Water under the hull wherever the ship is: the sea, a lake or a harbour."""
    top = upper[1] - rng.uniform(0.12, 0.3) * (upper[1] - lower[1]) - 4
    lit = near(rng, water)
    plane.add(lit, [rectangle(0, top, CANVAS, CANVAS)], close=rng.uniform(0.06, 0.2))
    waves(rng, plane, top, lit)
    if chance(rng, 0.3) and upper[1] < CANVAS - 30:
        plane.add(
            near(rng, free(rng, 0.3)), [rectangle(0, rng.uniform(upper[1] + 12, CANVAS), CANVAS, CANVAS)], close=0.15
        )


def beach(rng, plane: Plane, feet: float, colour) -> None:
    """Firm ground at the water's edge for what cannot swim."""
    shore = feet - rng.uniform(8, 25)
    edge = np.column_stack([np.linspace(-10, CANVAS + 10, 5), shore + rng.uniform(-6, 6, 5)])
    plane.add(
        near(rng, colour),
        [np.vstack([edge, [(CANVAS + 10, CANVAS + 5), (-10, CANVAS + 5)]])],
        close=rng.uniform(0.05, 0.15),
    )


# --- what stands in the way ------------------------------------------------------------------------------


def occluder(rng, mask: np.ndarray, lower: np.ndarray, upper: np.ndarray, ground) -> Layer:
    """Something before the thing in about half of the pictures; never over more than two fifths of it."""
    plane = Plane()
    if chance(rng, 0.5):
        kind = pick(rng, (bush, rock, fence, pole, tufts, twigs, tree))
        x = rng.uniform(lower[0] - 10, upper[0] + 10)
        kind(rng, plane, x, min(upper[1] + rng.uniform(0, 14), CANVAS + 10), rng.uniform(0.8, 1.8), ground)
    layer = plane.layer(close=texture(rng, "grass"))
    if (layer.covers & mask).sum() > 0.4 * mask.sum():
        return empty()
    return layer


def pole(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    wide = rng.uniform(3, 9)
    plane.add(near(rng, free(rng)), [rectangle(x - wide, rng.uniform(-60, 60), x + wide, foot + 20)], close=0.12)


def tufts(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    at = rng.uniform((0, foot - 3, -6, 12), (CANVAS, foot + 8, 6, 32), (30, 4))
    plane.add(
        clutter_colour(rng, ground),
        [np.array([(a - 3, b), (a + lean, b - high), (a + 3, b)]) for a, b, lean, high in at],
    )


def twigs(rng, plane: Plane, x: float, foot: float, size: float, ground) -> None:
    from_left = chance(rng, 0.5)
    start = np.array([-5.0 if from_left else CANVAS + 5.0, rng.uniform(-10, CANVAS * 0.7)])
    end = np.array([x, start[1] + rng.uniform(-30, 60)])
    plane.add(near(rng, (0.08, 0.4, 0.3)), limb([start, (start + end) / 2 + (0, -8), end], 8, 3), close=0.2)
    along = rng.uniform(0, 1, 14)[:, None] * (end - start) + start + rng.normal(0, 8, (14, 2))
    plane.add(clutter_colour(rng, ground), [spot(leaf_at, 8, 4, rng.uniform(0, 180)) for leaf_at in along], close=0.2)
