"""What a run spends is counted over all its interruptions."""

import itertools
import signal
import time

import pytest

from lilliput import api
from lilliput.system import signals
from lilliput.training.record import read_log
from tests.conftest import NARROW


def test_what_an_epoch_cost_before_it_was_broken_off_is_counted(scenes, tmp_path, monkeypatch):
    out, steps = tmp_path / "run", itertools.count(1)

    def asked():
        time.sleep(0.3)
        return signal.SIGTERM if next(steps) == 2 else None

    monkeypatch.setattr(signals, "asked", asked)
    options = {**NARROW, "epochs": 1}
    with pytest.raises(signals.Stopped, match="and 1 steps"):
        api.pretrain("rotnet", "shufflenet_v2", scenes, out, **options)
    api.pretrain("rotnet", "shufflenet_v2", scenes, out, **options)
    (row,) = read_log(out)
    assert row["total_seconds"] >= row["seconds"] > 0.6
