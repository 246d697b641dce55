"""What a large study would cost on GPUs: reckoned from measured ratios and public images/s, not run.

python -m benchmarks.large

Measured here: how many passes of the network (forward and backward) an image costs by each technique (images/s at 64 px
of two cores, results/learning/speeds.json, beside SimCLR's two). Public: images/s of training in half precision on one
RTX 3090 at 224 px (pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv); ShuffleNetV2 x0.5
and SqueezeNet 1.1 are not in it and are taken for MobileNetV2 x0.5 and ResNet-18, which have more multiply-adds.
Assumed: 96 px is four times as quick as 224 px, which has 5.4 times the pixels, since small maps fill a GPU less.
"""

import json
from pathlib import Path
from typing import NamedTuple

SPEEDS = Path(__file__).parents[1] / "results" / "learning" / "speeds.json"
AT_224 = {  # images/s
    "efficientnet_lite0": 2079.28,
    "mobilenet_v2": 2313.1,
    "resnet18": 3481.78,
    "shufflenet_v2": 4051.14,  # mobilenetv2_050's
    "squeezenet": 3481.78,  # resnet18's
}
QUICKER_AT_96 = 4.0
TECHNIQUES = ("rotnet", "moco_v2", "simclr", "byol", "split_brain")
PASSES_OF_SIMCLR = 2.0


class Large(NamedTuple):
    """A study: 25 cells of so many images, epochs and seeds."""

    name: str
    images: float
    epochs: int
    seeds: int
    gpus_a_cell: int


STUDIES = (
    Large("the paper's: 100,000 images, 200 epochs, 3 seeds", 1e5, 200, 3, 1),
    Large("100 million images, 8 epochs, 1 seed", 1e8, 8, 1, 1),
    Large("the same, 8 GPUs a cell", 1e8, 8, 1, 8),
)


def passes() -> dict[str, float]:
    """Of ResNet-18 at 64 px: what an image costs by each technique, in passes of the network."""
    speeds = {tuple(json.loads(key)[:3]): value for key, value in json.loads(SPEEDS.read_text()).items() if _usual(key)}
    simclr = speeds["simclr", "resnet18", 64]
    return {name: PASSES_OF_SIMCLR * simclr / speeds[name, "resnet18", 64] for name in TECHNIQUES}


def _usual(key: str) -> bool:
    """Whether a speed is of the small recipe's own optimiser: Split-Brain's is SGD."""
    technique, *_, settings = json.loads(key)
    return settings.get("optimiser") == ("sgd" if technique == "split_brain" else "muon")


def cells_of(study: Large) -> list[float]:
    """GPU-hours of each of its cells, the longest first."""
    hours = [
        study.images * study.epochs * times / (AT_224[backbone] * QUICKER_AT_96) / 3600
        for times in passes().values()
        for backbone in AT_224
    ]
    return sorted(hours * study.seeds, reverse=True)


def wall(cells: list[float], gpus: int, gpus_a_cell: int) -> float:
    """Hours until the last cell is done: each begins where a place is free first, the longest first, without loss by
    several GPUs a cell."""
    places = [0.0] * max(1, gpus // gpus_a_cell)
    for hours in cells:
        soonest = places.index(min(places))
        places[soonest] += hours / min(gpus, gpus_a_cell)
    return max(places)


def main() -> None:
    told = ", ".join(f"{name} {times:.2f}" for name, times in passes().items())
    print(f"passes an image: {told}\n")
    print("| study | GPU-hours | longest cell | 1 GPU | 8 GPUs | 64 GPUs | of 64 in use |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for study in STUDIES:
        cells = cells_of(study)
        on = {gpus: wall(cells, gpus, study.gpus_a_cell) for gpus in (1, 8, 64)}
        hours = " | ".join(f"{on[gpus]:,.1f} h" for gpus in on)
        total, longest = sum(cells), cells[0] / study.gpus_a_cell
        print(f"| {study.name} | {total:,.0f} | {longest:,.1f} h | {hours} | {total / 64 / on[64]:.0%} |")


if __name__ == "__main__":
    main()
