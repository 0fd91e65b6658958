"""Names and patterns: a name that exists is that column."""

import pytest

from recsys.errors import InputError
from recsys.patterns import by_column, match_columns

COLUMNS = ["f[0]", "f0", "f1", "a*", "ab", "q?", "qx"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["f[0]"], ["f[0]"]),
        (["f[01]"], ["f0", "f1"]),
        (["a*"], ["a*"]),
        (["a?"], ["a*", "ab"]),
        (["q?", "ab"], ["q?", "ab"]),
    ],
)
def test_a_name_that_exists_beats_a_pattern(patterns: list[str], expected: list[str]) -> None:
    assert match_columns(patterns, COLUMNS, "role") == expected


def test_a_pattern_without_a_column_is_named() -> None:
    with pytest.raises(InputError, match=r"role: 'f\[0\]' is not a column of the data"):
        match_columns(["f[0]"], ["f1", "x"], "role")


def test_the_setting_of_a_column_by_name_then_by_the_last_pattern() -> None:
    settings = {"f[0]": 1, "f*": 2, "f?": 3}
    found = [by_column(0, settings, column, COLUMNS) for column in ("f[0]", "f0", "f12", "ab")]
    assert found == [1, 3, 2, 0]
