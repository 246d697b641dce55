"""Where every technique, backbone, probe and data set has its file: in this package, in an installed one, or by path.

This package's folders are listed. Others offer theirs by the entry points lilliput.techniques, lilliput.backbones,
lilliput.probes and lilliput.datasets. Files given by path stand in an environment variable, which child processes
inherit. Nothing is imported to find a file.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

from lilliput.errors import BadSetting

KINDS = ("techniques", "backbones", "probes", "datasets")
HOME = Path(__file__).parents[1]
# they stand among techniques in the rows
BASELINES = ("pixels", "random_init", "random_init_measured", "supervised", "imagenet")
VARIABLE = "LILLIPUT_USE"  # kind=/absolute/path.py, several joined as in PATH
IMPORTED: dict[
    str, tuple[str, str]
] = {}  # a user's own module -> its file, and the digest of the text that was imported


@dataclass(frozen=True)
class Location:
    """A file, the module that it is imported as, and what of it is meant where an entry point says so."""

    file: Path
    module: str
    symbol: str | None = None
    is_own: bool = True  # the user's, not this package's


def locations(kind: str) -> dict[str, Location]:
    """Name -> location of all things of a kind; this package's own names come before all others.

    BadSetting where a technique of somebody's own has the name of a baseline, whose rows it would take.
    """
    own = {**_offered(kind, tuple(sys.path)), **given(kind)}
    if kind == "techniques" and (taken := sorted(set(own) & set(BASELINES))):
        raise BadSetting(f"{own[taken[0]].file}: {taken[0]!r} is the name of a baseline; rename the technique")
    return {**own, **_listed(kind)}


def names(kind: str) -> list[str]:
    """All things of a kind."""
    return sorted(locations(kind))


def singular(kind: str) -> str:
    """ "data set" of "datasets", and so on."""
    return "data set" if kind == "datasets" else kind.removesuffix("s")


def given(kind: str) -> dict[str, Location]:
    """The files that were given by path, in this process or in a parent of it."""
    return {
        path.stem: Location(path, f"lilliput.{kind}.{path.stem}") for group, path in _given_paths() if group == kind
    }


def digest_of(file: Path) -> str:
    """SHA-256 of a file's text as it is now; BadSetting where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise BadSetting(f"{file} cannot be read ({error.strerror})") from None


def imported_digest(location: Location) -> str | None:
    """SHA-256 of the text that a user's own module was imported from; None where it is not imported from that file."""
    file, digest = IMPORTED.get(location.module, (None, None))
    return digest if location.module in sys.modules and file == str(location.file) else None


def give(kind: str, path: Path) -> None:
    """Let a file be known by its stem from now on, in child processes too."""
    if os.pathsep in str(path):
        raise BadSetting(f"{path} has a {os.pathsep!r} in its path; move it")
    standing = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = os.pathsep.join(filter(None, [standing, f"{kind}={path}"]))


def _listed(kind: str) -> dict[str, Location]:
    files = [path for path in (HOME / kind).glob("*.py") if not path.stem.startswith("_")]
    return {path.stem: Location(path, f"lilliput.{kind}.{path.stem}", is_own=False) for path in files}


def _given_paths() -> list[tuple[str, Path]]:
    pairs = []
    for word in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        kind, _, path = word.partition("=")
        if kind not in KINDS or not path:
            raise BadSetting(f"{VARIABLE} holds {word!r}; each part must be KIND=PATH, KIND of {', '.join(KINDS)}")
        pairs.append((kind, Path(path)))
    return pairs


@cache
def _offered(kind: str, path: tuple[str, ...]) -> dict[str, Location]:
    """By the entry points of the packages that are installed along `path`, which is sys.path."""
    offered = {}
    for point in importlib.metadata.entry_points(group=f"lilliput.{kind}"):
        try:
            module, symbol = point.module, point.attr or None
        except AttributeError:  # what another package wrote there is no name of a module
            continue
        if file := _file_of(module):
            offered[point.name] = Location(file, module, symbol)
    return offered


def _file_of(module: str) -> Path | None:
    """Found by a walk down its packages, none of which is imported."""
    first, *rest = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(first)
    except ValueError:  # a module that was made by hand
        return None
    name = first
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


class _TextLoader(SourceFileLoader):
    """Imports a file's text as it is now, and remembers its digest.

    Never its bytecode, which knows its text by size and whole seconds: that of a text just edited may be older.
    """

    def get_code(self, fullname: str) -> CodeType:
        text = self.get_data(self.path)
        IMPORTED[fullname] = self.path, hashlib.sha256(text).hexdigest()
        return self.source_to_code(text, self.path)


class _GivenFiles:
    """Lets `import lilliput.techniques.pairs` find a file given by path, as if it were in the folder."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        package, *room = name.split(".")
        if package != "lilliput" or len(room) != 2 or room[0] not in KINDS:
            return None
        location = given(room[0]).get(room[1])
        if location is None:
            return None
        loader = _TextLoader(name, str(location.file))
        return importlib.util.spec_from_file_location(name, location.file, loader=loader)


sys.meta_path.append(_GivenFiles)  # after all others: this package's own files come first
