"""Opens raw files of any format."""

from pathlib import Path

from recsys.raw.files.delimited_text import DelimitedFile, is_delimited
from recsys.raw.files.parquet import ParquetFile
from recsys.raw.files.raw_file import RawFile


def open_raw(path: Path) -> RawFile:
    """Opens a CSV or TSV file by its name, and every other file as parquet.

    Raises:
        InputError: if the file is damaged.
    """
    return DelimitedFile.open(path) if is_delimited(path) else ParquetFile.open(path)
