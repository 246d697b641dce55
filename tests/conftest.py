"""One thread (two test runs on one machine would fight over cores), a home of its own for every test, few scenes."""

import pytest
import torch

from lilliput.system.plan import Plan

torch.set_num_threads(1)

CPU = Plan("cpu", "fp32", channels_last=False)
PLAN = {"precision": "fp32", "channels_last": True}  # fixed, so that no test measures one


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """48 unlabelled scenes of 32 px, 200 to train probes on and 100 to test."""
    from lilliput import catalog

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalog.dataset("scenes")(image_size=32, limit=48, train_count=200, test_count=100)


def pytest_terminal_summary(terminalreporter):
    """How many inputs the fuzzing tried, by kind: workers' own words would be lost."""
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    counts = [value for report in reports for name, value in report.user_properties if name == "inputs"]
    if counts and terminalreporter.config.option.markexpr == "heavy":
        terminalreporter.section("inputs tried")
        for kind, tried, seconds, slowest, mib in counts:
            terminalreporter.line(f"{kind:10}{tried:7,} in {seconds:6.1f} s, slowest {slowest} s, {mib} MiB more")
        terminalreporter.line(f"{'all':10}{sum(tried for _, tried, *_ in counts):7,}")
