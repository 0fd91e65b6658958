"""Parquet files. A footer is read once; reading decodes few rows at once, whatever the size of a row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError
from recsys.raw.files.find import DELIMITED, PARQUET, partition_values
from recsys.raw.files.raw_file import BATCH_BYTES, READ_ROWS, RawFile

_MIN_ROWS, _FEW_ROWS = 64, 1024
_MAX_RANGES = 64
"""Number of row groups that tell the range of a column."""


def open_parquet(path: Path, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Opens a parquet file.

    Raises:
        InputError: if the file is not a complete parquet file.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes): write it again")
        # pre-buffering a row group may load gigabytes of sequences
        return pq.ParquetFile(path, metadata=footer, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        if path.suffix.lower() not in PARQUET:
            raise InputError(
                f"{path} is neither a parquet file nor, by its name, a CSV or TSV file ({', '.join(DELIMITED)}): "
                "convert or rename it"
            ) from error
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a complete parquet file ({reason}): write or copy it again") from error


@dataclass(frozen=True)
class ParquetFile(RawFile):
    """A parquet file."""

    footer: pq.FileMetaData = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "ParquetFile":
        """Reads the footer.

        Raises:
            InputError: if the file is not a complete parquet file, or a name is not UTF-8.
        """
        file = open_parquet(path)
        try:
            schema = file.schema_arrow
            names = schema.names
        except (UnicodeDecodeError, pa.ArrowException) as error:
            raise InputError(f"{path} has column names that cannot be read ({error}): rename the columns") from error
        partitions = {name: value for name, value in partition_values(path).items() if name not in names}
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        return cls(
            path=path,
            names=(*names, *partitions),
            types={name: schema.field(index).type for index, name in enumerate(names)}
            | dict.fromkeys(partitions, pa.string()),
            untyped=frozenset(partitions),
            group_sizes=tuple(group.num_rows for group in groups),
            partitions=partitions,
            footer=file.metadata,
        )

    def _read_stored(self, columns: Sequence[str], row_groups: Sequence[int]) -> Iterator[pa.Table]:
        n_rows = sum(self.group_sizes[group] for group in row_groups)
        try:
            file = open_parquet(self.path, self.footer)
            yield from _tables(file, row_groups, columns, self._batch_rows(columns), n_rows)
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.path} cannot be read to the end ({reason}): write or copy it again") from error

    def number_range(self, column: str) -> tuple[float, float] | None:
        """See `RawFile`."""
        index = next((k for k in range(self.footer.num_columns) if self.footer.schema.column(k).path == column), None)
        n_groups, bounds = self.footer.num_row_groups, []
        if index is None:
            return None
        for number in range(0, n_groups, max(1, n_groups // _MAX_RANGES)):
            statistics = self.footer.row_group(number).column(index).statistics
            if statistics is None or not isinstance(statistics.min, int | float | Decimal):
                return None  # not written, or text
            bounds += [float(statistics.min), float(statistics.max)]
        return (min(bounds), max(bounds)) if bounds else None

    def _batch_rows(self, columns: Sequence[str]) -> int:
        """Returns how many rows to decode at once."""
        groups = [self.footer.row_group(number) for number in range(self.footer.num_row_groups)]
        if max((_row_bytes(g.total_byte_size, g.num_rows) for g in groups), default=0) * READ_ROWS <= BATCH_BYTES:
            return READ_ROWS
        selected, max_row_bytes = set(columns), 0
        for group in groups:
            chunks = [group.column(index) for index in range(group.num_columns)]
            selected_chunks = [c for c in chunks if {c.path_in_schema, c.path_in_schema.split(".")[0]} & selected]
            n_bytes = sum(chunk.total_uncompressed_size for chunk in selected_chunks)
            max_row_bytes = max(max_row_bytes, _row_bytes(n_bytes, group.num_rows))
        return min(READ_ROWS, max(_MIN_ROWS, BATCH_BYTES // max(max_row_bytes, 1)))


def _tables(
    file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], batch_rows: int, n_rows: int
) -> Iterator[pa.Table]:
    """Streams row groups; few rows are read at once and in this thread, which takes a third of the time."""
    if columns and n_rows <= min(_FEW_ROWS, batch_rows):
        yield file.read_row_groups(list(groups), columns=columns, use_threads=False)
        return
    for batch in file.iter_batches(batch_size=batch_rows, row_groups=list(groups), columns=columns):
        yield pa.Table.from_batches([batch])


def _row_bytes(n_bytes: int, n_rows: int) -> int:
    return n_bytes // max(n_rows, 1)
