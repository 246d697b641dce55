"""What computes and on what: versions, processor, cores, memory.

torch is imported only where it is asked for: listing data sets need not wait for it.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from lilliput._version import version
from lilliput.system.groups import left_by_groups

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MEMINFO, STATUS = Path("/proc/meminfo"), Path("/proc/self/status")


def versions() -> dict[str, str]:
    """Versions of what computes."""
    import numpy as np
    import timm
    import torch
    import torchvision

    return {
        "lilliput": version,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
    }


def this_machine() -> dict[str, Any]:
    """What it computes on: system, processor, threads, allocator, accelerator."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "allocator": allocator(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """The commit of this checkout, "+" when it has changes; None for an installed package."""
    if not shutil.which("git"):
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, check=False).stdout.decode(errors="replace").strip()

    if not git("ls-files", "machine.py"):
        return None
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def command() -> str:
    """The command line that this process was started by."""
    return " ".join(sys.argv)


def allocator() -> str:
    """What the environment asks of the allocators of memory; empty where they work as they come."""
    names = ("GLIBC_TUNABLES", "LD_PRELOAD", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    return " ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))


def processor() -> str:
    """The processor's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def return_freed_memory() -> None:
    """To the system; glibc's allocator would keep it, for each thread apart."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def ran_out(error: BaseException) -> bool:
    """Whether this is what torch, numpy or Python raise for want of memory."""
    import torch

    messages = ("can't allocate memory", "could not create a primitive")  # the second by oneDNN, which says no more
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in messages)


def available_bytes(device: str = "cpu") -> int:
    """What the device could still give; on a CPU the page cache counted in, and no more than a container, a job or a
    limit of this process leaves."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    bounds = []
    try:
        bounds.append(1024 * _kib(MEMINFO, "MemAvailable"))
    except (OSError, StopIteration):  # no Linux
        import psutil

        bounds.append(psutil.virtual_memory().available)
    bounds += left_by_groups()
    with suppress(OSError, StopIteration, AttributeError):  # the last where there is no such module
        for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
            if (allowed := resource.getrlimit(limit)[0]) != resource.RLIM_INFINITY:
                bounds.append(max(0, allowed - 1024 * _kib(STATUS, field)))
    return min(bounds)


def peak_bytes() -> int:
    """The most memory that this process has held, since its peak was reset; 0 where the system does not tell."""
    with suppress(OSError, StopIteration):
        return 1024 * _kib(STATUS, "VmHWM")
    if resource is None:
        import psutil

        return getattr(psutil.Process().memory_info(), "peak_wset", 0)
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB elsewhere
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reset_peak() -> None:
    """Start counting anew what this process holds at most, where the system can."""
    return_freed_memory()  # what earlier work has freed is not this work's
    clear = Path("/proc/self/clear_refs")
    with suppress(OSError):
        if clear.exists():
            clear.write_text("5", encoding="utf-8")  # proc(5): reset the peak of resident memory


def _kib(path: Path, field: str) -> int:
    return int(
        next(
            line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith(field)
        ).split()[1]
    )
