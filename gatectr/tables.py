"""Tables of the user: pandas, polars, Arrow, or columns by name, as Arrow tables and parquet files."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError

Rows = Any
"""Rows of the user: a table, or the paths of files, folders or patterns."""


def is_paths(rows: Rows) -> bool:
    """Whether rows are given by paths."""
    if isinstance(rows, (list, tuple)):
        return bool(rows) and all(isinstance(path, (str, Path)) for path in rows)
    return isinstance(rows, (str, Path))


def paths_of(rows: Rows) -> list[Path]:
    """Rows given by paths, as a list of them."""
    return [Path(path) for path in (rows if isinstance(rows, (list, tuple)) else [rows])]


def to_arrow(rows: Rows) -> pa.Table:
    """A table of pandas, polars or Arrow, or a mapping of columns, as an Arrow table; a pandas index is left out.

    Raises:
        InputError: for another object, or a column that mixes types.
    """
    try:
        if isinstance(rows, pa.Table):
            return rows
        if type(rows).__module__.partition(".")[0] == "pandas":
            return _of_pandas(rows)
        if isinstance(rows, Mapping):
            return pa.table({str(name): column for name, column in rows.items()})
        if hasattr(rows, "to_arrow"):
            return rows.to_arrow()
        if hasattr(rows, "__arrow_c_stream__"):
            return pa.table(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InputError(f"a column mixes types: {' '.join(map(str, error.args))}: give it one type") from error
    raise InputError(
        f"rows must be a pandas, polars or Arrow table, a mapping of columns, or a path, got {type(rows).__name__}"
    )


def _of_pandas(rows: Any) -> pa.Table:
    if not hasattr(rows, "columns"):
        raise InputError("rows must be a table, got a pandas Series: pass a DataFrame, such as df[[column]]")
    names = [str(name) for name in rows.columns]
    return pa.Table.from_pandas(rows, preserve_index=False).rename_columns(names)


@contextmanager
def as_files(rows: Rows, name: str = "rows") -> Iterator[list[Path]]:
    """The files of rows: those that paths name, or a temporary one for a table; none for None.

    A temporary file has the same name, size and time for the same table, which is what prepared data is known by.
    """
    if rows is None:
        yield []
        return
    if is_paths(rows):
        yield paths_of(rows)
        return
    table = to_arrow(rows)
    with TemporaryDirectory(prefix="gatectr-") as folder:
        path = Path(folder) / f"{name}.parquet"
        pq.write_table(table, path)
        try:
            yield [same_time(path)]
        except InputError as error:
            raise InputError(str(error).replace(str(path), "the table")) from error


def same_time(path: Path) -> Path:
    """Gives a file a time that depends on its content only."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    os.utime(path, ns=(0, int(digest[:12], 16)))
    return path
