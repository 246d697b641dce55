"""The figures draw what the rows say."""

import pytest

from lilliput.reports import figures
from lilliput.reports.page.measured import CURVES, _interactive_curves
from lilliput.studies import results
from tests.reports.conftest import rows_of


def lines_of(figure):
    """The curves of a figure as {(technique, backbone): (epochs, heights)}."""
    curves = [line for axes in figure.axes for line in axes.lines if "|" in (line.get_gid() or "")]
    return {tuple(line.get_gid().split("|")): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in curves}


HARMED = (
    rows_of("byol", "resnet18", (0.41, 0.35, 0.33, 0.372), epochs=(0, 5, 10, 15))
    + rows_of("rotnet", "resnet18", (0.1, 0.4), epochs=(5, 10))  # it has no start of its own: the backbone's
    + rows_of("random_init", "resnet18", (0.3,))
)


def test_a_network_that_pretraining_harmed_is_drawn_below_its_start(tmp_path):
    """The maximum once began at epoch 0, so that a curve could only rise: BYOL lay at .41 throughout."""
    results.append(tmp_path, HARMED)
    rows = results.read(tmp_path)
    expected = {
        ("byol", "resnet18"): ([5, 10, 15], [0.35, 0.35, 0.372]),
        ("byol", "resnet18", "start"): ([0, 15], [0.41, 0.41]),
        ("rotnet", "resnet18"): ([5, 10], [0.1, 0.4]),
        ("rotnet", "resnet18", "start"): ([0, 10], [0.3, 0.3]),
    }
    first, second = figures.figure1(rows), figures.figure2(rows)
    assert lines_of(first) == expected and lines_of(second) == expected
    starts = [line for axes in first.axes for line in axes.lines if (line.get_gid() or "").endswith("start")]
    assert all(line.get_markevery() == [0] and line.get_linestyle() == "--" for line in starts)  # "--": of own dashes
    titles = [[axes.get_title(loc="left") for axes in figure.axes] for figure in (first, second)]
    assert titles == [["RotNet", "BYOL"], ["resnet18"]]


def test_a_line_of_the_curves_has_a_start_at_epoch_0_and_a_highest_after_it(tmp_path):
    seeds = [row for seed, values in enumerate([(0.5, 0.3, 0.2), (0.7, 0.1, 0.4)]) for row in _byol(seed, values)]
    results.append(tmp_path, seeds)
    points = figures.curves(results.read(tmp_path)).set_index("epoch")
    assert points.start.dropna().to_dict() == pytest.approx({0: 0.6})
    assert points.highest.dropna().to_dict() == pytest.approx({5: 0.2, 10: 0.35})  # .3 and .1, then .3 and .4
    assert points.high[0] - points.start[0] == pytest.approx(12.7062 * 0.1, rel=1e-4)  # t of one degree, sd/sqrt(2)
    assert list(points.seeds) == [2, 2, 2]


def test_a_cell_of_which_only_the_start_was_judged_is_a_point_without_a_curve(tmp_path):
    results.append(tmp_path, rows_of("byol", "resnet18", (0.41,)))
    assert lines_of(figures.figure1(results.read(tmp_path))) == {("byol", "resnet18", "start"): ([0, 0], [0.41, 0.41])}


def _byol(seed, values):
    return rows_of("byol", "resnet18", values, seed=seed)


def test_pixels_and_chance_are_level_lines_in_every_panel(tmp_path):
    classes = [row for c in "abcd" for row in rows_of("byol", "resnet18", (0, 0, 0), metric=f"accuracy/{c}")]
    cells = rows_of("byol", "resnet18", (0.1, 0.2, 0.3)) + rows_of("simclr", "resnet18", (0.1, 0.2, 0.3))
    results.append(tmp_path, classes + cells + rows_of("pixels", "", (0.377,)))
    for axes in figures.figure1(results.read(tmp_path)).axes:
        level = [line.get_ydata()[0] for line in axes.lines if "|" not in (line.get_gid() or "")]
        assert level == [0.377, 0.25]


def test_the_front_holds_what_no_cheaper_cell_matches():
    points = [(1, 0.3), (2, 0.2), (2, 0.5), (3, 0.5), (4, 0.6), (5, 0.55)]
    assert figures.front(points) == [(1, 0.3), (2, 0.5), (4, 0.6)]


def test_the_curves_of_the_page_have_the_start_apart_as_well(tmp_path):
    results.append(tmp_path, HARMED)
    figure = _interactive_curves(figures.curves(results.read(tmp_path)), CURVES["figure1"])
    drawn = {trace["name"]: (list(trace["x"]), list(trace["y"])) for trace in figure["data"] if trace["x"][-1] == 15}
    assert drawn == {"resnet18": ([5, 10, 15], [0.35, 0.35, 0.372]), "resnet18, untrained": ([0, 15], [0.41, 0.41])}
