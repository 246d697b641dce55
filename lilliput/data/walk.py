"""Which files below a folder are images, and what else is there: nothing is passed over without a reason.

Images are known by their content, whatever they are called. Links are followed, to every place once. Hidden files,
thumbnails and bins of file servers, and folders of Lilliput's own (its figures are no photographs) are not entered.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lilliput.errors import BadData
from lilliput.images.decode import EXTENSIONS, PLUGGED, is_image, reads
from lilliput.system.progress import say
from lilliput.system.visible import counted

BINS = ("@eadir", "@__thumb", "@recycle", "#recycle", "$recycle.bin", "__macosx", "lost+found")
OURS = {  # a file that names a folder of ours, and what lies beside it there
    "run.json": ("log.jsonl", "state_", "encoder_"),
    "study.json": ("cells", "results.csv"),
    "manifest.json": ("images.npy",),
}
RAW = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2")  # TIFF with a thumbnail, to Pillow
EXAMPLES = 3  # kinds of files that are named


class File(NamedTuple):
    name: str  # below the root, with forward slashes
    size: int  # bytes
    changed: int  # nanoseconds


class Walk:
    """Walks through folders, and the count of what they passed over."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self.others: Counter[str] = Counter()  # extensions of files that are no images
        self.unreadable: list[OSError] = []
        self._entered: set[tuple[int, int]] = set()  # in this walk

    def images(self, root: Path) -> list[File]:
        """The images below `root`, at any depth, sorted by name; each place is entered once."""
        self._entered = {_place(folder) for folder in root.resolve().parents}  # what is around it is not below it
        found: list[File] = []
        linked: list[str] = []
        to_visit = [""]
        while to_visit or linked:  # os.walk's own stack ends at a thousand folders in one another
            inside = to_visit.pop() if to_visit else linked.pop(0)  # links last: a folder goes by its own name
            entries = self._entries(root, inside)
            if self._is_ours({entry.name for entry in entries}):
                continue
            for entry in entries:
                name = inside + entry.name
                if not self._is_folder(entry):
                    found += self._image(entry, name)
                elif self._is_wanted(entry):
                    (linked if entry.is_symlink() else to_visit).append(f"{name}/")
            linked.sort()
        return sorted(found)

    def tell(self, root: Path, taken: int) -> None:
        """Say in a line what was passed over, if anything was."""
        if told := self.told():
            say(f"{root}: {taken} images taken; {told}")

    def told(self) -> str:
        """What was passed over, by reason."""
        reasons = [counted(count, reason) for reason, count in sorted(self.passed.items())]
        if self.others:
            kinds = [extension for extension, _ in self.others.most_common(EXAMPLES)]
            more = ", ..." if len(self.others) > EXAMPLES else ""
            reasons.append(f"{sum(self.others.values())} not images ({', '.join(kinds)}{more})")
        if self.unreadable:
            first = self.unreadable[0]
            more = ", ..." if len(self.unreadable) > 1 else ""
            reasons.append(f"{len(self.unreadable)} unreadable ({str(first.filename)!r}: {first.strerror}{more})")
        return f"passed over: {', '.join(reasons)}" if reasons else ""

    def _entries(self, root: Path, inside: str) -> list[os.DirEntry]:
        try:
            place = _place(root / inside)
            if place in self._entered:
                self.passed["link(s) to folders that are there already"] += 1
                return []
            self._entered.add(place)
            return list(os.scandir(root / inside))
        except OSError as error:
            self.unreadable.append(error)
            return []

    def _is_ours(self, names: set[str]) -> bool:
        if not is_ours(names):
            return False
        self.passed["folder(s) of Lilliput's own"] += 1
        return True

    def _is_folder(self, entry: os.DirEntry) -> bool:
        return os.path.isdir(entry)  # a link in a circle is none, where the entry's own test raises

    def _is_wanted(self, entry: os.DirEntry) -> bool:
        if entry.name.startswith("."):
            self.passed["hidden"] += 1
        elif entry.name.lower() in BINS:
            self.passed["folder(s) of thumbnails or waste"] += 1
        else:
            return True
        return False

    def _image(self, entry: os.DirEntry, name: str) -> Iterator[File]:
        """The entry as a file, if it is an image; else it is counted."""
        if entry.name.startswith("."):
            self.passed["hidden"] += 1
            return
        try:
            status = entry.stat()
        except OSError:
            self.passed["link(s) to nowhere"] += 1
            return
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            self.passed["pipe(s) or device(s)"] += 1
            return
        extension = os.path.splitext(entry.name)[1].lower()
        if extension in RAW:
            self.passed["raw file(s) of cameras"] += 1
        elif extension in PLUGGED and not reads(extension):
            self.passed[f"{extension}, which wants the plug-in {PLUGGED[extension]}"] += 1
        elif extension in EXTENSIONS or (status.st_size and is_image(entry.path)):
            yield File(name, status.st_size, status.st_mtime_ns)
        else:
            self.others[extension or "no extension"] += 1


def _place(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def is_ours(names: set[str]) -> bool:
    """Whether files of these names make a folder that Lilliput wrote: a run, a study, a store."""
    return any(
        mark in names and any(name.startswith(beside) for name in names for beside in companions)
        for mark, companions in OURS.items()
    )


def refuse_ours(folder: Path) -> None:
    """BadData where the folder is one that Lilliput wrote."""
    with suppress(OSError):
        if is_ours(set(os.listdir(folder))):
            raise BadData(f"{folder} is a folder of Lilliput's own, and holds no images to learn from; name another")
