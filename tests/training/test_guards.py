"""Runs that were broken on purpose are flagged, healthy ones are not."""

import pytest
import torch

from lilliput import api, catalog
from lilliput.data.store import Data
from lilliput.errors import LilliputError
from lilliput.reports.material import open_material
from lilliput.reports.page.overview import overview_section
from lilliput.reports.page.section import open_study
from lilliput.studies import results
from lilliput.techniques import byol, moco_v2
from lilliput.training import guards
from tests.conftest import SMALL, heavy
from tests.data.conftest import written
from tests.training.conftest import GUARDED, flags_of


class WithoutPredictor(byol.BYOL):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.predictor = torch.nn.Identity()


class WithoutStopGradient(byol.BYOL):
    """SimSiam's two branches, the target learning too."""

    def forward(self, one, two):
        one, two = (self.projector(self.encoder(view)) for view in (one, two))
        self.measures["spread"] = byol.spread(one)
        return byol.regression(self.predictor(one), two) + byol.regression(self.predictor(two), one)

    def after_step(self, progress):
        pass


class OnReLU(moco_v2.MoCoV2):
    """MoCo v2 on what SqueezeNet's own classifier puts out: a convolution, a ReLU, the average over the places."""

    def __init__(self, make_backbone, **named):
        super().__init__(make_backbone, output=1000, **named)
        self.head = torch.nn.Sequential(torch.nn.Conv2d(self.encoder.dim, 1000, 1), torch.nn.ReLU())
        torch.nn.init.normal_(self.head[0].weight, 0, 0.01)  # as torchvision has it
        torch.nn.init.zeros_(self.head[0].bias)
        self.key = moco_v2.frozen_copy(torch.nn.Sequential(self.encoder, self.head))

    def forward(self, one, two, order):
        queries = self.head(self.encoder.maps(one)).mean((2, 3))
        with torch.no_grad():
            keys = self.key[1](self.key[0].maps(two[order])).mean((2, 3))[order.argsort()]
            self.keys = torch.nn.functional.normalize(keys.float(), dim=1)
        logits = moco_v2.moco_logits(queries, self.keys, self.queue, temperature=self.temperature)
        return torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


@pytest.mark.heavy
def test_byol_without_its_predictor_is_flagged(more_scenes, tmp_path, capsys):
    flags = flags_of("byol", more_scenes, tmp_path, kind=WithoutPredictor, **GUARDED, tau=0.0)
    assert "projections_gather" in flags[-1]
    assert "try a predictor" in capsys.readouterr().err


def test_a_target_that_learns_too_is_flagged(more_scenes, tmp_path):
    assert "projections_gather" in flags_of("byol", more_scenes, tmp_path, kind=WithoutStopGradient, **GUARDED)[-1]


@pytest.mark.heavy
def test_moco_on_the_relu_of_squeezenet_is_flagged(more_scenes, tmp_path):
    settings = {**GUARDED, "recipe": "paper", "backbone": "squeezenet", "lr": 0.24, "queue": 4096}
    del settings["width"]
    flags = flags_of("moco_v2", more_scenes, tmp_path, kind=OnReLU, **settings)
    assert any("features_lost_rank" in raised or "gradient_vanished" in raised for raised in flags), flags


@pytest.mark.parametrize("technique", ["rotnet", *heavy("moco_v2", "split_brain", "simclr", "byol")])
def test_a_rate_a_hundred_times_too_high_is_flagged_or_ends_the_run(technique, more_scenes, tmp_path):
    rate = 100 * catalog.technique(technique).small.lr
    try:
        assert any(flags_of(technique, more_scenes, tmp_path, **{**GUARDED, "epochs": 6}, lr=rate))
    except LilliputError as error:
        assert "no numbers" in str(error) or "loss is" in str(error)
        assert "--lr" in str(error)


@pytest.mark.parametrize("technique", ["split_brain", *heavy("rotnet", "moco_v2", "simclr", "byol")])
def test_healthy_runs_are_quiet(technique, more_scenes, tmp_path):
    assert not any(flags_of(technique, more_scenes, tmp_path, **GUARDED))


def test_flags_reach_rows_table_and_page(scenes, tmp_path, monkeypatch):
    always = guards.Guard("always_up", lambda first, row: True, "", "nothing")
    monkeypatch.setattr(guards, "GUARDS", (always,))
    monkeypatch.setattr(guards, "SETTLED", 0)
    out, _ = api.study(scenes, tmp_path / "s", techniques=["rotnet"], backbones=["shufflenet_v2"], **SMALL)
    rows = results.read(out)
    assert set(rows.flagged[(rows.technique == "rotnet") & (rows.epoch > 0)]) == {"always_up"}
    flagged = "rotnet on shufflenet_v2, seed 0, epoch 1, 2, 3: always up; try nothing"
    assert flagged in (out / "table.md").read_text()
    assert f"Flagged: {flagged}" in overview_section(open_study(open_material(out))).body


def test_split_brain_on_images_without_colour_is_flagged(more_scenes, tmp_path):
    """One half has nothing to paint, the other nothing to see; healthy runs are quiet (above)."""
    grey = more_scenes.pool.images.mean(1, keepdims=True).round().astype("uint8").repeat(3, axis=1)
    store = written(tmp_path / "grey", grey)
    raised = flags_of("split_brain", Data("grey", store, None, None), tmp_path / "run", **{**GUARDED, "epochs": 5})
    assert "no_colour" in raised[-1]
