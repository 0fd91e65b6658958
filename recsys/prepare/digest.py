"""The map of preparation: raw rows to a digest, which is all that is read of them.

A digest is an Arrow record batch: each categorical column and token sequence as codes into the batch's own distinct
values, the raw numbers, and the lengths of sequences. What follows (counting, measuring, encoding) are plain functions
of digests, so that raw files are read once, by any number of threads or machines.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.prepare import layout
from recsys.prepare.numeric import MAX_NUMBER
from recsys.prepare.statistics import sequence_statistics
from recsys.prepare.tokens import Codes, Jagged, as_array, encode_values, parse_delimited, parse_list
from recsys.schema import Schema, TokenFeature

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_TOKENS = "tokens"


def columns_to_read(schema: Schema) -> list[str]:
    """What a digest is made of: raw columns, and categorical ones and sequences that are made of them."""
    return list(dict.fromkeys([*schema.source_columns, *schema.derived_categorical, *schema.logs]))


def digest_rows(table: pa.Table, schema: Schema) -> pa.RecordBatch:
    """The digest of [n] raw rows that hold `columns_to_read`."""
    arrays: dict[str, pa.Array] = {}
    for name in schema.categorical:
        arrays[f"{layout.SPARSE}/{name}"] = _dictionary(encode_values(table[name], f"column {name!r}"))
    lengths = []
    for sequence in schema.token_sequences:
        jagged = parse_sequence(table, sequence)
        codes = _dictionary(encode_values(jagged.tokens, f"column {sequence.column!r}"))
        offsets = pa.array(jagged.offsets.astype(np.int64))
        arrays[f"{_TOKENS}/{sequence.name}"] = pa.LargeListArray.from_arrays(offsets, codes)
        lengths.append(jagged.full_lengths)
    if schema.measured:
        arrays[layout.DENSE] = layout.fixed_lists(read_measured(table, schema), pa.float32())
    if lengths:
        arrays[layout.SEQUENCE_LENGTH] = layout.fixed_lists(np.stack(lengths, axis=1), pa.int32())
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def categorical_codes(digest: pa.RecordBatch, name: str) -> Codes:
    """A categorical column of a digest."""
    return _codes(digest.column(f"{layout.SPARSE}/{name}"))


def token_codes(digest: pa.RecordBatch, name: str) -> tuple[np.ndarray, Codes]:
    """The [n + 1] offsets of a sequence's rows, and their tokens."""
    column = digest.column(f"{_TOKENS}/{name}")
    return np.asarray(column.offsets), _codes(column.values)


def measured(digest: pa.RecordBatch, schema: Schema) -> np.ndarray:
    """[n, n_measured] float32 raw numbers, NaN where null."""
    return _matrix(digest, layout.DENSE, len(schema.measured), np.float32)


def sequence_lengths(digest: pa.RecordBatch, schema: Schema) -> np.ndarray:
    """[n, n_token_sequences] int32 lengths before any cut."""
    return _matrix(digest, layout.SEQUENCE_LENGTH, len(schema.token_sequences), np.int32)


def _matrix(digest: pa.RecordBatch, name: str, width: int, dtype: type[np.generic]) -> np.ndarray:
    if width == 0:
        return np.zeros((digest.num_rows, 0), dtype)
    return np.asarray(digest.column(name).flatten()).reshape(-1, width)


def _dictionary(codes: Codes) -> pa.DictionaryArray:
    indices = pa.array(codes.codes, pa.int32(), mask=codes.codes < 0)
    return pa.DictionaryArray.from_arrays(indices, codes.values, safe=False)


def _codes(column: pa.DictionaryArray) -> Codes:
    return Codes(column.indices.fill_null(-1).to_numpy(zero_copy_only=False), column.dictionary)


def parse_sequence(table: pa.Table, sequence: TokenFeature) -> Jagged:
    """The tokens of a sequence, cut to its length."""
    column = table[sequence.column]
    if sequence.delimiter is None:
        return parse_list(column, sequence.max_length, sequence.keep)
    return parse_delimited(column, sequence.delimiter, sequence.max_length, sequence.keep)


def read_measured(table: pa.Table, schema: Schema) -> np.ndarray:
    """[n, n_measured] float32, NaN where null; statistics of sequences among them, which are never null."""
    values = np.zeros((table.num_rows, len(schema.measured)), np.float32)
    place = {column: index for index, column in enumerate(schema.measured)}
    for column in place.keys() - set(schema.derived_numeric):
        values[:, place[column]] = _numbers(table[column])
    for feature in schema.statistics:
        (sequence,) = [sequence for sequence in schema.token_sequences if sequence.name == feature.sequence]
        columns = [place[name] for name in feature.numeric]
        values[:, columns] = sequence_statistics(table[sequence.column], sequence.delimiter)
    return values


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """[n] float64 numbers, NaN where null; those beyond `MAX_NUMBER` are infinite."""
    array = as_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    numbers = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if np.any(np.abs(numbers) > MAX_NUMBER):
        numbers = np.where(np.abs(numbers) > MAX_NUMBER, np.copysign(np.inf, numbers), numbers)
    return numbers


def in_threads(work: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[tuple[ItemT, ResultT]]:
    """Each item and what `work` made of it, in their order; as many at a time as there are cores.

    NumPy and Arrow let go of Python's lock while they work.
    """
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[tuple[ItemT, Future[ResultT]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > n_threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
