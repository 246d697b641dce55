"""The verdict: what leads, what is too close to it, and what has learned nothing."""

import pandas as pd

from lilliput.reports.verdict import standings, verdict


def rows(values, **costs):
    """A row for each (technique, backbone): accuracy."""
    base = {"seed": 0, "epoch": 10, "probe": "linear", "multiply_adds": 1e6, "seconds": 60.0, "mistakes": ""}
    return pd.DataFrame(
        [
            {**base, "technique": t, "backbone": b, "metric": m, "value": v, **costs.get(b, {})}
            for (t, b), v in values.items()
            for m in ("accuracy", "held_out_accuracy")
        ]
    )


def test_the_verdict_tells_a_clear_winner_from_one_too_close_to_call():
    clear = rows({("simclr", "resnet18"): 0.8, ("byol", "resnet18"): 0.6, ("random_init", "resnet18"): 0.3})
    said = " ".join(verdict(clear, test_images=1000, seeds=1))
    assert said.startswith("SimCLR on resnet18 is the most accurate: .800 ± .025")
    assert "No other of the 2 cells" in said and "Every cell is above its untrained network" in said
    close = rows(
        {("simclr", "resnet18"): 0.80, ("byol", "shufflenet_v2"): 0.79, ("random_init", "shufflenet_v2"): 0.785},
        resnet18={"multiply_adds": 4e6},
    )
    said = " ".join(verdict(close, test_images=1000, seeds=1))
    assert "Too close to call: the other cell may be the best" in said
    assert "BYOL on shufflenet_v2 is not told apart from the best and needs 25% of its multiply-adds" in said
    assert "Not shown to have learned anything, level with it: 1 cell: BYOL" in said
    assert verdict(close[:0], test_images=1000, seeds=1) == ["Nothing has been pretrained and judged yet."]


def test_what_is_level_with_pixels_is_neither_better_nor_worse():
    """Both reached 1.000, and the sentence was that 1 of 1 cells did not do better."""
    cells = {
        ("simclr", "a"): 0.9,
        ("byol", "a"): 0.5,
        ("moco_v2", "a"): 0.51,
        ("rotnet", "a"): 0.3,
        ("pixels", ""): 0.5,
    }
    said = " ".join(verdict(rows(cells), test_images=1000, seeds=1))
    assert "of 4 cells, beyond uncertainty, 1 better and 1 worse; level with it: 2." in said
    said = " ".join(verdict(rows({("simclr", "a"): 1.0, ("pixels", ""): 1.0}), test_images=30, seeds=1))
    assert "of 1 cell, beyond uncertainty, none better and none worse; level with it: 1." in said


def test_what_no_chance_draws_has_no_spread_of_seeds():
    """Pixels are judged once; a technique judged once has the spread of what was judged with several seeds."""
    cells = {("simclr", "a"): 0.5, ("byol", "a"): 0.5, ("pixels", ""): 0.4, ("imagenet", "a"): 0.6}
    again = rows({("simclr", "a"): 0.56}).assign(seed=1)
    found = {s.technique: s for s in standings(pd.concat([rows(cells), again]), 1000)}
    once = {s.technique: s for s in standings(rows(cells), 1000)}
    assert found["pixels"].half == once["pixels"].half and found["imagenet"].half == once["imagenet"].half
    assert found["byol"].half > found["simclr"].half > once["simclr"].half


def test_the_best_of_many_equal_cells_is_told_apart_from_none():
    """.050 apart is beyond what two cells with 1,000 test images are told apart by, not the outermost of 25."""
    pair = {("simclr", "a"): 0.520, ("byol", "a"): 0.470}
    assert "studentized range, 95 %): 1." in " ".join(verdict(rows(pair), test_images=1000, seeds=1))
    many = pair | {("moco_v2", str(number)): 0.495 for number in range(23)}
    said = " ".join(verdict(rows(many), test_images=1000, seeds=1))
    assert "Too close to call: 24 of the other 24 cells" in said and "studentized range, 95 %): none." in said
    named = said.split("Too close")[1].split("Worse than")[0]
    assert named.count("MoCo v2 on ") == 6 and named.endswith("(.495 ± .031), .... ")
    few = {("moco_v2", str(number)): 0.495 for number in range(7)}
    said = " ".join(verdict(rows(few), test_images=1000, seeds=1))
    assert "6 of the other 6 cells" in said and "..." not in said.split("Worse than")[0]


def test_leaders_are_counted_by_backbone_and_sure_beyond_the_uncertainty_of_all_backbones():
    """.043 on 1,000 images is beyond that of one pair of cells, not of four."""
    two = ("simclr", "byol")
    accuracies = {"a": (0.8, 0.5), "b": (0.7, 0.7), "c": (0.6, 0.557), "d": (0.585, 0.6)}
    cells = {(t, b): value for b, values in accuracies.items() for t, value in zip(two, values, strict=True)}
    said = " ".join(verdict(rows(cells | {("simclr", "e"): 0.9}), test_images=1000, seeds=1))
    counted = "SimCLR on 3, BYOL and SimCLR on 1, BYOL on 1; beyond uncertainty on 1 of them."
    assert f"By backbone, of 5, the leader is {counted}" in said
    pair = {cell: value for cell, value in cells.items() if cell[1] == "c"}
    said = " ".join(verdict(rows(pair | {("simclr", "e"): 0.9}), test_images=1000, seeds=1))
    assert "By backbone, of 2, the leader is SimCLR on 2; beyond uncertainty on 1 of them." in said
    for one in (pair, {cell: value for cell, value in cells.items() if cell[0] == "byol"}):
        assert "By backbone" not in " ".join(verdict(rows(one), test_images=1000, seeds=1))


def test_one_seed_says_that_another_may_differ():
    cells = rows({("simclr", "a"): 0.6, ("byol", "a"): 0.5})
    assert verdict(cells, test_images=1000, seeds=1)[-1].startswith("One seed: the intervals are those of the test")
    assert "One seed" not in " ".join(verdict(cells, test_images=1000, seeds=3))


def test_a_cell_below_its_untrained_network_is_said_to_be_worse_and_ties_are_ties():
    cells = {("simclr", "a"): 0.6, ("byol", "a"): 0.6, ("moco_v2", "a"): 0.3, ("random_init", "a"): 0.45}
    said = " ".join(verdict(rows(cells), test_images=1000, seeds=1))
    assert "are the most accurate, level: .600" in said
    assert "Above their untrained networks beyond uncertainty: 2 of 3 cells." in said
    assert "Worse than it beyond uncertainty: 1 cell: MoCo v2 on a." in said


def test_a_cell_that_began_above_the_stock_network_has_to_rise_above_its_own_start():
    """With silent residual branches a network starts better than it is drawn: that is not learning."""
    cells = {("simclr", "a"): 0.5, ("byol", "a"): 0.5, ("random_init", "a"): 0.3}
    before = rows({("simclr", "a"): 0.49, ("byol", "a"): 0.3}).assign(epoch=0)
    everything = pd.concat([rows(cells), before])
    said = " ".join(verdict(everything, test_images=1000, seeds=1))
    assert "Above their untrained networks beyond uncertainty: 1 of 2 cells." in said
    assert "level with it: 1 cell: SimCLR on a." in said
    alone = " ".join(verdict(everything[everything.technique != "random_init"], test_images=1000, seeds=1))
    assert "1 of 2 cells" in alone and "level with it: 1 cell: SimCLR on a." in alone
