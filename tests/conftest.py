"""One thread (two test runs on one machine would fight over cores), a home of its own for every test, few scenes."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """48 unlabelled scenes of 32 px, 200 to train probes on and 100 to test."""
    from lilliput import catalog

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalog.dataset("scenes")(image_size=32, limit=48, train_count=200, test_count=100)
