"""Rows that are written before the vocabularies are known, and get their codes where they stand.

Until all rows are read, a row's codes are numbers of its batch's own distinct values, which are kept beside. Then every
code is looked up and changed in its file: a third of a row's bytes, where writing it again would be all of them.
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
    """One row: how many rows a digest has, and the list of distinct values that each of its columns of codes is of."""
    values = [categorical_codes(digest, name).values for name in schema.categorical]
    values += [token_codes(digest, sequence.name)[1].values for sequence in schema.token_sequences]
    lists = [pa.ListArray.from_arrays(pa.array([0, len(v)], pa.int32()), v) for v in values]
    names = [_N_ROWS, *(str(number) for number in range(len(lists)))]
    return pa.RecordBatch.from_arrays([pa.array([digest.num_rows]), *lists], names)


def settle_codes(
    values: Iterable[pa.RecordBatch], schema: Schema, vocabularies: Mapping[str, Vocabulary], folder: Path
) -> Iterator[int]:
    """Changes the codes of a folder's rows to those of the vocabularies.

    Args:
        values: `values_of` each batch of rows, in the order of the rows.
        schema: the roles.
        vocabularies: by feature.
        folder: holds the rows and the tokens.

    Yields:
        The number of rows that are done, batch by batch.
    """
    of_column = [vocabularies[name] for name in schema.categorical]
    of_column += [vocabularies[sequence.vocabulary] for sequence in schema.token_sequences]
    n_single = len(schema.categorical)
    rows = _FixedCodes(folder / layout.ROWS_FILE, n_single) if n_single else None
    tokens = [_TokenCodes(folder / layout.tokens_file(sequence.name)) for sequence in schema.token_sequences]

    def settle(batch: tuple[int, pa.RecordBatch]) -> None:
        first, found = batch
        n = found[_N_ROWS][0].as_py()
        tables = [_table(found[str(k)][0].values, vocabulary) for k, vocabulary in enumerate(of_column)]
        if rows is not None:
            for span in rows.spans(first, n):
                codes = rows.read(span).reshape(-1, n_single)
                settled = [table[codes[:, k]] for k, table in enumerate(tables[:n_single])]
                rows.write(span, np.stack(settled, axis=1))
        for column, table in zip(tokens, tables[n_single:], strict=True):
            for span in column.spans(first, n):
                column.write(span, table[column.read(span)])

    try:
        for (_, found), _ in in_threads(settle, _numbered(values)):
            yield found[_N_ROWS][0].as_py()
    finally:
        for column in [*([rows] if rows is not None else []), *tokens]:
            column.close()


def _numbered(values: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches with the number of their first row."""
    first = 0
    for batch in values:
        yield first, batch
        first += batch[_N_ROWS][0].as_py()


def _table(values: pa.Array, vocabulary: Vocabulary) -> np.ndarray:
    """[n + 1] the vocabulary's code of each value, and, as the last, which -1 stands for, that of a missing one."""
    return vocabulary.encode(Codes(np.append(np.arange(len(values)), -1), values))


Span = tuple[int, int]
"""Codes that follow each other in a file: the place of the first, in bytes, and how many there are."""


class _CodeFile:
    """The codes in an Arrow file, read and written where they stand, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self._arrow = ArrowFile(path)
        self._file = os.open(path, os.O_RDWR)

    def read(self, span: Span) -> np.ndarray:
        """[n] int32."""
        start, n = span
        return np.frombuffer(os.pread(self._file, n * _INT32.itemsize, start), _INT32)

    def write(self, span: Span, codes: np.ndarray) -> None:
        """Puts [n] int32 codes, of any shape, where others stand."""
        left, place = np.ascontiguousarray(codes).data.cast("B"), span[0]
        while left:
            n_written = os.pwrite(self._file, left, place)
            left, place = left[n_written:], place + n_written

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)

    def _place(self, buffer: pa.Buffer) -> int:
        return self._arrow.start_of(buffer, np.int32) * _INT32.itemsize


class _FixedCodes(_CodeFile):
    """The [n, width] codes of rows."""

    def __init__(self, path: Path, width: int) -> None:
        super().__init__(path)
        self._width = width
        columns = [batch.column(layout.SPARSE).values for batch in self._arrow.batches]
        self._starts = [self._place(column.buffers()[1]) for column in columns]

    def spans(self, first: int, n: int) -> Iterator[Span]:
        """Where the codes of rows stand."""
        for block, low, high in _in_blocks(first, n):
            row_bytes = self._width * _INT32.itemsize
            yield self._starts[block] + low * row_bytes, (high - low) * self._width


class _TokenCodes(_CodeFile):
    """The codes of a token sequence."""

    def spans(self, first: int, n: int) -> Iterator[Span]:
        """Where the codes of rows stand."""
        for block, low, high in _in_blocks(first, n):
            column = self._arrow.batches[block].column(0)
            start, end = (column.offsets[place].as_py() for place in (low, high))
            if end > start:  # a block without any token has no buffer
                yield self._place(column.values.buffers()[1]) + start * _INT32.itemsize, end - start


def _in_blocks(first: int, n: int) -> Iterator[tuple[int, int, int]]:
    """The record batches that rows stand in, and which of their rows these are."""
    while n:
        block, low = divmod(first, BLOCK_ROWS)
        size = min(n, BLOCK_ROWS - low)
        yield block, low, low + size
        first, n = first + size, n - size
