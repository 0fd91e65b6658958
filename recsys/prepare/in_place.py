"""Replaces codes in the files of rows that were written before the vocabularies were fitted.

Until all rows are read, a row's codes are indices into the distinct values of its batch, which are stored separately.
Then each code is replaced in its file. Codes are a third of a row's bytes; rewriting a row would write all of them.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data import layout
from recsys.data.arrow import ArrowFile
from recsys.data.layout import BLOCK_ROWS
from recsys.data.vocabulary import Codes, Vocabulary
from recsys.prepare.digest import categorical_codes, token_codes
from recsys.schema.resolved import Schema
from recsys.system.threads import in_threads

_N_ROWS = "n_rows"
_INT32 = np.dtype(np.int32)


def values_of(digest: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    """Returns one row: the number of rows of a digest, and the list of distinct values of each code column."""
    values = [categorical_codes(digest, name).values for name in schema.categorical]
    values += [token_codes(digest, sequence.name)[1].values for sequence in schema.token_sequences]
    value_lists = [pa.ListArray.from_arrays(pa.array([0, len(distinct)], pa.int32()), distinct) for distinct in values]
    names = [_N_ROWS, *(str(number) for number in range(len(value_lists)))]
    return pa.RecordBatch.from_arrays([pa.array([digest.num_rows]), *value_lists], names)


def replace_codes(
    values: Iterable[pa.RecordBatch], schema: Schema, vocabularies: Mapping[str, Vocabulary], folder: Path
) -> Iterator[int]:
    """Replaces the codes of a folder's rows by those of the vocabularies.

    Args:
        values: `values_of` each batch, in the order of the rows.
        schema: the roles of the columns.
        vocabularies: by feature.
        folder: the folder of the row and token files.

    Yields:
        The number of rows of each finished batch.
    """
    column_vocabularies = [vocabularies[name] for name in schema.categorical]
    column_vocabularies += [vocabularies[sequence.vocabulary] for sequence in schema.token_sequences]
    n_single = len(schema.categorical)
    rows = _FixedCodes(folder / layout.ROWS_FILE, n_single) if n_single else None
    tokens = [_TokenCodes(folder / layout.tokens_file(sequence.name)) for sequence in schema.token_sequences]

    def replace_batch(batch: tuple[int, pa.RecordBatch]) -> None:
        first_row, batch_values = batch
        n = batch_values[_N_ROWS][0].as_py()
        tables = [
            _code_table(batch_values[str(k)][0].values, vocabulary) for k, vocabulary in enumerate(column_vocabularies)
        ]
        if rows is not None:
            for span in rows.spans(first_row, n):
                codes = rows.read(span).reshape(-1, n_single)
                new_codes = [table[codes[:, k]] for k, table in enumerate(tables[:n_single])]
                rows.write(span, np.stack(new_codes, axis=1))
        for column, table in zip(tokens, tables[n_single:], strict=True):
            for span in column.spans(first_row, n):
                column.write(span, table[column.read(span)])

    try:
        for (_, batch_values), _ in in_threads(replace_batch, _with_first_row(values)):
            yield batch_values[_N_ROWS][0].as_py()
    finally:
        for column in [*([rows] if rows is not None else []), *tokens]:
            column.close()


def _with_first_row(values: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields each batch with the number of its first row."""
    first_row = 0
    for batch in values:
        yield first_row, batch
        first_row += batch[_N_ROWS][0].as_py()


def _code_table(values: pa.Array, vocabulary: Vocabulary) -> np.ndarray:
    """[n + 1] vocabulary codes of the values; the last entry, which index -1 selects, is the code of missing."""
    return vocabulary.encode(Codes(np.append(np.arange(len(values)), -1), values))


Span = tuple[int, int]
"""Consecutive codes in a file: the byte offset of the first code, and the number of codes."""


class _CodeFile:
    """The codes in an Arrow file, read and written in place, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self._arrow = ArrowFile(path)
        self._file = os.open(path, os.O_RDWR)

    def read(self, span: Span) -> np.ndarray:
        """[n] int32."""
        start, n = span
        return np.frombuffer(os.pread(self._file, n * _INT32.itemsize, start), _INT32)

    def write(self, span: Span, codes: np.ndarray) -> None:
        """Overwrites the codes of a span with int32 codes of any shape."""
        remaining, offset = np.ascontiguousarray(codes).data.cast("B"), span[0]
        while remaining:
            n_written = os.pwrite(self._file, remaining, offset)
            remaining, offset = remaining[n_written:], offset + n_written

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _byte_offset(self, buffer: pa.Buffer) -> int:
        return self._arrow.start_of(buffer, np.int32) * _INT32.itemsize


class _FixedCodes(_CodeFile):
    """The [n, width] codes of categorical columns."""

    def __init__(self, path: Path, width: int) -> None:
        super().__init__(path)
        self._width = width
        columns = [batch.column(layout.SPARSE).values for batch in self._arrow.batches]
        self._starts = [self._byte_offset(column.buffers()[1]) for column in columns]

    def spans(self, first: int, n: int) -> Iterator[Span]:
        """Yields the spans of the codes of `n` rows from row `first` on."""
        for block, low, high in _in_blocks(first, n):
            row_bytes = self._width * _INT32.itemsize
            yield self._starts[block] + low * row_bytes, (high - low) * self._width


class _TokenCodes(_CodeFile):
    """The codes of a token sequence."""

    def spans(self, first: int, n: int) -> Iterator[Span]:
        """Yields the spans of the codes of `n` rows from row `first` on."""
        for block, low, high in _in_blocks(first, n):
            column = self._arrow.batches[block].column(0)
            start, end = (column.offsets[row].as_py() for row in (low, high))
            if end > start:  # a block without tokens has no buffer
                yield self._byte_offset(column.values.buffers()[1]) + start * _INT32.itemsize, end - start


def _in_blocks(first: int, n: int) -> Iterator[tuple[int, int, int]]:
    """Yields the record batches of `n` rows from row `first` on: batch number, first and end row in the batch."""
    while n:
        block, low = divmod(first, BLOCK_ROWS)
        size = min(n, BLOCK_ROWS - low)
        yield block, low, low + size
        first, n = first + size, n - size
