"""The claims of the paper, asked of studies whose answers are known: the paper's own table among them."""

import pytest

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
    return {claim: ask(study).holds for claim, ask in CLAIMS.items()}


def test_the_papers_own_table_upholds_what_the_paper_says_of_it(tmp_path):
    starts = dict(zip(BACKBONES, (0.08, 0.08, 0.08, 0.02, 0.08), strict=True))
    cells = {cell: (starts[cell[1]], value + 0.01, value) for cell, value in PAPERS.items()}
    answers = asked(evidence(tmp_path, cells, seeds=(0, 1, 2)))
    assert answers.pop("more pretraining neither harms nor helps") is False  # .01 less in every cell
    assert all(answers.values()), answers


def test_a_table_turned_around_refutes_them(tmp_path):
    worst_first = {cell: (0.3, 0.9 - value, 0.9 - value) for cell, value in PAPERS.items()}
    answers = asked(evidence(tmp_path, worst_first, untrained=0.5, seeds=(0, 1, 2)))
    assert answers.pop("more pretraining neither harms nor helps") is True
    assert answers.pop("inner stages beat the last for RotNet and Split-Brain") is True
    assert answers.pop("RotNet and Split-Brain peak early") is True  # the earlier of two that are level
    assert not any(answers.values()) and None not in answers.values(), answers


def test_a_claim_is_open_until_its_cells_are_there(tmp_path):
    half = {cell: (0.1, value, value) for cell, value in PAPERS.items() if cell[1] != "resnet18"}
    answers = asked(evidence(tmp_path, half))
    assert answers["every cell learns"] is None and answers["more pretraining neither harms nor helps"] is None
    assert answers["BYOL and MoCo v2 lead on ResNet-18"] is None
    assert answers["the order of the cells is the paper's"] is None


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
    assert asked(found)["the order of the cells is the paper's"] is None


def test_three_seeds_are_asked_for_where_the_protocol_does(tmp_path):
    two = evidence(tmp_path, {cell: (0.1, value, value) for cell, value in PAPERS.items()}, seeds=(0, 1))
    assert asked(two)["BYOL and MoCo v2 lead on ResNet-18"] is None
    assert "yes" not in "\n".join(claims.table_of_leaders(two)) and claims.spread_of(two, "resnet18") is None


def test_no_order_is_claimed_where_seeds_differ_more_than_techniques(tmp_path):
    shared = {cell: (0.1, 0.4, 0.4) for cell in PAPERS if cell[1] in claims.REPEATED}
    study = evidence(tmp_path, shared, seeds=(0, 10, 20))  # .4, .41, .42
    assert claims.spread_of(study, "resnet18") == (pytest.approx(0), pytest.approx(0.01))
    assert not claims.ordered(study) and "no order of techniques" in "\n".join(claims.table_of_spread(study))
    verdicts = dict(line.rstrip(" |").rsplit(" | ", 1) for line in list(claims.table_of_claims(study))[2:])
    assert next(verdict for line, verdict in verdicts.items() if "ResNet-18" in line) == "open"


@pytest.mark.parametrize("small, rho", [("same", 1.0), ("turned", -1.0)])
def test_the_order_of_a_smaller_study_is_set_beside_the_large_ones(small, rho):
    other = {cell: value if small == "same" else -value for cell, value in PAPERS.items()}
    found, low, high = claims.order(PAPERS, other)
    assert found == pytest.approx(rho) and low <= found + 1e-9 and high >= found - 1e-9
