"""A finished study of two techniques, and rows of results by hand."""

import pandas as pd
import pytest

from lilliput import api
from tests.conftest import SMALL

SHORT = {**SMALL, "epochs": 2, "width": 0.5}


@pytest.fixture(scope="module")
def small_study(scenes, tmp_path_factory):
    """Its folder and what failed, which is nothing."""
    out = tmp_path_factory.mktemp("study") / "s"
    return api.study(scenes, out, techniques=["simclr", "split_brain"], backbones=["shufflenet_v2"], **SHORT)


def row(*, epoch=5, metric="accuracy", value=0.5, technique="simclr", backbone="resnet18", seed=0, **others):
    known = {"technique": technique, "backbone": backbone, "seed": seed, "epoch": epoch, "probe": "linear"}
    return known | {"metric": metric, "value": value, "judge": "stl10"} | others


def rows_of_run(values, *, metric="accuracy", **others):
    """A row for each epoch of `values`, epoch -> value."""
    return [row(epoch=epoch, value=value, metric=metric, **others) for epoch, value in values.items()]


def frame(*runs):
    return pd.DataFrame([row for rows in runs for row in rows])
