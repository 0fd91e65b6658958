"""Files of a download as blocks of typed rows, and blocks as parquet files, without a whole file in memory."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipelines.public_data.download import Download
from recsys.errors import InputError
from recsys.system.progress import progress_line

_BLOCK_BYTES = 32 << 20
_PARQUET_ROWS = 100_000

Types = Mapping[str, pa.DataType]


@dataclass(frozen=True)
class TextFormat:
    """How a text file is written. An empty cell is null."""

    delimiter: str = ","
    has_header: bool = True
    has_quotes: bool = True
    encoding: str = "utf8"
    translate: Callable[[bytes], bytes] | None = None
    """A change of the whole file's bytes before they are read."""


CSV = TextFormat()


def read_blocks(download: Download, file: str, types: Types, text: TextFormat = CSV) -> Iterator[pa.RecordBatch]:
    """Streams a text file, or a parquet file of the same columns.

    Args:
        download: the download.
        file: the file.
        types: types of the columns to read; of a file without header, of all its columns in order. Empty: all columns
            of a file with a header, with types by their values.
        text: the format of a text file.

    Raises:
        InputError: if the file is empty or does not have these columns with values of these types.
    """
    n_rows = 0
    with download.open(file) as stream:
        batches = _parquet(stream, types) if file.endswith(".parquet") else _text(stream, types, text)
        try:
            for batch in batches:
                n_rows += batch.num_rows
                yield batch
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{download.path}: {file} is not the file that was expected, with the columns {', '.join(types)} "
                f"({reason}): pass the original download"
            ) from error
    if n_rows == 0:
        raise InputError(f"{download.path}: {file} has no rows: download it again")


def read_table(download: Download, file: str, types: Types, text: TextFormat = CSV) -> pa.Table:
    """Reads a whole file: see `read_blocks`."""
    return pa.Table.from_batches(list(read_blocks(download, file, types, text)))


def write_blocks(blocks: Iterable[pa.RecordBatch], path: Path, n_rows: int) -> None:
    """Writes blocks of the same columns as a parquet file, with a progress line.

    Args:
        blocks: at least one block.
        path: the file.
        n_rows: about how many rows there are, for the progress line.
    """
    writer = None
    try:
        with progress_line(f"writing {path.name}", n_rows) as line:
            for block in blocks:
                writer = writer or pq.ParquetWriter(path, block.schema, compression="zstd")
                writer.write_batch(block)
                line.advance(block.num_rows)
    finally:
        if writer is not None:
            writer.close()


def _text(stream: IO[bytes], types: Types, text: TextFormat) -> Iterator[pa.RecordBatch]:
    if text.translate is not None:
        stream = io.BytesIO(text.translate(stream.read()))
    yield from pa_csv.open_csv(
        stream,
        read_options=pa_csv.ReadOptions(
            block_size=_BLOCK_BYTES,
            encoding=text.encoding,
            column_names=None if text.has_header else list(types),
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=text.delimiter, quote_char='"' if text.has_quotes else False, newlines_in_values=False
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict(types),
            include_columns=list(types) if text.has_header else [],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


def _parquet(stream: IO[bytes], types: Types) -> Iterator[pa.RecordBatch]:
    """Streams a parquet file; empty text is null, as in a text file."""
    schema = pa.schema(list(types.items()))
    file = pq.ParquetFile(stream)
    if missing := [name for name in types if name not in file.schema_arrow.names]:
        raise pa.ArrowKeyError(f"it has no column {missing[0]}")
    for batch in file.iter_batches(_PARQUET_ROWS, columns=list(types)):
        columns = pa.Table.from_batches([batch]).select(list(types)).cast(schema).combine_chunks().to_batches()
        for block in columns:
            arrays = [
                pc.if_else(pc.equal(array, ""), None, array) if pa.types.is_string(array.type) else array
                for array in block.columns
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
