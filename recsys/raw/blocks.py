"""Blocks of consecutive rows, of one file or of several small ones, which remember where each row comes from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys.raw.files.raw_file import BATCH_BYTES, READ_ROWS


@dataclass(frozen=True)
class Origin:
    """Rows of a block that come from one file."""

    path: Path
    first_row: int
    """Number of the first row in the file."""
    n_rows: int


@dataclass(frozen=True)
class Block:
    """Consecutive rows."""

    table: pa.Table
    origins: tuple[Origin, ...]

    @property
    def span(self) -> str:
        """The files of the rows, for messages about an unknown row."""
        first, last = self.origins[0].path, self.origins[-1].path
        return str(first) if first == last else f"one of {first} to {last}"

    def place(self, row: int) -> tuple[Path, int]:
        """Returns the file of a row of the block, and its number in the file."""
        for origin in self.origins:
            if row < origin.n_rows:
                return origin.path, origin.first_row + row
            row -= origin.n_rows
        raise IndexError(row)

    def parts(self) -> Iterator[tuple[Path, pa.Table]]:
        """Yields the rows of each file."""
        first = 0
        for origin in self.origins:
            yield origin.path, self.table.slice(first, origin.n_rows)
            first += origin.n_rows


def in_blocks(tables: Iterable[tuple[Origin, pa.Table]]) -> Iterator[Block]:
    """Joins consecutive small tables of the same types, of one file or of several, to blocks of up to READ_ROWS rows.

    Rows of a thousand tiny files or row groups would otherwise cost as much as a thousand blocks.
    """
    pending: list[tuple[Origin, pa.Table]] = []
    n_pending, n_bytes = 0, 0
    for origin, table in tables:
        n_rows, table_bytes = table.num_rows, table.get_total_buffer_size()
        is_full = n_pending + n_rows > READ_ROWS or n_bytes + table_bytes > BATCH_BYTES
        if pending and (is_full or not table.schema.equals(pending[0][1].schema)):
            yield _joined(pending)
            pending, n_pending, n_bytes = [], 0, 0
        if n_rows:
            pending.append((origin, table))
            n_pending, n_bytes = n_pending + n_rows, n_bytes + table_bytes
    if pending:
        yield _joined(pending)


def _joined(pending: list[tuple[Origin, pa.Table]]) -> Block:
    origins = tuple(origin for origin, _ in pending)
    if len(pending) == 1:
        return Block(pending[0][1], origins)
    return Block(pa.concat_tables([table for _, table in pending]).combine_chunks(), origins)
