"""What preparation needs of a raw file of any format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

READ_ROWS = 16_384
"""Maximum number of rows decoded at once: with 531 tokens per row, a batch of strings stays near 35 MB."""
BATCH_BYTES = 64 << 20
"""Target size of decoded rows; rows of 100,000 tokens are decoded a few at a time."""


@dataclass(frozen=True)
class RawFile(ABC):
    """A raw file: its columns, including partition columns, and its rows in row groups."""

    path: Path
    names: tuple[str, ...]
    """Names of the columns in the order of the file; a file may repeat a name."""
    types: dict[str, pa.DataType]
    """The type of each column."""
    untyped: frozenset[str]
    """Columns of text that may stand for values of any type: those of CSV files, and partition columns."""
    group_sizes: tuple[int, ...]
    """Rows of each row group."""
    partitions: dict[str, str | None]
    """Values of the partition columns, which are not in the file."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return sum(self.group_sizes)

    def read(self, columns: Sequence[str], row_groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Streams columns of row groups (None: all), at most READ_ROWS rows at once.

        Raises:
            InputError: if the file is damaged.
        """
        stored = [name for name in columns if name not in self.partitions]
        groups = range(len(self.group_sizes)) if row_groups is None else row_groups
        for table in self._read_stored(stored, groups):
            for column in [name for name in columns if name in self.partitions]:
                value = pa.scalar(self.partitions[column], pa.string())
                table = table.append_column(column, pa.repeat(value, table.num_rows))
            yield table

    @abstractmethod
    def _read_stored(self, columns: Sequence[str], row_groups: Sequence[int]) -> Iterator[pa.Table]:
        """Streams columns that are in the file; without columns, tables that only have a number of rows."""

    def number_range(self, column: str) -> tuple[float, float] | None:
        """Returns about the least and the largest number of a column, if the file has them in its footer."""
        return None
