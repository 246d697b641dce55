"""Ray with machines that come and go."""

import threading
from pathlib import Path

import pytest

from lilliput import api
from lilliput.studies import results
from lilliput.studies.engines import Needs, Ray
from lilliput.training.record import read_log
from tests.conftest import PLAN, SMALL, measured_log, saved_bits
from tests.studies.engines.conftest import LITTLE
from tests.studies.engines.duties import wait_for

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
CELL = {
    **SMALL,
    "epochs": 8,
    "plan": {**PLAN, "threads": 1},
    "techniques": ["rotnet"],
    "backbones": ["resnet18"],
    "probes": ["knn"],
    "baselines": [],
}


def test_a_cell_whose_machine_is_taken_away_goes_on_on_another_to_the_same_bits(cluster, scenes, tmp_path, capsys):
    """The job asks for two processors, which only two further machines have."""
    name, out = "rotnet-resnet18-0", tmp_path / "s"
    whole = api.study(scenes, tmp_path / "whole", **CELL)[0] / "cells" / name
    run = out / "cells" / name
    machines = [cluster.add_node(**{**LITTLE, "num_cpus": 2}) for _ in range(2)]

    def take_away():
        wait_for(lambda: (run / "log.jsonl").exists() and len(read_log(run)) >= 2)
        worker = int((run / ".owner").read_text().split()[1])
        above = int(Path(f"/proc/{worker}/stat").read_text().split()[3])
        (its,) = [one for one in machines if one.all_processes["raylet"][0].process.pid == above]
        cluster.remove_node(its, allow_graceful=False)

    thread = threading.Thread(target=take_away)
    thread.start()
    assert api.study(scenes, out, on=Ray(None, Needs(cpus=2)), **CELL) == (out, [])
    thread.join()
    said = capsys.readouterr().err
    assert "another worker goes on with it" in said and "goes on after epoch" in said
    assert saved_bits(run) == saved_bits(whole) and measured_log(run) == measured_log(whole)
    assert len(results.read(out)) == len(results.read(whole.parents[1]))
