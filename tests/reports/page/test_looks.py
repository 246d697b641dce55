"""The sample that encoders are inspected on."""

import shutil

import numpy as np

from lilliput.reports.page import looks
from lilliput.reports.page.looks import looks_of, open_sample, spread_by_class
from lilliput.studies import results
from lilliput.studies.engines import processes
from lilliput.studies.record import read_study
from lilliput.system import files
from tests.conftest import flip_bit


def test_the_sample_has_of_every_class_alike(scenes):
    rows = spread_by_class(scenes.train, 100)
    assert np.bincount(scenes.train.labels[rows]).tolist() == [10] * 10


def test_other_stores_and_looks_may_be_damaged(rotnet_study, scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", str(scenes.train.folder.parents[1]))
    out = shutil.copytree(rotnet_study, tmp_path / "s")
    bad = files.home() / "stores" / "aaa"
    bad.mkdir()
    (bad / "manifest.json").write_bytes(b"\xff\xfe{")
    try:
        sample = open_sample(out)
    finally:
        shutil.rmtree(bad)
    (out / "inspect").mkdir()
    (look,) = looks_of(out, sample, [("rotnet", "shufflenet_v2")])
    (path,) = (out / "inspect").glob("*.npz")
    flip_bit(path)
    (again,) = looks_of(out, sample, [("rotnet", "shufflenet_v2")])
    assert np.array_equal(look.scores, again.scores) and np.array_equal(look.features, again.features)


def test_inspected_side_by_side_encoders_have_the_rows_of_one_after_another(study, tmp_path, monkeypatch):
    folder, *_ = study
    monkeypatch.setenv("LILLIPUT_HOME", str(folder.parent / "home"))
    monkeypatch.setattr(looks, "WORTH_A_WORKER", 1)
    crews, side_by_side = [], processes.side_by_side
    monkeypatch.setattr(processes, "side_by_side", lambda *words: crews.append(words[2]) or side_by_side(*words))
    found = []
    for workers in (1, 2):
        out = shutil.copytree(folder, tmp_path / str(workers), ignore=shutil.ignore_patterns("inspect"))
        rows = looks.inspect(out, read_study(out)["judge"], open_sample(out), workers=workers)
        found.append(rows.sort_values(results.KEY)[[*results.KEY, "value"]].reset_index(drop=True))
    assert len(found[0].groupby(["technique", "backbone"])) == 2
    assert crews == [2] and found[0].equals(found[1])
