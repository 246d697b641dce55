"""The claims of the paper, asked of studies whose answers are known: the paper's own table among them."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import claims
from benchmarks.claims import BACKBONES, CLAIMS, TECHNIQUES, Evidence
from lilliput.reports.paper import TABLE_1
from lilliput.reports.words import title
from lilliput.studies import results

EPOCHS = (0, 5, 10)
PAPERS = {(t, b): TABLE_1[title(t), b] for t in TECHNIQUES for b in BACKBONES}
LAST, INNER = ("accuracy_last_stage", 0.3), ("accuracy_best_stage", 0.35)


def evidence(folder, accuracies, *, seeds=(0,), untrained=0.05):
    """Of a study whose cells have these accuracies after EPOCHS; a later seed is .001 better, an inner stage .05."""
    rows = [row("random_init", backbone, 0, 0, "accuracy", untrained) for backbone in BACKBONES]
    for (technique, backbone), values in accuracies.items():
        for seed in seeds:
            rows += [row(technique, backbone, seed, 10, *figure, probe="layers") for figure in (LAST, INNER)]
            for epoch, value in zip(EPOCHS, values, strict=False):  # fewer: it is not finished
                for metric in ("accuracy", "held_out_accuracy"):
                    rows.append(row(technique, backbone, seed, epoch, metric, value + 0.001 * seed))
    results.append(folder, rows)
    return Evidence(claims.finished(results.read(folder), EPOCHS[-1]), 3000)


def row(technique, backbone, seed, epoch, metric, value, probe="linear"):
    named = {"technique": technique, "backbone": backbone, "seed": seed, "epoch": epoch}
    return named | {"probe": probe, "metric": metric, "value": value, "data": "", "recipe": "", "judge": ""}


def asked(study):
    return {claim: claims.verdict(claim, ask(study).holds, study) for claim, ask in CLAIMS.items()}


def test_the_papers_own_table_upholds_what_the_paper_says_of_it(tmp_path):
    starts = dict(zip(BACKBONES, (0.08, 0.08, 0.08, 0.02, 0.08), strict=True))
    cells = {cell: (starts[cell[1]], value + 0.01, value) for cell, value in PAPERS.items()}
    answers = asked(evidence(tmp_path, cells, seeds=(0, 1, 2)))
    assert answers.pop("more pretraining neither harms nor helps") == "refuted"  # .01 less in every cell
    assert answers.pop("BYOL and MoCo v2 lead on ResNet-18") == "not refuted"
    assert set(answers.values()) == {"upheld"}, answers


def test_a_table_turned_around_refutes_them(tmp_path):
    worst_first = {cell: (0.3, 0.9 - value, 0.9 - value) for cell, value in PAPERS.items()}
    answers = asked(evidence(tmp_path, worst_first, untrained=0.5, seeds=(0, 1, 2)))
    assert answers.pop("more pretraining neither harms nor helps") == "not refuted"
    assert answers.pop("inner stages beat the last for RotNet and Split-Brain") == "upheld"
    assert answers.pop("RotNet and Split-Brain peak early") == "upheld"  # the earlier of two that are level
    assert set(answers.values()) == {"refuted"}, answers


@pytest.mark.parametrize("lacking", ["a network", "seeds", "seeds of one network"])
def test_nothing_is_judged_until_all_is_there(lacking, tmp_path):
    """One seed of the whole grid upheld what three of it may leave open, and half a grid refuted it."""
    cells = {cell: (0.1, value, value) for cell, value in PAPERS.items()}
    if lacking == "a network":
        study = evidence(tmp_path, {cell: v for cell, v in cells.items() if cell[1] != "resnet18"}, seeds=(0, 1, 2))
    elif lacking == "seeds":
        study = evidence(tmp_path, cells)
    else:
        study = evidence(tmp_path, cells, seeds=(0, 1, 2))
        once = study.rows[(study.rows.backbone != "resnet18") | (study.rows.seed == 0)]
        study = Evidence(once, study.test_images)
    assert set(asked(study).values()) == {"open"}
    lines = "\n".join(claims.table_of_leaders(study))
    assert "| yes |" not in lines and "| no |" not in lines


def test_a_technique_that_shares_the_last_place_with_rotnet_is_not_behind_it(tmp_path):
    level = dict.fromkeys(PAPERS, (0.1, 0.4, 0.4))
    shared = level | {(technique, b): (0.1, 0.3, 0.3) for technique in ("rotnet", "moco_v2") for b in BACKBONES}
    assert claims.rotnet_last(evidence(tmp_path, shared)).holds
    (tmp_path / "other").mkdir()
    behind = shared | {("moco_v2", b): (0.1, 0.2, 0.2) for b in BACKBONES[:2]}
    assert not claims.rotnet_last(evidence(tmp_path / "other", behind)).holds


def test_the_best_is_ahead_of_all_others_not_of_the_second_alone(tmp_path):
    """The third may be less sure than the second."""
    cells = dict.fromkeys(PAPERS, (0.1, 0.2, 0.2)) | {("simclr", b): (0.1, 0.5, 0.5) for b in BACKBONES}
    found = evidence(tmp_path, cells | {("byol", "shufflenet_v2"): (0.1, 0.4, 0.4)}, seeds=(0, 1, 2))
    unsure = (found.rows.technique == "rotnet") & (found.rows.backbone == "shufflenet_v2") & (found.rows.epoch > 0)
    rows = found.rows.copy()
    rows.loc[unsure & rows.metric.isin(["accuracy", "held_out_accuracy"]), "value"] += 0.196
    said = {line.split(" | ")[0]: line for line in claims.table_of_leaders(Evidence(rows, 3000))}
    assert said["| shufflenet_v2"].endswith("| yes |")
    for seed, shift in ((0, -0.3), (2, 0.3)):
        own = unsure & (rows.seed == seed) & rows.metric.isin(["accuracy", "held_out_accuracy"])
        rows.loc[own, "value"] += shift
    said = {line.split(" | ")[0]: line for line in claims.table_of_leaders(Evidence(rows, 3000))}
    assert said["| shufflenet_v2"].startswith("| shufflenet_v2 | SimCLR .501 | BYOL .401 ")
    assert said["| shufflenet_v2"].endswith("| no |")


def test_the_best_is_named_where_seeds_and_images_leave_no_doubt(tmp_path):
    flat = dict.fromkeys(PAPERS, (0.1, 0.4, 0.4)) | {("byol", "resnet18"): (0.1, 0.5, 0.5)}
    flat |= {("simclr", "shufflenet_v2"): (0.1, 0.402, 0.402)}
    lines = {line.split(" | ")[0]: line for line in claims.table_of_leaders(evidence(tmp_path, flat, seeds=(0, 1, 2)))}
    assert lines["| resnet18"].startswith("| resnet18 | BYOL .501 |") and lines["| resnet18"].endswith("| yes |")
    assert lines["| shufflenet_v2"].endswith("| no |")
    (tmp_path / "one").mkdir()
    once = claims.table_of_leaders(evidence(tmp_path / "one", flat))
    assert all(line.endswith("| not asked: fewer than 3 seeds |") for line in list(once)[2:])


def test_a_cell_that_is_not_finished_decides_nothing(tmp_path):
    cells = {cell: (0.1, value, value) for cell, value in PAPERS.items()}
    early = {cell: values[:2] for cell, values in list(cells.items())[:10]}
    found = evidence(tmp_path, cells | early)
    assert len(found.cells) == 15
    assert set(asked(found).values()) == {"open"}


def test_three_seeds_are_asked_for_where_the_protocol_does(tmp_path):
    two = evidence(tmp_path, {cell: (0.1, value, value) for cell, value in PAPERS.items()}, seeds=(0, 1))
    assert asked(two)["BYOL and MoCo v2 lead on ResNet-18"] == "open"
    assert "yes" not in "\n".join(claims.table_of_leaders(two)) and claims.spread_of(two, "resnet18") is None


def test_no_order_is_claimed_where_seeds_differ_more_than_techniques(tmp_path):
    shared = {cell: (0.1, 0.4, 0.4) for cell in PAPERS if cell[1] in claims.REPEATED}
    study = evidence(tmp_path, shared, seeds=(0, 10, 20))  # .4, .41, .42
    assert claims.spread_of(study, "resnet18") == (pytest.approx(0), pytest.approx(0.01))
    assert claims.ordered(study) is False and "no order of techniques" in "\n".join(claims.table_of_spread(study))
    (tmp_path / "whole").mkdir()
    spread = dict.fromkeys(PAPERS, (0.1, 0.4, 0.4))
    answers = asked(evidence(tmp_path / "whole", spread, seeds=(0, 10, 20)))
    assert {answers.pop(claim) for claim in claims.OF_ORDER} == {"open"} and "upheld" in answers.values()


def test_whether_seeds_leave_an_order_is_unknown_without_them(tmp_path):
    assert claims.ordered(evidence(tmp_path, {cell: (0.1, value, value) for cell, value in PAPERS.items()})) is None


def by_seed(cells, *seeds):
    return {cell: {seed: value + seed / 1000 for seed in seeds or (0,)} for cell, value in cells.items()}


@pytest.mark.parametrize("small, rho", [("same", 1.0), ("turned", -1.0)])
def test_the_order_of_a_smaller_study_is_set_beside_the_large_ones(small, rho):
    other = {cell: value if small == "same" else -value for cell, value in PAPERS.items()}
    found, low, high = claims.order(by_seed(PAPERS), by_seed(other))
    assert found == pytest.approx(rho) and low <= found + 1e-9 and high >= found - 1e-9


def test_the_bootstrap_is_that_of_cells_where_there_is_one_seed():
    """Against scipy's ranks, resample by resample."""
    draws = np.random.default_rng(5)
    other = {cell: value + 0.1 * draws.standard_normal() for cell, value in PAPERS.items()}
    _, low, high = claims.order(by_seed(PAPERS), by_seed(other))
    pairs = np.array([(PAPERS[cell], other[cell]) for cell in sorted(PAPERS)])
    drawn = np.random.default_rng(6).integers(25, size=(1000, 25))
    rhos = [stats.spearmanr(*pairs[places].T).statistic for places in drawn]
    assert (low, high) == pytest.approx(np.quantile(rhos, [0.025, 0.975]), abs=0.03)


def test_seeds_that_differ_widen_the_interval_and_those_of_one_run_stay_together():
    wide = {cell: {seed: value + shift for seed, shift in enumerate((-0.1, 0, 0.1))} for cell, value in PAPERS.items()}
    sure, unsure = claims.order(by_seed(PAPERS), by_seed(PAPERS)), claims.order(wide, wide)
    assert sure[1] > unsure[1] and unsure[2] < 1
    assert claims.order(wide, wide, same_runs=True) == pytest.approx((1.0, 1.0, 1.0))


def test_a_rank_correlation_by_chance_is_worked_out_over_all_namings():
    grid = {(t, b): float(3 * i + j) for i, t in enumerate(TECHNIQUES[:2]) for j, b in enumerate(BACKBONES[:3])}
    assert claims.by_chance(grid, grid) == pytest.approx(1 / 12)
    assert claims.by_chance(grid, {cell: -value for cell, value in grid.items()}) == 1.0
    assert math.isnan(claims.by_chance(grid, dict(list(grid.items())[1:])))
    effects = {cell: {0: 0.0, 1: 1.0}.get(TECHNIQUES.index(cell[0]), 2.0) for cell in PAPERS}
    assert claims.by_chance(effects, effects) == pytest.approx(6 / 120)  # three of the five techniques are level
