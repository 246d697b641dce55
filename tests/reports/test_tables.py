"""The report: its cells are those worked by hand, its figures draw what the rows say, and no name breaks it."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
from scipy import stats

from lilliput.errors import BadData
from lilliput.reports import paper
from lilliput.reports.compare import compare
from lilliput.reports.material import open_material
from lilliput.reports.page.section import open_study
from lilliput.reports.tables import mean_ranks, rank_agreement, report, table_text
from lilliput.studies import results
from lilliput.system.records import write_json
from tests.reports.conftest import rows_of


def study(folder, rows, **settings):
    results.append(folder, rows)
    if settings:
        (folder / "study.json").write_text(json.dumps(settings))
    return table_text(folder)


def table(text, heading):
    """The first table below a heading, as {first cell: [the other cells]}."""
    below = text.split(heading, 1)[1]
    lines = re.search(r"(?:^\|.*\|\n)+", below, re.MULTILINE).group().splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(line) for line in cells}) == 1, "a row has another number of columns"
    return {line[0]: line[1:] for line in cells}


def test_the_three_choices_of_a_checkpoint_stand_in_three_tables(tmp_path):
    text = study(
        tmp_path,
        rows_of("simclr", "resnet18", (0.9, 0.7, 0.6), held_out=(0.9, 0.2, 0.8))
        + rows_of("byol", "resnet18", (0.3, 0.65, 0.68), held_out=(0.3, 0.8, 0.2)),
    )
    assert table(text, "highest test accuracy")["SimCLR"] == ["yes", "**.700**"]
    assert table(text, "highest test accuracy")["BYOL"] == ["joint-embedding", ".680"]
    assert table(text, "Linear probe, last checkpoint")["SimCLR"][1] == ".600"
    assert table(text, "Linear probe, last checkpoint")["BYOL"][1] == "**.680**"
    assert table(text, "chosen on held-out")["SimCLR"][1] == ".600"
    assert table(text, "chosen on held-out")["BYOL"][1] == "**.650**"


def test_the_rows_and_columns_keep_the_order_of_the_paper_and_then_the_alphabet(tmp_path):
    names = ["zebra", "byol", "simclr", "aardvark", "rotnet", "moco_v2", "split_brain"]
    backbones = ["squeezenet1_1", "zoo_net", "resnet18"]
    text = study(tmp_path, [row for n in names for b in backbones for row in rows_of(n, b, (0.1, 0.2, 0.3))])
    cells = table(text, "highest test accuracy")
    assert list(cells)[2:9] == ["RotNet", "MoCo v2", "Split-Brain", "SimCLR", "BYOL", "aardvark", "zebra"]
    assert cells["technique"] == ["contrastive", "resnet18", "squeezenet1_1", "zoo_net"]


def test_several_seeds_show_their_mean_and_interval(tmp_path):
    text = study(
        tmp_path,
        [r for seed, top in enumerate((0.5, 0.6, 0.7)) for r in rows_of("byol", "resnet18", (0, 0, top), seed=seed)],
    )
    # sd .1, n 3: 4.303 * .1 / sqrt(3)
    assert table(text, "highest test accuracy")["BYOL"][1] == "**.600 ± .248**"
    assert "interval of the mean over seeds" in text


def test_baselines_stand_below_the_techniques_and_are_never_bold(tmp_path):
    text = study(
        tmp_path,
        rows_of("rotnet", "resnet18", (0.2, 0.3, 0.33))
        + rows_of("pixels", "", (0.377,))
        + rows_of("random_init", "resnet18", (0.25,))
        + rows_of("supervised", "resnet18", (0.8,), epochs=(10,)),
    )
    for heading in ("highest test accuracy", "Linear probe, last checkpoint"):
        cells = table(text, heading)
        assert [cells[name][1] for name in ("RotNet", "pixels, no network", "random init")] == [
            "**.330**",
            ".377",
            ".250",
        ]
        assert cells["supervised, from scratch"][1] == ".800"


def test_neighbours_and_fine_tuning_have_tables_only_where_measured(tmp_path):
    rows = rows_of("byol", "resnet18", (0.1, 0.2, 0.3))
    assert "neighbours" not in study(tmp_path, rows)
    rows = rows_of("byol", "resnet18", (0.1, 0.25, 0.2), probe="knn", metric="accuracy_cosine")
    rows += rows_of("byol", "resnet18", (0.66,), probe="finetune", epochs=(10,))
    text = study(tmp_path, rows)
    assert table(text, "Nearest neighbours, cosine, last checkpoint")["BYOL"][1] == "**.200**"
    assert table(text, "Fine-tuning, last checkpoint")["BYOL"][1] == "**.660**"
    assert "uclidean" not in text


def test_costs_are_summed_over_techniques_and_a_partial_sum_says_so(tmp_path):
    text = study(
        tmp_path,
        rows_of("rotnet", "resnet18", (0.1, 0.2, 0.3))
        + rows_of("rotnet", "resnet18", (0.1, 0.2, 0.3), probe="knn", metric="accuracy_cosine")
        + rows_of("byol", "resnet18", (0.1, 0.2, 0.3))
        + rows_of("byol", "mobilenet_v2", (0.1, 0.2, 0.3))
        + rows_of("supervised", "resnet18", (0.8,), epochs=(10,)),
    )
    cells = table(text, "highest test accuracy")
    assert cells["pretraining, sum"][1:] == ["10 min 00 s (1 of 2)", "20 min 00 s"]
    assert cells["probing, sum"][2] == "36 s"  # (3 epochs x 2 probes + 3 epochs) x 4 s
    assert cells["kWh, sum"][2] == "0.200"
    assert cells["g CO2, sum, codecarbon"][2] == "40.0"
    assert cells["g CO2, sum, ML Impact formula"][2] == "60.0"
    assert cells["multiply-adds at 96 px"][2] == "56 M"
    assert cells["multiply-adds at 224 px"][2] == "301 M"


def test_missing_and_unfinished_cells_are_dashes_and_daggers_with_their_reason(tmp_path):
    for name in ("byol-resnet18-0", "rotnet-mobilenet_v2-1", "random_init-resnet18-0"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    (tmp_path / "cells/byol-resnet18-0/error.txt").write_text("loss is not finite\nmore\n")
    (tmp_path / "cells/random_init-resnet18-0/error.txt").write_text("out of memory\n")
    (tmp_path / "cells/rotnet-mobilenet_v2-1/log.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    both = rows_of("rotnet", "resnet18", (0.1, 0.2, 0.3)) + rows_of("rotnet", "resnet18", (0.1, 0.9), seed=1)
    text = study(
        tmp_path,
        both + rows_of("rotnet", "mobilenet_v2", (0.1, 0.2, 0.3)),
        techniques=["rotnet", "byol"],
        backbones=["mobilenet_v2", "resnet18"],
        seeds=[0, 1],
        epochs=10,
        every=5,
    )
    cells = table(text, "highest test accuracy")
    assert cells["BYOL"][1:] == ["–", "–"]
    assert cells["RotNet"][1:] == ["**.300**†", "**.300**†"]  # the .9 of a seed that stopped is not averaged in
    for line in (
        "- byol × resnet18, seed 0: failed: loss is not finite",
        "- byol × mobilenet_v2, seed 0: not run",
        "- rotnet × resnet18, seed 1: measured up to epoch 5 of 10",
        "- rotnet × mobilenet_v2, seed 1: pretrained up to epoch 2, not judged",
        "- random_init-resnet18-0: failed: out of memory",
    ):
        assert line in text.splitlines()


def test_a_complete_study_has_no_list_of_gaps(tmp_path):
    text = study(tmp_path, rows_of("byol", "resnet18", (0.1, 0.2, 0.3)), epochs=12, every=5, seeds=[0])
    assert "†" not in text and "not run" not in text


def test_a_technique_is_complete_at_the_epochs_of_its_own_recipe(tmp_path):
    rows = rows_of("byol", "own/net", (0.1, 0.2, 0.3)) + rows_of("rotnet", "own/net", (0.1, 0.2), epochs=(0, 5))
    recipes = {"byol": {"epochs": 10, "batch": 256}, "rotnet": {"epochs": 5, "batch": 64}}
    text = study(tmp_path, rows, epochs=10, every=5, recipes=recipes, image_size=64)
    assert "†" not in text and "multiply-adds at 64 px" in text
    assert "5, 10 epochs" in text and "batch 64, 256" in text
    recipes["rotnet"]["epochs"] = 15
    assert "- rotnet × own/net, seed 0: measured up to epoch 5 of 15" in study(tmp_path, rows, every=5, recipes=recipes)


def test_the_caption_says_where_techniques_had_other_budgets(tmp_path):
    rows = rows_of("byol", "resnet18", (0.1, 0.2)) + rows_of("rotnet", "resnet18", (0.1, 0.2))
    budgets = {"byol": {"epochs": 1000, "batch": 4096}, "rotnet": {"epochs": 100, "batch": 128}}
    told = "**Budgets differ**"
    first = study(tmp_path / "a", rows, recipes=budgets)
    assert told in first and "rotnet 100 epochs, batch 128; byol 1000 epochs, batch 4096" in first
    alike = {name: {"epochs": 100, "batch": 128} for name in budgets}
    assert told not in study(tmp_path / "b", rows, recipes=alike)


def test_the_caption_says_whose_batch_norm_saw_parts_of_a_batch(tmp_path):
    for technique, parts in (("byol", 16), ("rotnet", 1)):
        run = tmp_path / "cells" / f"{technique}-resnet18-0"
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"technique": technique, "plan": {"accumulate": parts}}))
    rows = rows_of("byol", "resnet18", (0.1, 0.2)) + rows_of("rotnet", "resnet18", (0.1, 0.2))
    assert "Batch norm saw a batch in parts: byol 16." in study(tmp_path, rows)


def test_the_caption_tells_the_conditions_and_calls_drawn_scenes_synthetic(tmp_path):
    settings = {"data": "scenes", "judge": "stl10", "pool_images": 4000, "test_images": 8000, "epochs": 10}
    settings |= {"machine": {"gpu": "H200", "cores": 16}, "recipe": "short", "seeds": [0], "commit": "abc1234"}
    caption = study(tmp_path, rows_of("byol", "resnet18", (0.1, 0.2, 0.3)), **settings).split("##")[0]
    for words in ("scenes (synthetic)", "4000 images", "8000 test", "96 px", "gpu H200, cores 16", "abc1234"):
        assert words in caption
    assert "stl10 (synthetic)" not in caption
    assert "±.011" in caption  # 1.96 * sqrt(.25 / 8000)


@pytest.mark.parametrize("broken", ["", "[1, 2]", '{"techniques": 3, "seeds": "x"', '{"seeds": 3, "epochs": "all"}'])
def test_a_torn_or_strange_study_file_does_not_stop_the_report(tmp_path, broken):
    (tmp_path / "study.json").write_text(broken)
    assert "**.300**" in study(tmp_path, rows_of("byol", "resnet18", (0.1, 0.2, 0.3)))


def test_a_study_without_rows_yet_gives_a_table_of_dashes(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"techniques": ["byol"], "backbones": ["resnet18"], "judge": "x"}))
    report(tmp_path)
    assert not list(tmp_path.glob("*.png"))
    assert table((tmp_path / "table.md").read_text(), "highest test accuracy")["BYOL"][1] == "–"


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(BadData, match="name the folder of a study"):
        report(tmp_path)


def test_hostile_names_break_neither_table_nor_figures(tmp_path):
    names = ["_a|b", "<script>x</script>", "new\nline", "$\\frac$ *b* `c`", "[x](http://y)", "bell\x07\u202e", "\ud800"]
    rows = [row for name in names for row in rows_of(name, f"net{name}", (0.1, 0.2, 0.3))]
    text = study(tmp_path, rows, data=names[0], judge=names[1], machine={names[2]: names[3]})
    cells = table(text, "highest test accuracy")
    assert len(cells["technique"]) == 1 + len(names)
    assert "<script>" not in text and not re.search(r"(?<!\\)([`$]|\]\(http)", text)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    report(tmp_path)
    for name in ("figure1", "figure2", "cost"):
        ElementTree.parse(tmp_path / f"{name}.svg")


def test_a_second_judge_has_its_own_section_and_figures(tmp_path):
    rows = rows_of("byol", "resnet18", (0.1, 0.2, 0.3))
    text = study(tmp_path, rows + [row | {"judge": "own", "value": row["value"] + 0.5} for row in rows])
    assert table(text.split("# Accuracy on own")[0], "highest test accuracy")["BYOL"][1] == "**.300**"
    assert table(text, "# Accuracy on own")["BYOL"][1] == "**.800**"
    assert "(figure1.png)" in text and "(figure1-2.png)" in text


def test_the_curve_over_seeds_is_the_mean_of_each_seeds_maximum(tmp_path):
    results.append(
        tmp_path,
        rows_of("byol", "resnet18", (0.1, 0.5, 0.3), seed=0)
        + rows_of("byol", "resnet18", (0.1, 0.3, 0.4), seed=1)
        + rows_of("byol", "resnet18", (0.1, 0.9), seed=2),
    )
    report(tmp_path)
    drawn = pd.read_csv(tmp_path / "curves.csv")
    assert drawn.highest.tolist() == pytest.approx([math.nan, 0.4, 0.45], nan_ok=True)
    assert drawn.start[0] == pytest.approx(0.1)
    assert drawn.seeds.tolist() == [2, 2, 2]  # the third seed stopped early
    assert (drawn.high - drawn.highest).tolist()[1:] == pytest.approx([12.706 * 0.1, 12.706 * 0.05], rel=1e-4)


def test_seeds_that_converged_count_at_any_length_and_crashed_ones_do_not(tmp_path):
    """In the curves, on the page and in a comparison alike; the page once left them out."""
    results.append(
        tmp_path,
        rows_of("byol", "resnet18", (0.1, 0.5, 0.3), seed=0)
        + rows_of("byol", "resnet18", (0.1, 0.3), seed=1)
        + rows_of("byol", "resnet18", (0.1, 0.9), seed=2),
    )
    record = {"until_converged": {"after": 1, "score": "rank"}, "judge": "stl10", "classes": ["a"], "pool_images": 9}
    record |= {"test_images": 1000, "image_size": 96, "epochs": 10, "seeds": [0, 1, 2]}
    write_json(tmp_path / "study.json", record)
    last = int(results.read(tmp_path).query("seed == 1").epoch.max())
    run = tmp_path / "cells/byol-resnet18-1"
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text(json.dumps({"epoch": last, "stopped": "rank 3 has not improved"}) + "\n")
    report(tmp_path)
    drawn = pd.read_csv(tmp_path / "curves.csv")
    assert drawn.highest.tolist()[1:] == pytest.approx([0.4, 0.4])  # seed 1 keeps its 0.3, seed 2 is left out
    assert drawn.seeds.tolist() == [2, 2, 2]
    assert set(open_study(open_material(tmp_path)).rows.seed) == {0, 1}
    assert "| BYOL | resnet18 | .400 |" in compare(tmp_path, "paper")


def test_an_energy_that_nobody_measured_is_no_zero(tmp_path):
    """Epoch 0 costs nothing; that was the highest of what was known of a run whose counter failed."""
    unmeasured = [
        row | {"kwh": math.nan if row["epoch"] else 0.0} for row in rows_of("byol", "resnet18", (0.1, 0.2, 0.3))
    ]
    results.append(tmp_path, unmeasured + rows_of("simclr", "resnet18", (0.1, 0.2, 0.3)))
    text = table_text(tmp_path)
    assert "| kWh, sum |  | 0.100 (1 of 2) |" in text, text


def test_each_figure_is_saved_in_two_kinds_and_the_same_rows_give_the_same_bytes(tmp_path):
    results.append(tmp_path, rows_of("byol", "resnet18", (0.1, 0.2, 0.3)))
    paths = report(tmp_path)
    assert all(path.exists() for path in paths)
    names = {"table.md", "curves.csv"} | {f"{n}.{k}" for n in ("figure1", "figure2", "cost") for k in ("png", "svg")}
    assert {path.name for path in paths} == names
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in report(tmp_path)] == before


def grid_like_the_paper(change):
    backbones = [spellings[0] for spellings in paper.BACKBONES.values()]
    names = [spellings[0] for spellings in paper.TECHNIQUES.values()]
    return [
        row
        for (technique, backbone), value in zip(
            [(t, b) for t in names for b in backbones], paper.TABLE_1.values(), strict=True
        )
        for row in rows_of(technique, backbone, (0.99, change(value), 0.05))
    ]


@pytest.mark.parametrize(("change", "expected"), [(lambda v: v**3 / 2 + 0.1, 1.0), (lambda v: 1 - v, -1.0)])
def test_the_same_order_as_the_papers_agrees_wholly_and_the_reverse_not_at_all(tmp_path, change, expected):
    results.append(tmp_path, grid_like_the_paper(change))
    correlation, cells = rank_agreement(results.read(tmp_path))
    assert cells == 25 and correlation == pytest.approx(expected)


def test_the_agreement_is_scipys_ties_included(tmp_path):
    results.append(tmp_path, grid_like_the_paper(lambda value: round(10 * value) % 4 / 10 + 0.1))
    correlation, _ = rank_agreement(results.read(tmp_path))
    ours = [round(10 * value) % 4 / 10 + 0.1 for value in paper.TABLE_1.values()]
    assert correlation == pytest.approx(stats.spearmanr(ours, list(paper.TABLE_1.values())).statistic)


def test_the_agreement_is_printed_for_ten_cells_and_not_for_fewer(tmp_path):
    rows = grid_like_the_paper(lambda value: value)
    said = study(tmp_path / "ten", rows[:30])
    assert "over 10 cells" in said and ": 1.00, 95 % interval 0.96 to 1.00 (Fisher" in said
    assert "Spearman" not in study(tmp_path / "nine", rows[:27])


def test_mean_ranks_are_those_worked_by_hand(tmp_path):
    """On resnet18 byol, simclr, rotnet; on squeezenet simclr before two equals; a third that byol alone has is out."""
    scores = {
        "resnet18": {"byol": 0.9, "simclr": 0.8, "rotnet": 0.3},
        "squeezenet": {"byol": 0.5, "simclr": 0.7, "rotnet": 0.5},
        "mobilenet_v2": {"byol": 0.6},
    }
    rows = [
        row
        for backbone, by_technique in scores.items()
        for technique, value in {**by_technique, "random_init": 0.99}.items()
        for row in rows_of(technique, backbone, (0.1, value), held_out=(0.1, value))
    ]
    study(tmp_path, rows)
    assert mean_ranks(results.read(tmp_path)) == {"byol": (1 + 2.5) / 2, "simclr": (2 + 1) / 2, "rotnet": (3 + 2.5) / 2}
    assert "Techniques by data set" not in table_text(tmp_path)
