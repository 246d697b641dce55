"""What saved encoders are of use for: features of a folder's images, the nearest of them, what to look at in it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lilliput.errors import BadSetting
from lilliput.system.door import door


@door
def embed(
    run: str | os.PathLike,
    folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the features of all images below a folder, by a run's last encoder or an encoder's file, at its image size.

    `out` ends in .npy, .npz or .parquet (extra `parquet`); docs/use.md says what is in it. Images that cannot be read
    are passed over, counted, and named in a table beside it. What was computed is kept: the same call goes on after an
    interruption, and later looks at new and changed files alone. Returns the files written.
    """
    from lilliput.gallery.index import gather
    from lilliput.gallery.lens import open_lens
    from lilliput.gallery.writing import check_out, write_features

    check_out(Path(out))
    return write_features(gather(folder, open_lens(run, device, plan)), Path(out))


@door
def search(
    run: str | os.PathLike,
    image: str | os.PathLike,
    folder: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    k: int = 20,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
) -> list[Path]:
    """The `k` images of a folder that are nearest to an image by a run's last encoder: a picture and a .json.

    Features of the folder are kept, as of `embed`. `out` is the picture's file (.png), outside the folder.
    """
    from lilliput.gallery.index import gather
    from lilliput.gallery.lens import open_lens
    from lilliput.gallery.search import look_at, neighbours, write_search

    image = Path(os.path.expanduser(image))
    out = Path(out) if out else _beside(run, "search") / f"{image.stem}.png"
    if out.suffix != ".png":
        raise BadSetting(f"--out {out} does not end in .png")
    _outside(out, folder)
    lens = open_lens(run, device, plan)
    features = look_at(image, lens)  # first: what cannot be read is refused before a folder is looked through
    index = gather(folder, lens)
    return write_search(image, index, neighbours(features, index, k), str(run), out)


@door
def clean(
    run: str | os.PathLike,
    folder: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    labels: str | os.PathLike | None = None,
    device: str | None = None,
    plan: Mapping[str, Any] | None = None,
) -> list[Path]:
    """What to look at in a folder of images before training on it: copies, images off the topic, and by labels those
    that are likely labelled wrong, and hard ones. Nothing is deleted.

    `labels`: "folders" for classes by the folders' names, or a table of file and label. Returns clean.html, a page with
    thumbnails, and clean.csv in the folder `out`.
    """
    from lilliput.gallery.clean import clean
    from lilliput.gallery.index import gather
    from lilliput.gallery.lens import open_lens
    from lilliput.gallery.page import write_findings

    out = Path(out) if out else _beside(run, "clean")
    _outside(out, folder)
    index = gather(folder, open_lens(run, device, plan))
    return write_findings(clean(index, labels), index, str(run), out)


def _beside(run: str | os.PathLike, name: str) -> Path:
    """A folder within the run's."""
    path = Path(os.path.expanduser(run))
    return (path if path.is_dir() else path.parent) / name


def _outside(out: Path, folder: str | os.PathLike) -> None:
    """BadSetting for results among the images, where they would be taken for some."""
    if Path(os.path.expanduser(folder)).resolve() in out.resolve().parents:
        raise BadSetting(f"--out {out} is among the images of {folder}; name a place outside")
