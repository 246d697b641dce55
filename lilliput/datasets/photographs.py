"""Photographs: crops of eighteen real ones that scikit-image and scikit-learn carry; the class is which one it is of.

No download, and real light, lenses and surfaces. Each photograph is a checkerboard: crops to learn from are of its
black blocks, those to judge by of its white ones, so that what is told is a look and not a place. Brightness, contrast
and the light's colour are disturbed, so that none of them alone tells it. Whose the photographs are: PHOTOGRAPHS.
"""

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
from numpy.random import Generator, default_rng
from PIL import Image

from lilliput.data.store import Data, Store, chosen_size
from lilliput.data.writing import prepared
from lilliput.errors import BadSetting
from lilliput.system.progress import task

USUAL_SIZE = 32
SIDE, BLOCK = 384, 96  # pixels of a photograph's short side, and of the blocks of its checkerboard
SMALLEST = 0.5  # side of a crop, as a share of a block's
FLAT, ATTEMPTS = 0.05, 20  # a crop that varies less is drawn again, up to so often
SPLITS = {"pool": 0, "train": 1, "test": 2}  # each with draws of its own
SCIKIT_IMAGE, SCIKIT_LEARN = "skimage/data", "sklearn/datasets/images"
PHOTOGRAPHS = {  # file, the library that carries it, and whose it is
    "astronaut": ("astronaut.png", SCIKIT_IMAGE, "NASA, public domain"),
    "brick": ("brick.png", SCIKIT_IMAGE, "CC0Textures, CC0"),
    "camera": ("camera.png", SCIKIT_IMAGE, "Lav Varshney, CC0"),
    "cat": ("chelsea.png", SCIKIT_IMAGE, "Stefan van der Walt, CC0"),
    "cell": ("cell.png", SCIKIT_IMAGE, "CC0"),
    "coffee": ("coffee.png", SCIKIT_IMAGE, "Rachel Michetti, CC0"),
    "coins": ("coins.png", SCIKIT_IMAGE, "Brooklyn Museum, no known restrictions"),
    "flower": ("flower.jpg", SCIKIT_LEARN, "vultilion, CC BY 2.0, https://www.flickr.com/photos/vultilion/6056698931"),
    "galaxies": ("hubble_deep_field.jpg", SCIKIT_IMAGE, "NASA, public domain"),
    "grass": ("grass.png", SCIKIT_IMAGE, "CC0Textures, CC0"),
    "gravel": ("gravel.png", SCIKIT_IMAGE, "CC0Textures, CC0"),
    "moon": ("moon.png", SCIKIT_IMAGE, "public domain"),
    "motorcycle": ("motorcycle_left.png", SCIKIT_IMAGE, "Middlebury 2014 stereo data, CC0"),
    "page": ("page.png", SCIKIT_IMAGE, "public domain"),
    "palace": (
        "china.jpg",
        SCIKIT_LEARN,
        "danielbuechele, CC BY 2.0, https://www.flickr.com/photos/danielbuechele/6061409035",
    ),
    "retina": ("retina.jpg", SCIKIT_IMAGE, "Mikael Häggström, CC0"),
    "rocket": ("rocket.jpg", SCIKIT_IMAGE, "SpaceX, public domain"),
    "tissue": ("ihc.png", SCIKIT_IMAGE, "no known restrictions"),
}


def prepare(
    *,
    image_size: int | None = None,
    limit: int | None = None,
    pool_count: int = 3600,
    train_count: int = 720,
    test_count: int = 1080,
    seed: int = 0,
) -> Data:
    """Balanced crops; the pool has no labels. BadSetting where a library lacks a photograph, or labels lack a class."""
    size = chosen_size(image_size, USUAL_SIZE)
    counts = {"pool": pool_count if limit is None else min(pool_count, limit), "train": train_count, "test": test_count}
    for split, fewest in {
        "pool": 1,
        "train": len(PHOTOGRAPHS),
        "test": len(PHOTOGRAPHS),
    }.items():  # labels: one of each
        if counts[split] < fewest:
            raise BadSetting(f"{counts[split]} images of {split} are too few; give {fewest} or more")
    if seed < 0:
        raise BadSetting(f"seed {seed} is negative; give 0 or more")
    return Data("photographs", *(_store(split, counts[split], size, seed) for split in SPLITS))


def _store(split: str, count: int, size: int, seed: int) -> Store:
    labelled = split != "pool"
    files = [_file(*photograph[:2]) for photograph in PHOTOGRAPHS.values()]
    read = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (Path(__file__), *files)]  # this code too
    return prepared(
        name="photographs",
        split=split,
        key=[read, PIL.__version__, split, count, size, seed],
        source="; ".join(f"{name}: {rights}" for name, (_, _, rights) in PHOTOGRAPHS.items()),
        image_size=size,
        count=count,
        fill=_fill(files, split, count, size, seed),
        labels=[number % len(files) for number in range(count)] if labelled else None,
        classes=list(PHOTOGRAPHS) if labelled else None,
    )


def _file(name: str, where: str) -> Path:
    library, _, inside = where.partition("/")
    spec = find_spec(library)
    path = (
        Path(spec.submodule_search_locations[0]) / inside / name if spec and spec.submodule_search_locations else None
    )
    if path is None or not path.exists():
        named = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[library]
        raise BadSetting(f"the photographs are those of {named}, which has no {name} here: pip install {named}")
    return path


def _fill(files: list[Path], split: str, count: int, size: int, seed: int) -> Callable:
    def fill(images: np.ndarray, masks: None) -> None:
        photographs = [opened(file) for file in files]
        with task(f"cropping photographs {split}", count) as advance:
            for number in range(count):
                draw = default_rng([seed, SPLITS[split], number])
                images[number] = crop(photographs[number % len(files)], size, draw, judges=split == "test")
                advance(1)

    return fill


def opened(file: Path) -> Image.Image:
    """A photograph whose short side is SIDE."""
    with Image.open(file) as image:
        whole = image.convert("RGB")
    scale = SIDE / min(whole.size)
    return whole.resize([round(length * scale) for length in whole.size], Image.Resampling.LANCZOS)


def crop(photograph: Image.Image, size: int, draw: Generator, *, judges: bool) -> np.ndarray:
    """uint8 [3, size, size]: of a black block of its checkerboard, or of a white one where it judges."""
    across, down = (length // BLOCK for length in photograph.size)
    blocks = [(x, y) for x in range(across) for y in range(down) if (x + y) % 2 == judges]
    for _ in range(ATTEMPTS):
        pixels = _within(photograph, blocks[draw.integers(len(blocks))], size, draw)
        if pixels.std((1, 2)).max() > FLAT:  # no piece of bare sky
            break
    return disturbed(pixels, draw)


def _within(photograph: Image.Image, block: tuple[int, int], size: int, draw: Generator) -> np.ndarray:
    """float [3, size, size] in 0..1: a square of any place and size in the block, mirrored or not."""
    side = draw.uniform(SMALLEST, 1.0) * BLOCK
    left, top = (BLOCK * place + draw.uniform(0, BLOCK - side) for place in block)
    image = photograph.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
    pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255
    return pixels[:, :, ::-1] if draw.random() < 0.5 else pixels


def disturbed(pixels: np.ndarray, draw: Generator) -> np.ndarray:
    """[3, H, W] in 0..1 -> uint8: another brightness, contrast and colour of the light."""
    contrast, brightness, light = draw.uniform(0.5, 1.2), draw.uniform(-0.2, 0.2), draw.uniform(0.75, 1.25, (3, 1, 1))
    changed = ((pixels - pixels.mean()) * contrast + pixels.mean() + brightness) * light
    return (changed.clip(0, 1) * 255).round().astype(np.uint8)
