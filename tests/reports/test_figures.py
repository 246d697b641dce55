"""The figures draw what the rows say."""

from lilliput.reports import figures
from lilliput.studies import results
from tests.reports.conftest import rows_of


def lines_of(figure):
    """The curves of a figure as {(technique, backbone): (epochs, heights)}."""
    curves = [line for axes in figure.axes for line in axes.lines if "|" in (line.get_gid() or "")]
    return {tuple(line.get_gid().split("|")): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in curves}


def test_the_figures_draw_the_maximum_so_far_from_the_random_start(tmp_path):
    results.append(
        tmp_path,
        rows_of("byol", "resnet18", (0.2, 0.6, 0.5, 0.7), epochs=(0, 5, 10, 15))
        + rows_of("rotnet", "resnet18", (0.1, 0.4), epochs=(5, 10))
        + rows_of("random_init", "resnet18", (0.3,)),
    )
    rows = results.read(tmp_path)
    expected = {
        ("byol", "resnet18"): ([0, 5, 10, 15], [0.2, 0.6, 0.6, 0.7]),
        ("rotnet", "resnet18"): ([0, 5, 10], [0.3, 0.3, 0.4]),  # it has no start of its own: the backbone's
    }
    first, second = figures.figure1(rows), figures.figure2(rows)
    assert lines_of(first) == expected and lines_of(second) == expected
    titles = [[axes.get_title(loc="left") for axes in figure.axes] for figure in (first, second)]
    assert titles == [["RotNet", "BYOL"], ["resnet18"]]


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
