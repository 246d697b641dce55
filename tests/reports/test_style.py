"""Figures look the same whatever a user has configured."""

import matplotlib
import pytest

from lilliput.reports.page import page
from lilliput.reports.style import own_style
from lilliput.reports.tables import write_tables


def test_a_style_of_the_users_does_not_reach_our_figures_and_is_theirs_again_afterwards():
    """A matplotlibrc with other colours, fonts and sizes changed every figure of a report."""
    with matplotlib.rc_context({"font.size": 40.0}):
        with own_style():
            assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]
        assert matplotlib.rcParams["font.size"] == 40.0


def test_tables_and_pages_are_written_in_that_style():
    seen = []

    class Material:
        """What is asked of it first is the style in force."""

        def __getattr__(self, _name):
            seen.append(matplotlib.rcParams["font.size"])
            raise LookupError

    for write in (write_tables, page.write_report):
        with matplotlib.rc_context({"font.size": 40.0}), pytest.raises(LookupError):
            write(Material())
    assert set(seen) == {matplotlib.rcParamsDefault["font.size"]}
