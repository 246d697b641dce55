"""Two studies side by side, and a study beside the paper."""

import pytest

from lilliput.errors import BadData
from lilliput.reports.compare import compare


def test_a_study_is_compared_with_the_paper_and_with_itself(study, tmp_path):
    out = study[0]
    said = compare(out, "paper")
    assert "| SimCLR | shufflenet_v2 |" in said and "| .590 |" in said and "2 cells in common" in said
    assert "Their settings are the same" in compare(out, out) and "+0.000 | within uncertainty" in compare(out, out)
    with pytest.raises(BadData, match="not the folder of a judged study"):
        compare(out, tmp_path)
