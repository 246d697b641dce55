"""The doctor's findings on a machine that is well and on some that are not."""

import importlib.metadata
import re
import sys

import pytest
import torch

from lilliput import cli
from lilliput.system import doctor


def findings(found):
    return {finding.what: finding for finding in found}


def test_a_machine_that_is_well_is_told_in_lines_and_exits_with_zero(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "file").write_bytes(bytes(2**20 * 30))
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"torch {torch.__version__.split('+')[0]}" in out
    assert re.search(
        rf"cache +{re.escape(str(tmp_path / 'home'))} is writable; 0.03 GiB in 1 files, [\d.]+ GiB free", out
    )
    assert re.search(r"energy +(measured|estimated)", out) and "BROKEN" not in out


def test_what_is_broken_is_told_and_exits_with_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path / "file" / "home"))
    assert cli.main(["doctor"]) == 1
    assert re.search(r"BROKEN cache .*; set \$LILLIPUT_HOME", capsys.readouterr().out)


def test_a_torch_that_cannot_be_imported_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = doctor._devices()
    assert found.is_broken and "torch cannot be imported" in found.said


def test_a_folder_that_takes_no_file_is_told(tmp_path):
    found = doctor._writable("here", tmp_path / "nowhere", "give --out")
    assert found.is_broken and found.said.endswith("(No such file or directory): give --out")


@pytest.mark.parametrize("installed", [{"torch"}, {"torch", "plotly", "captum"}])
def test_extras_that_are_missing_come_with_the_command(monkeypatch, installed):
    requires = [
        "torch>=2.6",
        'captum>=0.9; extra == "report"',
        'plotly>=6.0; extra == "report"',
        'pytest; extra == "test"',
    ]

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requires)
    monkeypatch.setattr(importlib.metadata, "version", version)
    said = [finding.said for finding in doctor._extras()]
    lacking = 'report (captum, plotly missing): pip install "lilliput[report]"'
    assert said == ([] if "plotly" in installed else [lacking])


def test_a_library_that_is_missing_is_broken(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["torch>=2.6", "no-such-library>=1"])
    found = doctor._libraries()
    assert found.is_broken and found.said == "missing: no-such-library; pip install lilliput"


@pytest.mark.parametrize(("counters", "said"), [(True, "measured"), (False, "estimated")])
def test_energy_is_measured_where_there_are_counters(monkeypatch, counters, said):
    from codecarbon.core import cpu

    monkeypatch.setattr(cpu, "is_rapl_available", lambda *_: counters)
    monkeypatch.setattr(cpu, "is_powergadget_available", lambda *_: False)
    assert doctor._energy().said.startswith(said)
