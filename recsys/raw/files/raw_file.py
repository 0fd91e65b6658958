"""What preparation needs of a raw file of any format."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

READ_ROWS = 16_384
"""Maximum number of rows decoded at once: with 531 tokens per row, a batch of strings stays near 35 MB."""
BATCH_BYTES = 64 << 20
"""Target size of decoded rows; rows of 100,000 tokens are decoded a few at a time."""


class RawFile(Protocol):
    """A raw file: its columns, including partition columns, and its rows in row groups."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns in the order of the file; a file may repeat a name."""
        ...

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each column."""
        ...

    @property
    def untyped(self) -> frozenset[str]:
        """Columns of text that may stand for values of any type: those of CSV files, and partition columns."""
        ...

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Rows of each row group."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    def read(self, columns: Sequence[str], row_groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Streams columns of row groups (None: all), at most READ_ROWS rows at once.

        Raises:
            InputError: if the file is damaged.
        """
        ...

    def number_range(self, column: str) -> tuple[float, float] | None:
        """Returns about the least and the largest number of a column, if the file has them in its footer."""
        ...
