"""The study: what it leaves behind, and what happens when a cell fails."""

from lilliput import api
from lilliput.studies import jobs, results
from tests.studies.conftest import SHORT


def test_a_study_leaves_rows_table_figures_and_encoders(small_study):
    out, failed = small_study
    assert failed == []
    for name in ("study.json", "results.csv", "table.md", "figure1.png", "figure1.svg", "figure2.png", "figure2.svg"):
        assert (out / name).stat().st_size > 0
    rows = results.read(out)
    main = rows[(rows["probe"] == "linear") & (rows["metric"] == "accuracy")]
    told = {(r.technique, r.backbone, r.epoch) for r in main.itertuples()}
    assert told == {
        ("pixels", "", 0), ("random_init", "shufflenet_v2", 0), ("random_init_measured", "shufflenet_v2", 0),
        ("supervised", "shufflenet_v2", 2),
        *((t, "shufflenet_v2", e) for t in ("simclr", "split_brain") for e in (0, 1, 2)),
    }  # fmt: skip
    for cell in ("simclr-shufflenet_v2-0", "split_brain-shufflenet_v2-0"):
        saved = sorted(path.name for path in (out / "cells" / cell).glob("encoder*"))
        assert saved == [f"encoder_00{n}.safetensors" for n in range(3)]


def test_a_failing_cell_is_named_and_the_others_go_on(scenes, tmp_path, monkeypatch):
    real = jobs.pretrain

    def fails_for_byol(cell, *a, **k):
        if cell.technique == "byol":
            raise RuntimeError("the loss is not\nfinite")
        return real(cell, *a, **k)

    monkeypatch.setattr(jobs, "pretrain", fails_for_byol)
    options = {**SHORT, "epochs": 1}
    out, failed = api.study(
        scenes, tmp_path / "s", techniques=["byol", "rotnet"], backbones=["shufflenet_v2"], **options
    )
    assert failed == ["byol-shufflenet_v2-0"]
    assert (out / "cells" / failed[0] / "error.txt").read_text().startswith("the loss is not finite\n")
    assert "the loss is not finite" in (out / "table.md").read_text()
    assert "rotnet" in set(results.read(out)["technique"])
    monkeypatch.undo()
    out, failed = api.study(scenes, out, techniques=["byol", "rotnet"], backbones=["shufflenet_v2"], **options)
    assert failed == [] and not (out / "cells" / "byol-shufflenet_v2-0" / "error.txt").exists()
