"""Oxford-IIIT Pet: 7,349 photographs of 37 breeds of cats and dogs, about 100 of each to train and 100 to test.

Parkhi, Vedaldi, Zisserman, Jawahar, CVPR 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/.
"""

import os
from pathlib import Path

from lilliput.data.store import Data
from lilliput.datasets import _fetched, _files
from lilliput.errors import BadData

ADDRESS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
REMOTES = (
    _fetched.Remote(f"{ADDRESS}/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c", 900_000_000, 1_000_000_000),
    _fetched.Remote(f"{ADDRESS}/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f", 30_000_000, 200_000_000),
)
KIND = _fetched.Kind("pets", REMOTES, "oxford-iiit-pet", ["images", "annotations/trainval.txt", "annotations/test.txt"])


def prepare(
    *, folder: str | os.PathLike | None = None, image_size: int | None = None, limit: int | None = None
) -> Data:
    """Stores of Oxford-IIIT Pet, from `folder`, else from a download; the training images are the pool."""
    place = _fetched.place_of(KIND, folder)
    train, test = (_listed(place / "annotations" / f"{split}.txt") for split in ("trainval", "test"))
    classes = [name for _, name in sorted({*train.values(), *test.values()})]
    parts = (
        _files.labelled(place / "images", {file: name for file, (_, name) in listed.items()}.get, classes)
        for listed in (train, test)
    )
    return _files.data_of(KIND.name, _files.learned(*parts), image_size=image_size, limit=limit)


def _listed(table: Path) -> dict[str, tuple[int, str]]:
    """File -> number and name of its breed; a line has name, number, species and number within that."""
    rows = [line.split() for line in _files.text_of(table).splitlines() if line and not line.startswith("#")]
    if odd := [row for row in rows if len(row) < 2 or not row[1].isdecimal()]:
        raise BadData(f"{table} has a line {' '.join(odd[0])!r:.80} without the number of a breed; get it again")
    return {f"{row[0]}.jpg": (int(row[1]), row[0].rpartition("_")[0].replace("_", " ")) for row in rows}
