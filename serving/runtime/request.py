"""The columns of a request: those that all candidates share, and those of the candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from recsys.errors import InputError
from recsys.patterns import nearest

Rows = pa.Table | pa.RecordBatch | Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]
"""Rows of a request: an Arrow table, a list of dicts, or lists by column; also a pandas or polars data frame."""


@dataclass(frozen=True)
class Request:
    """Rows to score: n candidates, with what they have in common."""

    n: int
    shared: dict[str, Any]
    """Values of the user and the context, by column."""
    columns: dict[str, Any]
    """Columns of n values, of the candidates: lists or Arrow arrays."""

    def names(self) -> list[str]:
        """The names of all columns."""
        return [*self.shared, *self.columns]


def read_request(candidates: Any, user: Mapping[str, Any] | None, needed: Sequence[str]) -> Request:
    """Reads the needed columns of a request.

    Args:
        candidates: rows (see `Rows`), one for each candidate.
        user: values that all candidates share, by column; a candidate's own column replaces it.
        needed: the columns that the models read.

    Raises:
        InputError: for a needed column that is missing, rows of another form, or no rows.
    """
    if user is not None and not isinstance(user, Mapping):
        raise InputError(f"user must map columns to values, got {type(user).__name__}: correct it")
    n, columns = _columns_of(candidates, needed)
    if n == 0:
        raise InputError("the request has no candidates: give at least one")
    given = user or {}
    shared = {name: given[name] for name in needed if name in given and name not in columns}
    if len(shared) + len(columns) < len(needed):
        name = next(name for name in needed if name not in columns and name not in shared)
        known = [str(key) for key in (*given, *columns)]
        raise InputError(
            f"the request has no column {name!r}{nearest(name, known)}: add it to the user or to the candidates; a "
            "missing value is null"
        )
    return Request(n, shared, columns)


def _columns_of(candidates: Any, needed: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Returns the number of candidates, and their needed columns."""
    if hasattr(candidates, "to_arrow"):  # polars
        candidates = candidates.to_arrow()
    elif hasattr(candidates, "iloc"):  # pandas
        candidates = pa.Table.from_pandas(candidates, preserve_index=False)
    if isinstance(candidates, pa.RecordBatch):
        candidates = pa.Table.from_batches([candidates])
    if isinstance(candidates, pa.Table):
        return candidates.num_rows, _columns_of_table(candidates, needed)
    if isinstance(candidates, Mapping):
        columns = {name: candidates[name] for name in needed if name in candidates}
        for name, values in candidates.items():
            if not isinstance(values, list | tuple):
                raise InputError(f"column {name!r} of the candidates must be a list with one value for each candidate")
        lengths = {len(values) for values in candidates.values()}
        if len(lengths) > 1:
            raise InputError(
                f"the columns of the candidates have {' and '.join(map(str, sorted(lengths)))} values: give each "
                "candidate one value in each column"
            )
        return lengths.pop() if lengths else 0, columns
    if isinstance(candidates, list | tuple):
        return len(candidates), _columns_of_dicts(candidates, needed)
    raise InputError(
        f"candidates must be a table, a list of rows or lists by column, got {type(candidates).__name__}: correct it"
    )


def _columns_of_table(table: pa.Table, needed: Sequence[str]) -> dict[str, Any]:
    names = table.column_names
    position = {name: index for index, name in enumerate(names)}
    for name in needed:
        if name in position and len(position) < len(names) and names.count(name) > 1:
            raise InputError(f"the request has {names.count(name)} columns {name!r}: keep one of them")
    columns = {}
    for name in needed:
        if name in position:
            column = table.column(position[name])
            columns[name] = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return columns


def _columns_of_dicts(rows: Sequence[Any], needed: Sequence[str]) -> dict[str, Any]:
    if not rows:
        return {}
    if not all(isinstance(row, Mapping) for row in rows):
        number = next(number for number, row in enumerate(rows) if not isinstance(row, Mapping))
        raise InputError(f"candidate {number} must map columns to values: correct it")
    columns: dict[str, Any] = {}
    for name in needed:
        if name not in rows[0] and not any(name in row for row in rows):
            continue
        try:
            columns[name] = [row[name] for row in rows]
        except KeyError:
            number = next(number for number, row in enumerate(rows) if name not in row)
            raise InputError(
                f"candidate {number} has no column {name!r}, which other candidates have: add it; a missing value is "
                "null"
            ) from None
    return columns
