"""What annotations say of an image, and the image files that they speak of."""

from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lilliput.data.walk import Walk

Corners = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


class Box(NamedTuple):
    """An object in an image."""

    corners: Corners
    name: str  # of its class
    aside: bool = False  # a crowd, or too difficult: neither learned from nor counted in scores


class Annotated(NamedTuple):
    """An image file and the boxes in it."""

    image: Path
    boxes: list[Box]
    size: tuple[int, int] | None  # width and height of the image that the boxes are drawn on, where that is told


class Remarks:
    """What was passed over, by reason, with the first example of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, reason: str, example: str) -> None:
        self.counts[reason] += 1
        self.examples.setdefault(reason, example)

    def __str__(self) -> str:
        return ", ".join(f"{n} {reason} ({self.examples[reason]!r})" for reason, n in sorted(self.counts.items()))


class ImageFiles:
    """The images below a folder, found by what annotations call them: never a file outside of it."""

    def __init__(self, root: Path):
        self.root, self.walk = root, Walk()
        self.by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
        self.by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
        for file in self.walk.images(root):
            path = PurePosixPath(file.name)
            self.by_name[path.name].append(path)
            self.by_stem[path.stem].append(path)

    def __len__(self) -> int:
        return sum(map(len, self.by_name.values()))

    def named(self, said: str, near: Path) -> Path | None:
        """The file of this name, whose path may be told in part; of several the one in the folder `near`, or None."""
        wanted = PurePosixPath(said.replace("\\", "/"))
        return self._only(self.by_name.get(wanted.name, []), wanted, near)

    def beside(self, annotation: Path) -> Path | None:
        """The file that is called as its annotation is but for the ending."""
        return self._only(self.by_stem.get(annotation.stem, []), PurePosixPath(annotation.name), annotation.parent)

    def _only(self, paths: list[PurePosixPath], wanted: PurePosixPath, near: Path) -> Path | None:
        """The path with the longest end in common with what is wanted; of equals the one nearby, or the only one."""
        if not paths:
            return None
        ranks = [(_common_end(path, wanted), (self.root / path).parent == near) for path in paths]
        best = max(ranks)
        return self.root / paths[ranks.index(best)] if ranks.count(best) == 1 else None


def _common_end(path: PurePosixPath, other: PurePosixPath) -> int:
    """In how many folders above the file two paths agree."""
    above = zip(reversed(path.parts[:-1]), reversed(other.parts[:-1]), strict=False)
    count = 0
    for one, another in above:
        if one != another:
            break
        count += 1
    return count
