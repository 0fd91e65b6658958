"""Raw parquet files: found, opened, and how many of their rows are decoded at once."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError

READ_ROWS = 16_384
"""Rows decoded at once, at most: with 531 tokens a row, a batch of strings stays near 35 MB."""


_BATCH_BYTES = 64 << 20
"""Of a batch, by what the file says of its columns: rows of a hundred thousand tokens are decoded a few at a time."""


_LEAST_ROWS = 64


def find_files(paths: Sequence[str], folder: Path) -> list[Path]:
    """The parquet files that paths, folders and globs stand for, each set sorted by name.

    Raises:
        InputError: for a path that stands for no file.
    """
    files: list[Path] = []
    for path in paths:
        place = folder / path
        if place.is_dir():
            found = sorted(place.glob("*.parquet"))
        elif place.is_file():
            found = [place]
        else:
            found = sorted(place.parent.glob(place.name)) if place.parent.is_dir() else []
        if not found:
            raise InputError(f"{place} stands for no parquet file: correct the path, or the folder given with --data")
        files += found
    return files


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a parquet file.

    Raises:
        InputError: when the file is not a whole parquet file.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): write it again")
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # a row group read ahead may hold gigabytes of sequences
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a whole parquet file ({reason}): write or copy it again") from error


def batch_rows(file: pq.ParquetFile, columns: Sequence[str]) -> int:
    """How many rows of a file are decoded at once."""
    metadata, wanted = file.metadata, set(columns)
    widest = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        parts = [group.column(index) for index in range(group.num_columns)]
        n_bytes = sum(c.total_uncompressed_size for c in parts if c.path_in_schema.split(".")[0] in wanted)
        widest = max(widest, n_bytes // max(group.num_rows, 1))
    return min(READ_ROWS, max(_LEAST_ROWS, _BATCH_BYTES // max(widest, 1)))
