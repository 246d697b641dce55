"""Whether this machine is ready: versions, devices, room, rights, what is missing; each in a line, nothing changed."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lilliput._version import version
from lilliput.errors import LilliputError
from lilliput.system.files import home
from lilliput.system.machine import available_bytes, commit, cores, processor

SHOWN = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow", "codecarbon")
FOR_DEVELOPERS = ("bench", "docs", "test")  # extras that nobody else lacks
GIB = 2**30


class Finding(NamedTuple):
    what: str
    said: str
    is_broken: bool = False  # nothing works, or not for long, until that is mended


def examine() -> Iterator[Finding]:
    """What there is to know of this machine, the quick things first."""
    yield Finding(
        "lilliput", f"{version}{f', commit {known}' if (known := commit()) else ''}, {Path(__file__).parents[1]}"
    )
    yield Finding("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}")
    yield _libraries()
    yield from _devices()
    yield _kept()
    yield _writable("here", Path.cwd(), "give --out a folder that is")
    yield _energy()
    yield from _extras()


def _libraries() -> Finding:
    wanted = {name for name, extra in _requirements() if not extra}
    if missing := sorted(name for name in wanted if _version_of(name) is None):
        return Finding("libraries", f"missing: {', '.join(missing)}; pip install lilliput", is_broken=True)
    return Finding("libraries", ", ".join(f"{name} {_version_of(name)}" for name in SHOWN))


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a library that it needs, of another version or for another machine
        yield Finding("devices", f"torch cannot be imported: {_in_a_line(error)}", is_broken=True)
        return
    room = f"{available_bytes() / GIB:.1f} GiB of memory free"
    yield Finding("processor", f"{processor() or platform.machine()}, {cores()} of {os.cpu_count()} cores, {room}")
    asked = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    yield Finding("threads", " ".join([f"{torch.get_num_threads()} of torch's", *asked]))
    names = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    for name in names:
        try:
            torch.ones(2, device=name).sum().item()
            yield Finding(name, f"{torch.cuda.get_device_name(name)}, works" if name != "mps" else "works")
        except RuntimeError as error:
            yield Finding(name, f"does not compute: {_in_a_line(error)}; take --device cpu", is_broken=True)
    if not names:
        yield Finding("devices", "cpu alone")


def _kept() -> Finding:
    """The folder of stores and downloads."""
    try:
        folder = home()
        folder.mkdir(parents=True, exist_ok=True)
    except (LilliputError, OSError) as error:
        return Finding("cache", f"{_in_a_line(error)}; set $LILLIPUT_HOME to a folder that can be made", is_broken=True)
    sizes = [os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names]
    room = f"{sum(sizes) / GIB:.2f} GiB in {len(sizes)} files, {shutil.disk_usage(folder).free / GIB:.1f} GiB free"
    found = _writable("cache", folder, "set $LILLIPUT_HOME to a folder that is")
    return found._replace(said=f"{found.said}; {room}")


def _writable(what: str, folder: Path, way_out: str) -> Finding:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return Finding(what, f"{folder} is not writable ({error.strerror}): {way_out}", is_broken=True)
    return Finding(what, f"{folder} is writable")


def _energy() -> Finding:
    """Whether codecarbon reads power counters of the processor here, or estimates."""
    try:
        from codecarbon.core import cpu

        measured = cpu.is_rapl_available() or cpu.is_powergadget_available()
    except Exception as error:  # another library's, of any kind
        return Finding("energy", f"unknown: codecarbon failed ({_in_a_line(error)})")
    if measured:
        return Finding("energy", "measured by the processor's power counters (codecarbon)")
    return Finding("energy", "estimated from the processor's model: no power counters that may be read (codecarbon)")


def _extras() -> Iterator[Finding]:
    lacking: dict[str, list[str]] = {}
    for name, extra in _requirements():
        if extra and extra not in FOR_DEVELOPERS and _version_of(name) is None:
            lacking.setdefault(extra, []).append(name)
    for extra, names in sorted(lacking.items()):
        yield Finding("no extra", f'{extra} ({", ".join(names)} missing): pip install "lilliput[{extra}]"')


def _requirements() -> Iterator[tuple[str, str | None]]:
    """(library, the extra that it is for or None); none where Lilliput is not installed but lies on the path."""
    try:
        lines = importlib.metadata.requires("lilliput") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        yield re.split(r"[^\w.-]", line, maxsplit=1)[0], extra[1] if extra else None


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
