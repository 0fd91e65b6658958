"""Column names and wildcard patterns. A name that exists is that column, even if it contains `*`, `?` or `[`."""

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from natsort import natsorted

from recsys.errors import InputError

ValueT = TypeVar("ValueT")


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Returns `"; did you mean 'x'?"` for the nearest known name after a prefix, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix + matches[0]!r}?" if matches else ""


def has_columns(columns: Iterable[str], n_shown: int = 8) -> str:
    """The first of some columns' names, for messages: `it has a, b, ...`."""
    names = natsorted(columns)
    return f"it has {', '.join(names[:n_shown])}{', ...' if len(names) > n_shown else ''}"


def is_pattern(name: str, known: Collection[str] = ()) -> bool:
    """Whether a name contains a wildcard and is not one of the known names."""
    return name not in known and any(character in name for character in "*?[")


def match_columns(patterns: Iterable[str], columns: Collection[str], role: str) -> list[str]:
    """Expands names and patterns to columns: in the listed order, and in natural order within a pattern.

    Raises:
        InputError: when a name or pattern matches no column.
    """
    selected: dict[str, None] = {}
    for pattern in patterns:
        if is_pattern(pattern, columns):
            matched = natsorted(fnmatch.filter(columns, pattern))
        else:
            matched = [pattern] if pattern in columns else []
        if not matched:
            raise InputError(
                f"{role}: {pattern!r} is not a column of the data{nearest(pattern, columns)} "
                f"({has_columns(columns)}): correct the schema or the file"
            )
        selected.update(dict.fromkeys(matched))
    return list(selected)


def by_column(default: ValueT, overrides: Mapping[str, ValueT], column: str, columns: Collection[str]) -> ValueT:
    """Returns the setting of a column: that under its name, else of the last matching pattern, else the default.

    Args:
        default: the setting of other columns.
        overrides: settings by name or pattern.
        column: the column.
        columns: all columns; a key that is one of them is no pattern.
    """
    if column in overrides:
        return overrides[column]
    for pattern, value in overrides.items():
        if is_pattern(pattern, columns) and fnmatch.fnmatchcase(column, pattern):
            default = value
    return default
