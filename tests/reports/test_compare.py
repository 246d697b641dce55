"""Two studies side by side, and a study beside the paper."""

import shutil

import numpy as np
import pytest
from scipy import stats

from lilliput.errors import BadData
from lilliput.reports.compare import Side, beyond, compare
from lilliput.studies.statistics import accuracies
from lilliput.system.records import read_json, write_json


def test_a_study_is_compared_with_the_paper_and_with_itself(study, tmp_path):
    out = study[0]
    said = compare(out, "paper")
    assert "| SimCLR | shufflenet_v2 |" in said and "| .590 |" in said and "2 cells in common" in said
    assert "Their settings are the same" in compare(out, out) and "| +0.000 ± " in compare(out, out)
    assert "within uncertainty |" in compare(out, out) and "correction for 2 cells: none" in compare(out, out)
    with pytest.raises(BadData, match="not the folder of a judged study"):
        compare(out, tmp_path)


def test_studies_are_compared_image_by_image_where_their_test_images_are_the_same(study, tmp_path):
    out = tmp_path / "s"
    shutil.copytree(study[0], out)
    assert ", image by image," in compare(study[0], out)
    record = read_json(out / "study.json")
    write_json(out / "study.json", record | {"judge_digests": [record["judge_digests"][0], "0" * 64]})
    assert ", image by image," not in compare(study[0], out) and "95 % interval by Welch;" in compare(study[0], out)


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.03)])
def test_equal_studies_show_a_difference_in_5_of_100_comparisons(seeds, spread):
    """25 tests at 5 % each: 72 % of equal pairs showed one."""
    draw, cells = np.random.default_rng(0), [("SimCLR", str(number)) for number in range(25)]

    def side(lead=0.0):
        truth = 0.5 + spread * draw.standard_normal((25, seeds))
        truth[0] += lead
        return Side("", dict(zip(cells, accuracies(draw.binomial(1000, truth) / 1000, 1000), strict=True)), None)

    shown = sum(any(beyond(cells, side(), side())) for _ in range(300))
    assert shown <= stats.binom.ppf(0.999, 300, 0.05)
    assert beyond(cells, side(), side(0.2)) == [True] + [False] * 24
