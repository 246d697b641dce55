"""Images in the folders of a user: which files there are, which to train and to test by, in which classes."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lilliput.data.manifest import fingerprint
from lilliput.data.store import Images, spaced
from lilliput.data.table import labels_in
from lilliput.data.walk import File, Walk, refuse_ours
from lilliput.errors import BadData
from lilliput.system.progress import say

SPLITS = {  # what people call the folders of a split, in small letters and without the words of ENDING
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation"),
    "unlabelled": ("unlabeled", "unlabelled", "unsupervised", "pool"),
}
ENDING = re.compile(r"[-_ ]?(data|dir|folder|images|set)$")


class Part(NamedTuple):
    """Some of the files below a folder, with their classes where they have any."""

    root: Path
    files: list[File]
    classes: list[str] | None = None
    named: dict[str, str] | None = None  # file -> class, where a table says so and not the first folder

    @property
    def labels(self) -> list[int] | None:
        if self.classes is None:
            return None
        numbers = {name: label for label, name in enumerate(self.classes)}
        named = self.named
        return [numbers[_class_of(file) if named is None else named[file.name]] for file in self.files]

    def limited(self, limit: int | None) -> "Part":
        """At most so many of the files, evenly spaced."""
        return self._replace(files=[self.files[row] for row in spaced(len(self.files), limit)])


class Parts(NamedTuple):
    """What a folder gives: images to learn from; labelled ones, with a split or (no test) without."""

    pool: Part
    train: Part | None = None
    test: Part | None = None


class Layout(NamedTuple):
    """The folders of a split."""

    train: Path
    test: Path
    unlabelled: Path | None


def parts_of(root: Path, walk: Walk, *, table: Path | None = None, classed: bool = False) -> Parts:
    """What there is in `root`, checked before anything is decoded.

    `table`: a file that says the classes; `classed`: where there is no split, its folders are classes.
    """
    if table is not None:
        parts, remarks = _tabled(root, table, walk)
        for remark in remarks:
            say(remark)
        return parts
    layout = layout_of(root)
    if layout is None:
        whole = _classified(root, walk) if classed else None
        pool = Part(root, images_below(root, walk) if whole is None else whole.files)
        return Parts(pool, whole)
    train, test = _classified(layout.train, walk), _classified(layout.test, walk)
    for more, less, why in ((test, train, "nothing to learn it from"), (train, test, "it cannot be judged")):
        alone = set(more.classes or ()) - set(less.classes or ())
        refuse_classes(alone, f"in {more.root} but not in {less.root}: {why}{_after(walk)}")
    if layout.unlabelled is None:
        return Parts(Part(train.root, train.files), train, test)
    pool = _joined(root, train, layout.unlabelled, walk)
    say(f"{layout.unlabelled}: {len(pool.files) - len(train.files)} images without labels join the pool")
    return Parts(pool, train, test)


def _tabled(root: Path, table: Path, walk: Walk) -> tuple[Parts, list[str]]:
    whole = Part(root, images_below(root, walk))
    named, remarks = labels_in(table, [file.name for file in whole.files])
    labelled = [file for file in whole.files if file.name in named]
    return Parts(whole, Part(root, labelled, sorted(set(named.values())), named)), remarks


def _joined(root: Path, train: Part, unlabelled: Path, walk: Walk) -> Part:
    """The training images and those without labels beside them, as one pool."""
    places = {train.root: train.files, unlabelled: walk.images(unlabelled)}
    return Part(root, sorted(_below(place.name, file) for place, files in places.items() for file in files))


def _below(place: str, file: File) -> File:
    return file._replace(name=f"{place}/{file.name}")


def layout_of(root: Path, *, quiet: bool = False) -> Layout | None:
    """The folders of a split in `root`, whatever the case of their names; None where there are none.

    A validation folder judges where there is no other. Raises BadData for half a split, and for two of a kind.
    """
    found = {kind: [entry for entry in _folders(root) if _kind_of(entry.name) == kind] for kind in SPLITS}
    if not (found["train"] or found["test"]):
        return None
    for folders in found.values():
        if len(folders) > 1:
            raise BadData(f"{folders[0]} and {folders[1].name} are of one kind; leave one of them where it is")
    train, test, validation, unlabelled = (folders[0] if folders else None for folders in found.values())
    judging = test or validation
    for here, absent in ((train, "test"), (judging, "train")):
        if here is not None and (judging if here is train else train) is None:
            raise BadData(
                f"{root} has {here.name}/ but no {absent}/: add {root / absent / '<class>'}, "
                f"or give {here} itself, to learn without labels or to split it by --test-share"
            )
    if validation and not quiet:
        say(f"{validation}: judges, as there is no test folder" if judging is validation else f"{validation}: not used")
    return Layout(train, judging, unlabelled)  # type: ignore[arg-type]  # neither is None here


def _kind_of(name: str) -> str | None:
    plain = ENDING.sub("", name.lower())
    return next((kind for kind, names in SPLITS.items() if plain in names), None)


def _folders(root: Path) -> list[Path]:
    # os.path's own test, unlike an entry's, takes a link in a circle for nothing rather than for an error.
    return sorted(Path(entry) for entry in _entries(root) if os.path.isdir(entry) and not entry.name.startswith("."))


def images_below(root: Path, walk: Walk) -> list[File]:
    """All images below `root`, at any depth, sorted by name; BadData when there are none."""
    files = walk.images(root)
    if not files:
        raise BadData(f"no images in {root}, at any depth{_after(walk)}")
    return files


def _classified(folder: Path, walk: Walk) -> Part:
    """The images in the class folders of `folder`."""
    _refuse_within(folder, _folders(folder))
    files = walk.images(folder)
    loose = [file.name for file in files if "/" not in file.name]
    files = [file for file in files if "/" in file.name]
    if not files and loose:
        raise BadData(
            f"{len(loose)} images directly in {folder} have no class: move them to {folder / '<class>'}, name their "
            f"classes in a table (--labels), or give {folder} itself to learn without labels"
        )
    if not files:
        raise BadData(f"no images in the class folders of {folder}{_after(walk)}")
    if loose:
        say(f"passed over {len(loose)} images directly in {folder}, which have no class: {loose[0]!r} ...")
    return Part(folder, files, sorted({_class_of(file) for file in files}))


def _after(walk: Walk) -> str:
    return f"; {told}" if (told := walk.told()) else ""


def _refuse_within(folder: Path, roots: list[Path]) -> None:
    """Class folders that are links to where others lie: the same images would be of two classes."""
    place = folder.resolve()
    seen: dict[Path, Path] = {}
    for root in sorted(roots, key=lambda root: len(root.resolve().parts)):
        own = root.resolve()
        around = next((seen[above] for above in (own, *own.parents) if above in seen), None)
        if around or own in (place, *place.parents):
            other = f"class folder {around}" if around else f"folder {own}"
            raise BadData(f"class folder {root} and {other} hold the same images; remove the link")
        seen[own] = root


def refuse_classes(classes: set[str], why: str) -> None:
    """BadData naming some of the classes, if there are any."""
    if classes:
        names = ", ".join(map(repr, sorted(classes)[:5])) + (", ..." if len(classes) > 5 else "")
        raise BadData(f"class {names} is {why}")


def names_of(store: Images) -> list[str] | None:
    """The file of every row, below the store's source; None where it holds no folder, or the folder has changed."""
    root, skipped = Path(store.manifest["source"]), {entry["file"] for entry in store.manifest["skipped"]}
    if not root.is_dir():
        return None
    count = len(store) + len(skipped)
    for part in _likely_parts(root, store.manifest):
        taken = part.limited(count)
        if store.folder.name.endswith(fingerprint(key_of(taken, store.image_size))):
            return [file.name for file in taken.files if file.name not in skipped]
    return None


def _likely_parts(root: Path, manifest: dict) -> Iterator[Part]:
    """What a store may have been prepared from: a pool is of all images, or of those in classes, or of two folders."""
    if table := manifest.get("labels_from"):
        with suppress(BadData, OSError):
            found, _ = _tabled(root, Path(table), Walk())
            yield found.train if manifest["classes"] else found.pool  # type: ignore[misc]  # labelled, as it says
        return
    if manifest["classes"] is None:
        with suppress(BadData):
            yield Part(root, images_below(root, Walk()))
        with suppress(BadData):
            if (layout := layout_of(root, quiet=True)) and layout.unlabelled:
                yield _joined(root, _classified(layout.train, Walk()), layout.unlabelled, Walk())
    with suppress(BadData):
        part = _classified(root, Walk())
        yield part if manifest["classes"] else part._replace(classes=None)


def key_of(part: Part, size: int) -> list:
    """What determines the content of a store of the part at this image size."""
    labels = [] if part.named is None else [part.labels]
    return [str(part.root), part.files, part.classes, size, *labels]


def existing_folder(path: str | os.PathLike) -> Path:
    """The folder's full path; BadData where there is none, none that can be read, or one of Lilliput's own."""
    folder = Path(os.path.expanduser(path))
    if not os.path.exists(folder):
        raise BadData(f"no folder {folder}")
    if not os.path.isdir(folder):
        raise BadData(f"{folder} is no folder; unpack it if it is an archive")
    _entries(folder)
    refuse_ours(folder)
    return folder.resolve()


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise BadData(f"cannot read {folder}: {error.strerror}") from error


def _class_of(file: File) -> str:
    return file.name.split("/", 1)[0]
