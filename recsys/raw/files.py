"""Finds and opens raw parquet files, and limits how many of their rows are decoded at once."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError

READ_ROWS = 16_384
"""Maximum number of rows decoded at once: with 531 tokens per row, a batch of strings stays near 35 MB."""


_BATCH_BYTES = 64 << 20
"""Target size of a decoded batch, by column sizes in the footer; rows of 100,000 tokens are decoded a few at a time."""


_MIN_ROWS = 64


def find_files(paths: Sequence[str], folder: Path) -> list[Path]:
    """Returns the parquet files that paths, folders and globs match, sorted by name within each.

    Raises:
        InputError: for a path that matches no file.
    """
    files: list[Path] = []
    for path in paths:
        location = folder / path
        if location.is_dir():
            matches = sorted(location.glob("*.parquet"))
        elif location.is_file():
            matches = [location]
        else:
            matches = sorted(location.parent.glob(location.name)) if location.parent.is_dir() else []
        if not matches:
            raise InputError(f"{location} matches no parquet file: correct the path, or the folder given with --data")
        files += matches
    return files


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a parquet file.

    Raises:
        InputError: if the file is not a complete parquet file.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): write it again")
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # pre-buffering a row group may load gigabytes of sequences
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a complete parquet file ({reason}): write or copy it again") from error


def batch_rows(file: pq.ParquetFile, columns: Sequence[str]) -> int:
    """Returns how many rows of a file to decode at once."""
    metadata, selected = file.metadata, set(columns)
    max_row_bytes = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(index) for index in range(group.num_columns)]
        n_bytes = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in selected)
        max_row_bytes = max(max_row_bytes, n_bytes // max(group.num_rows, 1))
    return min(READ_ROWS, max(_MIN_ROWS, _BATCH_BYTES // max(max_row_bytes, 1)))
