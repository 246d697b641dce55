"""What notebooks give is put right or refused by its name, before any work."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lilliput import api, catalog
from lilliput.errors import BadSetting
from lilliput.system.door import door, put_right
from tests.conftest import labelled_folder


@pytest.mark.parametrize("given", [3, 3.0, np.int64(3), np.float32(3), np.array(3)])
def test_a_whole_number_is_one_whatever_its_kind(given):
    taken = put_right("epochs", given)
    assert taken == 3 and type(taken) is int
    assert put_right("seeds", given) == [3]


@pytest.mark.parametrize("given", [1.5, "3", True, float("nan"), float("inf"), 0, -1, [3], b"3"])
def test_what_is_no_whole_number_is_refused_by_name(given):
    with pytest.raises(BadSetting, match=r"^epochs .* is not a whole number of 1 or more"):
        put_right("epochs", given)


def test_one_name_is_a_list_of_one_and_none_is_refused():
    """A string was taken for a list of letters: no technique 's'."""
    assert put_right("techniques", "simclr") == ["simclr"]
    assert put_right("probes", ("linear", "knn")) == ["linear", "knn"]
    for odd in ([], [3]):
        with pytest.raises(BadSetting, match=r"^techniques"):
            put_right("techniques", odd)


def test_a_folder_may_begin_with_a_tilde(monkeypatch, tmp_path):
    """--out=~/run made a folder called ~ in the current one: rm -rf ~ is what follows."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("data", "out", "pool", "folder", "judge", "data_folder"):
        assert put_right(name, "~/photos") == str(tmp_path / "photos")
    assert door(lambda out: out)(Path("~/run")) == str(tmp_path / "run")


def test_the_jobs_have_that_door(tmp_path):
    with pytest.raises(BadSetting, match=r"^seed 1\.5"):
        api.pretrain("simclr", "resnet18", seed=1.5)
    with pytest.raises(BadSetting, match=r"^techniques is empty"):
        api.study(techniques=[])
    with pytest.raises(BadSetting, match=r"^sample -1"):
        api.verify(tmp_path, sample=-1)


def test_options_take_numbers_of_numpys_and_whole_floats():
    options = {"output": 64.0, "temperature": np.float64(0.5)}
    dealt = catalog.sort_options(options, techniques=["simclr"], backbones=["resnet18"])["techniques"]["simclr"]
    assert dealt == {"output": 64, "temperature": 0.5}
    assert [type(value) for value in dealt.values()] == [int, float]


def test_a_script_without_its_guard_is_told_once(tmp_path):
    """Every job was tried four times, the script run sixteen times more, a thousand lines, and rc 0."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import lilliput\nprint('begun', flush=True)\nlilliput.study({str(labelled_folder(tmp_path))!r}, "
        f"{str(tmp_path / 'study')!r}, techniques='simclr', backbones='shufflenet_v2', image_size=32, epochs=1, "
        "batch=16, workers=2, plan=dict(precision='fp32', threads=1, channels_last=True))\n",
        encoding="utf-8",
    )
    named = {**os.environ, "PYTHONPATH": str(Path(api.__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=named)
    assert done.returncode == 1 and done.stdout.count("begun") <= 3  # itself and two workers
    assert done.stderr.count('put what it does under if __name__ == "__main__":') == 1
