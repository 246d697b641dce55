"""Errors that name the way out."""

import pytest

from lilliput.errors import BadSetting, wanted


def test_a_library_that_is_missing_is_named_with_its_extra():
    with pytest.raises(BadSetting, match=r'no_such is not installed|pip install "lilliput\[report\]"'):
        wanted("no_such.part", extra="report")
