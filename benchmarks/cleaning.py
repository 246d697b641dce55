"""What `lilliput clean` finds of what was planted: copies, images off the topic, wrong labels; precision and recall.

python -m benchmarks.cleaning --data DIR --encoders RUN [RUN ...] [--strange DIR ...] [--count 2000] [--seed 0]

DIR has a folder for each class. Of its images `count`, evenly, are taken into a folder of work, where a tenth are
planted again: compressed anew, cropped by 5 to 10 %, mirrored, made brighter or darker. Images of other folders
(--strange) are added for strangers; labels are changed by lot. Compared are saved encoders, raw pixels (the grey
pictures that an index keeps) and imagehash's perceptual hash (extra `bench`). Rows go to results/cleaning/rows.csv; a
table is printed.
"""

import argparse
import csv
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from lilliput.data.store import spaced

KINDS = ("compressed", "cropped", "mirrored", "brighter")
COPIED = 10  # one image in so many is planted again
STRANGERS = 40
CHANGED = (0.05, 0.1)  # shares of the labels
BITS = 10  # of 64 in which perceptual hashes of copies may differ, as is usual
COLUMNS = ("problem", "planted", "by", "images", "planted_images", "found", "precision", "recall", "average_precision")


class Row(NamedTuple):
    """How much was found of so many that were planted."""

    problem: str
    planted: str  # what
    by: str  # encoder or other
    images: int
    sought: int
    found: int
    precision: float
    recall: float
    average_precision: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="a folder of classes")
    parser.add_argument("--encoders", nargs="+", required=True, help="folders of runs, or files of encoders")
    parser.add_argument("--strange", nargs="*", default=[], help="folders of images off the topic")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="results/cleaning")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = list(measured(Path(work), options))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    print(table(rows))


def measured(work: Path, options: argparse.Namespace) -> Iterator[Row]:
    from lilliput.gallery.index import gather
    from lilliput.gallery.lens import open_lens

    rng = np.random.default_rng(options.seed)
    copies = plant(Path(options.data), work / "images", options.count, rng)
    strangers = [_strangers(Path(folder), work / f"strange-{n}") for n, folder in enumerate(options.strange)]
    names: list[str] = []
    for encoder in options.encoders:
        lens = open_lens(encoder)
        index = gather(work / "images", lens)
        by, names, pictures = Path(encoder).name, index.names, index.whole("grey")
        yield of_copies(by, index.whole(), pictures, names, copies)
        others = [(folder, gather(folder, lens)) for folder in strangers]
        yield from of_the_rest(by, index.whole(), names, [(f.name, i.whole()) for f, i in others], options.seed)
    pixels, strange = _flat(pictures), [(f.name, _flat(i.whole("grey"))) for f, i in others]
    yield of_copies("pixels", pixels, pictures, names, copies)
    yield by_hash(work / "images", names, copies)
    yield from of_the_rest("pixels", pixels, names, strange, options.seed)


def plant(data: Path, into: Path, count: int, rng: np.random.Generator) -> dict[tuple[str, str], str]:
    """Images of the classes in `data`, evenly, and copies of some; (original, copy) -> in what they differ."""
    files = sorted(path for path in data.glob("*/*") if path.is_file())
    files = [files[row] for row in spaced(len(files), count)]
    for path in files:
        (into / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, into / path.parent.name / path.name)
    planted = {}
    for number, row in enumerate(rng.permutation(len(files))[: len(files) // COPIED]):
        folder, kind = files[row].parent.name, KINDS[number % len(KINDS)]
        name = f"{folder}/copy-{number:04d}.jpg"
        with Image.open(files[row]) as image:
            changed(image.convert("RGB"), kind, rng).save(into / name, quality=50 if kind == "compressed" else 90)
        planted[f"{folder}/{files[row].name}", name] = kind
    return planted


def changed(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """The image as somebody might have saved it again."""
    if kind == "mirrored":
        return ImageOps.mirror(image)
    if kind == "brighter":
        return ImageEnhance.Brightness(image).enhance(float(rng.choice([0.6, 0.75, 1.3, 1.5])))
    if kind == "cropped":
        off = rng.uniform(0.05, 0.1) * np.array(image.size)
        corner = rng.uniform(0, 1, 2) * off
        return image.crop(tuple(np.rint([*corner, *(corner + image.size - off)]).astype(int).tolist()))
    return image


def of_copies(
    by: str, features: np.ndarray, pictures: np.ndarray, names: list[str], planted: dict[tuple[str, str], str]
) -> Row:
    """By what `clean` does, with these features."""
    from lilliput.gallery.copies import SURE, likenesses

    scored = {(names[a], names[b]): score for (a, b), score in likenesses(features, pictures).items()}
    return _row_of_pairs(by, scored, SURE, planted, len(names))


def by_hash(folder: Path, names: list[str], planted: dict[tuple[str, str], str]) -> Row:
    """By imagehash: the fewest bits that differ, of an image as it is or mirrored, as mirrored ones are planted too."""
    import imagehash

    def bits(image: Image.Image) -> int:
        return int(str(imagehash.phash(image)), 16)

    plain, mirrored = [], []
    for name in names:
        with Image.open(folder / name) as image:
            plain.append(bits(image.convert("RGB")))
            mirrored.append(bits(ImageOps.mirror(image.convert("RGB"))))
    hashes, turned = np.array(plain, np.uint64), np.array(mirrored, np.uint64)
    scored: dict[tuple[str, str], float] = {}
    for row in range(len(names)):
        later = np.arange(row + 1, len(names))
        apart = np.minimum(*(np.bitwise_count(hashes[row] ^ other[later]) for other in (hashes, turned)))
        near = apart <= 2 * BITS
        scored |= {(names[row], names[b]): -float(d) for b, d in zip(later[near], apart[near], strict=True)}
    return _row_of_pairs("imagehash (and mirrored)", scored, -BITS, planted, len(names))


def _row_of_pairs(
    by: str, scored: dict[tuple[str, str], float], sure: float, planted: dict[tuple[str, str], str], images: int
) -> Row:
    sought = {tuple(sorted(pair)) for pair in planted}
    pairs = list(scored)
    right = np.array([tuple(sorted(pair)) in sought for pair in pairs])
    score = np.array([scored[pair] for pair in pairs])
    return _row("copies", ", ".join(KINDS), by, images, len(sought), right, score, score >= sure)


def of_the_rest(
    by: str, features: np.ndarray, names: list[str], strangers: Sequence[tuple[str, np.ndarray]], seed: int
) -> Iterator[Row]:
    """Strangers and changed labels, without the copies."""
    from lilliput.gallery.doubts import WRONG, doubted
    from lilliput.gallery.strays import strangeness, strays

    own = np.array(["/copy-" not in name for name in names])
    features, kept = features[own], [name for name in names if "/copy-" not in name]
    for name, strange in strangers:
        score = strangeness(np.concatenate([features, strange]))
        right = np.arange(len(score)) >= len(features)
        flagged = np.isin(np.arange(len(score)), strays(score))
        yield _row("off topic", name, by, len(score), len(strange), right, score, flagged)
        twentieth = np.argsort(np.argsort(-score)) < len(score) // 20
        yield _row("off topic", f"{name}, first 5 %", by, len(score), len(strange), right, score, twentieth)
    classes = sorted({name.split("/")[0] for name in kept})
    truth = np.array([classes.index(name.split("/")[0]) for name in kept])
    for share in CHANGED:
        rng = np.random.default_rng(seed)
        wrong = np.zeros(len(truth), bool)
        wrong[rng.permutation(len(truth))[: round(share * len(truth))]] = True
        labels = np.where(wrong, (truth + rng.integers(1, len(classes), len(truth))) % len(classes), truth)
        doubt = doubted(features, labels, len(classes))
        flagged = (doubt.own < WRONG * doubt.chance) & (doubt.guess != labels)
        told = f"{share:.0%} of the labels; {(doubt.guess == labels).mean():.0%} told right"
        yield _row("labels", told, by, len(labels), wrong.sum(), wrong, -doubt.own, flagged)


def _row(
    problem: str, planted: str, by: str, images: int, count: int, right: Any, score: np.ndarray, flagged: np.ndarray
) -> Row:
    """`right` [n], `score` [n] (higher: surer) and `flagged` [n] of what was scored; the rest was not found."""
    order = np.argsort(-score, kind="stable")
    hits = right[order]
    average = (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].sum() / count
    found = int(flagged.sum())
    precision, recall = right[flagged].mean() if found else 0.0, right[flagged].sum() / count
    return Row(
        problem, planted, by, images, int(count), found, *(round(float(v), 3) for v in (precision, recall, average))
    )


def _strangers(folder: Path, into: Path) -> Path:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    into = into.with_name(folder.name if folder.name not in ("train", "test") else folder.parent.name)
    into.mkdir()
    for row in spaced(len(files), STRANGERS):
        shutil.copy(files[row], into / files[row].name)
    return into


def _flat(pictures: np.ndarray) -> np.ndarray:
    """Raw pixels as features [N, 1024], each picture without its mean and of one contrast."""
    rows = pictures.reshape(len(pictures), -1).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    return rows / np.maximum(rows.std(1, keepdims=True), 1)


def table(rows: Sequence[Row]) -> str:
    """A line for each, in markdown."""
    head = "| problem | planted | by | images | planted | found | precision | recall | average precision |"
    lines = [head, "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


if __name__ == "__main__":
    main()
