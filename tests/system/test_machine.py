"""What the machine is asked, and what is not imported for it."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import lilliput
from lilliput.system.machine import available_bytes, cores, peak_bytes, reset_peak

ROOT = Path(lilliput.__file__).parents[1]
DATASETS = ("folder", "stl10", "cifar10", "cifar100", "scenes")
WITHOUT_POSIX = """
import sys
sys.modules["resource"] = sys.modules["fcntl"] = None  # importing them raises ImportError, as on Windows
from lilliput.system import cost, files, locks, machine
assert not locks.has_locks() and machine.available_bytes() > 0 and machine.peak_bytes() >= 0
with locks.alone(__import__("pathlib").Path(".")):
    pass
"""


def python(code):
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_listing_datasets_does_not_import_torch():
    imports = "".join(f"import lilliput.datasets.{name}\n" for name in DATASETS)
    python(f"import sys\n{imports}assert 'torch' not in sys.modules")


def test_the_machine_is_asked_without_torch():
    python("import sys, lilliput.system.machine\nassert 'torch' not in sys.modules")


def test_a_system_without_resource_and_fcntl_will_do():
    python(WITHOUT_POSIX)


def test_there_is_a_core_and_some_memory():
    assert cores() >= 1 and 0 < available_bytes() <= 2**63


def test_the_peak_of_memory_grows_with_what_is_held():
    reset_peak()
    before = peak_bytes()
    np.ones(2**26, np.uint8)
    assert peak_bytes() >= before + 2**25
