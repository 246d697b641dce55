"""One thread (two test runs on one machine would fight over cores), and a home of its own for every test."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
