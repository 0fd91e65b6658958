"""Raw files of public data sets, and comparison of what the converter writes with expected tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Convert = Callable[[str, Path], Path]


def write(folder: Path, files: dict[str, str], encoding: str = "utf-8") -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(encoding))
    return folder


def rows_of(path: Path, columns: list[str] | None = None) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in pq.read_table(path, columns=columns).to_pylist()]


def without_empty_text(table: pa.Table) -> pa.Table:
    """Replaces empty text, which the parquet files of earlier conversions contain, by null."""
    for index, name in enumerate(table.column_names):
        column = table[name]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            table = table.set_column(index, name, pc.if_else(pc.equal(column, ""), None, column))
    return table


def assert_equal(path: Path, expected: pa.Table) -> None:
    """Compares a written file with the columns of an expected table, whatever widths their types have."""
    table = pq.read_table(path).select(expected.column_names).cast(expected.schema)
    expected = without_empty_text(expected)
    for name in expected.column_names:
        assert table[name].to_pylist() == expected[name].to_pylist(), name


def text_rows(table: pa.Table, delimiter: str, header: bool = False) -> str:
    """Writes a table as text without quotes; null is empty, and a whole float has a point, as pandas writes it."""
    lines = [delimiter.join(table.column_names)] if header else []
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        lines.append(delimiter.join("" if value is None else str(value) for value in row))
    return "\n".join(lines) + "\n"
