"""The study that we reproduce: its Table 1 as data, and its names and order of techniques and networks.

STL-10 at 96 px; maximum linear accuracy over checkpoints, selected and measured on the 8,000 test images.
"""

from collections.abc import Iterable

# Spellings that mean the same row or column; the first is the one that we use ourselves.
TECHNIQUES = {
    "RotNet": ("rotnet",),
    "MoCo v2": ("moco_v2", "mocov2", "moco"),
    "Split-Brain": ("split_brain", "splitbrain"),
    "SimCLR": ("simclr",),
    "BYOL": ("byol",),
}
BACKBONES = {
    "efficientnet_lite0": ("efficientnet_lite0", "tf_efficientnet_lite0"),
    "mobilenet_v2": ("mobilenet_v2", "mobilenetv2"),
    "resnet18": ("resnet18",),
    "shufflenet_v2": ("shufflenet_v2_x0_5", "shufflenet_v2"),
    "squeezenet": ("squeezenet1_1", "squeezenet"),
}
# The paper calls BYOL contrastive too; it has no negatives.
CONTRASTIVE = {"RotNet": "no", "MoCo v2": "yes", "Split-Brain": "no", "SimCLR": "yes", "BYOL": "joint-embedding"}

_ACCURACY = {
    "RotNet": (0.28, 0.31, 0.33, 0.37, 0.30),
    "MoCo v2": (0.47, 0.51, 0.78, 0.65, 0.10),
    "Split-Brain": (0.58, 0.57, 0.59, 0.53, 0.45),
    "SimCLR": (0.69, 0.65, 0.70, 0.59, 0.60),
    "BYOL": (0.51, 0.71, 0.78, 0.71, 0.68),
}
TABLE_1 = {
    (technique, backbone): value
    for technique, values in _ACCURACY.items()
    for backbone, value in zip(BACKBONES, values, strict=True)
}
MULTIPLY_ADDS_224 = dict(zip(BACKBONES, (3.90e8, 3.27e8, 1.80e9, 4.01e7, 3.20e8), strict=True))
KILOGRAMS_CO2 = dict(zip(BACKBONES, (1.9, 1.8, 3.22, 1.84, 1.99), strict=True))


def technique(name: str) -> str | None:
    """What the paper calls this technique; None when it has no such row."""
    return _find(name, TECHNIQUES)


def backbone(name: str) -> str | None:
    """What the paper calls this network; None when it has no such column."""
    return _find(name, BACKBONES)


def in_order(names: Iterable[str], known: dict[str, tuple[str, ...]]) -> list[str]:
    """Each name once: those of the paper in its order, then the others by alphabet."""
    places = {title: place for place, title in enumerate(known)}
    return sorted(set(names), key=lambda name: (places.get(_find(name, known) or "", len(places)), name))


def _find(name: str, known: dict[str, tuple[str, ...]]) -> str | None:
    return next((title for title, spellings in known.items() if name == title or name.lower() in spellings), None)
