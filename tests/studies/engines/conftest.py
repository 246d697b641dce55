"""Engines that are installed, by the names of their places; a cluster of two machines on this one."""

import os
from pathlib import Path

import pytest

import lilliput
from lilliput.studies.engines import Needs, Processes, Ray, Slurm

ROOT = str(Path(lilliput.__file__).parents[1])
LITTLE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
QUEUE = {"cluster": "local", "time": 10}


@pytest.fixture
def workers_find_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")])))


@pytest.fixture
def cluster(workers_find_tests, monkeypatch):
    """Two machines of one processor each, as far as Ray knows; the second may be taken away."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={**LITTLE, "include_dashboard": False})
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        cluster.add_node(**LITTLE)
        yield cluster
    finally:
        cluster.shutdown()


def installed(place, request):
    """The engine of a place; a test that asks for one whose library is missing skips and says so."""
    if place == "slurm":
        pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
        request.getfixturevalue("workers_find_tests")
        return Slurm(QUEUE)
    if place == "ray":
        request.getfixturevalue("cluster")
        return Ray(None, Needs())
    return Processes({"in turn": 1, "side by side": 2}[place])


AWAY = ["slurm", pytest.param("ray", marks=pytest.mark.heavy)]
MANY = ["side by side", *AWAY]
ALL = ["in turn", *MANY]
