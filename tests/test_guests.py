"""A user's own technique, backbone, probe and data set, from outside the package: the examples of the docs, at work.

In a run, in a study by two processes, in its report, and again by other processes that are told of the files.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import lilliput
from lilliput import api, catalog
from lilliput.catalog import files
from lilliput.errors import BadSetting, UnknownName
from lilliput.training.cell import make_cell
from tests import commands
from tests.conftest import PLAN

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = {"pairs": "technique", "resnet10t": "backbone", "centroid": "probe", "checks": "dataset"}  # name -> page
SMALL = {"image_size": 32, "limit": 32, "epochs": 1, "batch": 16, "every": 1, "device": "cpu", "plan": PLAN}
WORDS = (
    "--image-size 32 --limit 32 --epochs 1 --batch 16 --every 1 --device cpu --plan precision=fp32 channels_last=true"
)


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> dict[str, str]:
    """Name -> path of the docs' examples, each in a file of its own outside the package."""
    folder = tmp_path_factory.mktemp("my")
    paths = {}
    for name, page in EXAMPLES.items():
        block = re.search(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
        assert block, page
        paths[name] = str(folder / f"{name}.py")
        Path(paths[name]).write_text(block[1].replace("count: int = 500", "count: int = 60"), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def run(examples, home, tmp_path_factory) -> Path:
    """A run of the own technique on the own data, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", home)
        patch.setenv(files.VARIABLE, "")
        out = tmp_path_factory.mktemp("runs") / "pairs"
        return api.pretrain(examples["pairs"], "shufflenet_v2", examples["checks"], out, width=0.5, area=0.5, **SMALL)


@pytest.fixture(scope="module")
def study(examples, home, tmp_path_factory) -> Path:
    """A study of all four, by two processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", home)
        patch.setenv(files.VARIABLE, "")
        out, failed = api.study(
            examples["checks"],
            tmp_path_factory.mktemp("runs") / "study",
            techniques=[examples["pairs"], "rotnet"],
            backbones=[examples["resnet10t"]],
            probes=["linear", examples["centroid"]],
            width=0.25,
            workers=2,
            **SMALL,
        )
        assert failed == []
        return out


def command(*words: str, home: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lilliput", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "LILLIPUT_HOME": home, "OMP_NUM_THREADS": "1", **environment},
    )


def test_a_run_by_path_records_the_plain_name_and_the_file(run, examples):
    record = json.loads((run / "run.json").read_text())
    assert (record["technique"], record["data"]) == ("pairs", "checks")
    assert record["technique_options"] == {"area": 0.5}
    assert record["own_files"]["techniques/pairs"]["path"] == examples["pairs"]


def test_a_runs_encoder_loads_where_its_file_is_given_and_else_the_error_names_it(run, examples):
    with pytest.raises(UnknownName, match=f"technique 'pairs' is not known here; it came from {examples['pairs']}"):
        lilliput.load_encoder(run)
    assert lilliput.use(examples["pairs"]) == ["pairs"]
    encoder = lilliput.load_encoder(run)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.dim)


def test_a_run_goes_on_with_the_file_it_was_begun_with_and_with_no_other(run, examples, home, monkeypatch, tmp_path):
    monkeypatch.setenv("LILLIPUT_HOME", home)
    options = {"width": 0.5, "area": 0.5, **SMALL}
    moved = tmp_path / "pairs.py"
    moved.write_text(Path(examples["pairs"]).read_text())
    assert api.pretrain(moved, "shufflenet_v2", examples["checks"], run, **options) == run
    moved.write_text(moved.read_text() + "\n# as it is now\n")
    with pytest.raises(BadSetting, match=f"another text of {moved}: choose another --out"):
        api.pretrain(moved, "shufflenet_v2", examples["checks"], run, **options)


def test_a_study_of_all_four_kinds_is_judged_by_two_processes(study):
    rows = pd.read_csv(study / "results.csv")
    assert {"pairs", "rotnet", "random_init", "supervised", "pixels"} <= set(rows.technique)
    assert set(rows.backbone.dropna()) == {"resnet10t"} and set(rows.data) == {"checks"}
    assert {"linear", "centroid", "finetune"} == set(rows.probe)
    record = json.loads((study / "study.json").read_text())
    assert set(record["own_files"]) == {"techniques/pairs", "backbones/resnet10t", "probes/centroid"}
    assert record["backbone_options"] == {"resnet10t": {"width": 0.25}}


def test_the_report_of_a_study_shows_what_is_the_users_own(study, examples, home, monkeypatch, capsys):
    monkeypatch.setenv("LILLIPUT_HOME", home)
    api.report(study)
    assert f"technique 'pairs' is not known here; it came from {examples['pairs']}" in capsys.readouterr().err
    lilliput.use(*examples.values())
    page, *others = api.report(study)
    text = page.read_text(encoding="utf-8")
    assert "pairs" in text and "resnet10t" in text and "centroid" in text
    assert {path.name for path in others} >= {"table.md"}
    assert "not known" not in capsys.readouterr().err


def test_a_study_goes_on_by_another_process_that_is_told_of_the_files(study, examples, home):
    own = [examples[name] for name in ("pairs", "resnet10t", "centroid", "checks")]
    words = ["--data", "checks", "--out", str(study), "--backbones", "resnet10t", "--width", "0.25", *WORDS.split()]
    words += ["--techniques", "pairs", "rotnet", "--probes", "linear", "centroid", "--workers", "1"]
    rows = (study / "results.csv").read_bytes()
    done = commands.lilliput("study", *words, "--use", *own, LILLIPUT_HOME=home)
    assert done.returncode == 0, done.stderr
    assert (study / "results.csv").read_bytes() == rows


def test_a_study_is_verified_where_its_files_are_given_and_else_the_error_names_one(study, examples, home, monkeypatch):
    monkeypatch.setenv("LILLIPUT_HOME", home)
    with pytest.raises(UnknownName, match="is not known here; it came from"):
        api.verify(study, sample=2)
    lilliput.use(examples["pairs"], examples["resnet10t"], examples["centroid"])
    assert api.verify(study, sample=2)


def test_a_study_does_not_go_on_with_a_probe_whose_text_has_changed(study, examples, home, monkeypatch, tmp_path):
    monkeypatch.setenv("LILLIPUT_HOME", home)
    changed = tmp_path / "centroid.py"
    changed.write_text(Path(examples["centroid"]).read_text() + "\n# as it is now\n")
    with pytest.raises(BadSetting, match=f"another text of {changed}"):
        api.study(
            examples["checks"],
            study,
            techniques=[examples["pairs"]],
            backbones=[examples["resnet10t"]],
            probes=["linear", changed],
            width=0.25,
            **SMALL,
        )


def test_the_command_line_takes_paths_and_what_an_installed_package_offers(examples, home, tmp_path):
    package, metadata = tmp_path / "guest_package", tmp_path / "guest_package-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").touch()
    points = {"probes": "centroid", "datasets": "checks", "backbones": "resnet10t"}
    for name in points.values():
        (package / f"{name}.py").write_text(Path(examples[name]).read_text())
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: guest-package\nVersion: 1.0\n")
    lines = [f"[lilliput.{kind}]\n{name} = guest_package.{name}\n" for kind, name in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    words = ["--data", "checks", "--techniques", examples["pairs"], "--backbones", "resnet10t", "--probes", "centroid"]
    words += ["--width", "0.25", "--workers", "2", "--out", str(tmp_path / "study"), *WORDS.split()]
    done = command("study", *words, home=home, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "study" / "results.csv")
    assert "centroid" in set(rows.probe) and "pairs" in set(rows.technique)
    own_files = json.loads((tmp_path / "study" / "study.json").read_text())["own_files"]
    assert own_files["techniques/pairs"]["path"] == examples["pairs"]
    assert own_files["probes/centroid"]["path"] == str(package / "centroid.py")


def test_a_technique_with_a_tuple_option_goes_on(examples, home, monkeypatch, tmp_path):
    monkeypatch.setenv("LILLIPUT_HOME", home)
    text = Path(examples["pairs"]).read_text()
    text = text.replace("area: float = 0.2", "area: tuple[float, float] = (0.2, 1.0)")
    (tmp_path / "pairs.py").write_text(text.replace("area=(self.area, 1.0)", "area=self.area"))
    arguments = tmp_path / "pairs.py", "shufflenet_v2", examples["checks"], tmp_path / "run"
    for area in ([0.5, 1.0], (0.5, 1.0)):
        out = api.pretrain(*arguments, width=0.5, area=area, **SMALL)
    assert json.loads((out / "run.json").read_text())["technique_options"] == {"area": [0.5, 1.0]}
    with pytest.raises(BadSetting, match=r"area is \[0.5, 1.0\] there and \[0.2, 1.0\] here"):
        api.pretrain(*arguments, width=0.5, **SMALL)


def test_a_backbones_own_option_comes_back_from_an_encoder_as_it_was(examples, tmp_path):
    from lilliput.training.encoders import load_encoder, save_encoder

    text = Path(examples["resnet10t"]).read_text()
    text = text.replace(") -> Backbone", ", kinds: tuple[int, ...] = (1,)) -> Backbone")
    (tmp_path / "resnet10t.py").write_text(text.replace("    # timm", "    assert type(kinds) is tuple\n    # timm"))
    catalog.take("backbones", tmp_path / "resnet10t.py")
    cell = make_cell("rotnet", "resnet10t", options={"width": 0.25, "kinds": [1, 2]})
    assert cell.backbone_options == {"width": 0.25, "kinds": (1, 2)}
    header = {"technique": "rotnet", "backbone": "resnet10t", "backbone_options": cell.backbone_options}
    save_encoder(tmp_path / "encoder.safetensors", cell.build_encoder(), header)
    assert load_encoder(tmp_path / "encoder.safetensors").dim == 128
