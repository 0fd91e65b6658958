"""Statistics of whole token sequences: length, distinct tokens, diversity and entropy."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.prepare.tokens import as_array, expand, list_bounds, text_of, token_keys

_BLOCK_ROWS = 2048
_MAX_CELLS = 1 << 24
"""Counts of a block that are held at once, for tokens so few that each has a column of its own."""


def sequence_statistics(column: pa.Array | pa.ChunkedArray, delimiter: str | None) -> np.ndarray:
    """Describes each row's whole sequence.

    Args:
        column: [n] delimited strings, or lists.
        delimiter: None for lists.

    Returns:
        [n, 4] float32: length, distinct tokens, distinct / length, and entropy -sum_t c_t / L ln(c_t / L) in nats; all
        zero for an empty sequence.
    """
    array = text_of(column) if delimiter is not None else as_array(column)
    starts = range(0, max(len(array), 1), _BLOCK_ROWS)
    return np.concatenate([_of_block(array.slice(start, _BLOCK_ROWS), delimiter) for start in starts])


def _of_block(array: pa.Array, delimiter: str | None) -> np.ndarray:
    if delimiter is not None:
        return _of_delimited(array, delimiter)
    keys, lengths = list_bounds(array)
    row, _ = expand(lengths)
    encoded = keys.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return count_statistics(codes[codes >= 0], row[codes >= 0], len(array), len(encoded.dictionary))


def _of_delimited(array: pa.LargeStringArray, delimiter: str) -> np.ndarray:
    """The statistics of delimited strings, all of whose tokens are looked at."""
    n = len(array)
    if n == 0:
        return np.zeros((0, 4), np.float32)
    # A delimiter after every row: each token then ends at one.
    nothing, after = (pa.scalar(text, pa.large_string()) for text in ("", delimiter))
    _, offset_buffer, data = pc.binary_join_element_wise(array, nothing, after).buffers()
    row_ends = np.frombuffer(offset_buffer, np.int64, n + 1)[1:] - 1
    text = np.frombuffer(data, np.uint8)[: row_ends[-1] + 1]
    ends = np.flatnonzero(text == ord(delimiter))
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    n_tokens = np.diff(np.searchsorted(ends, row_ends) + 1, prepend=0)
    row, sizes = np.repeat(np.arange(n), n_tokens), ends - starts
    if sizes.min() == 0:
        is_there = sizes > 0
        starts, sizes, row = starts[is_there], sizes[is_there], row[is_there]
    encoded = pa.array(token_keys(text, starts, sizes)).dictionary_encode()
    return count_statistics(np.asarray(encoded.indices), row, n, len(encoded.dictionary))


def count_statistics(codes: np.ndarray, row: np.ndarray, n_rows: int, n_codes: int) -> np.ndarray:
    """[n_rows, 4] statistics of [T] tokens, given as codes, in the rows they stand in: see `sequence_statistics`."""
    cell = row.astype(np.int64) * n_codes + codes
    if n_rows * n_codes <= _MAX_CELLS:
        counts = np.bincount(cell, minlength=n_rows * n_codes)
        used = np.flatnonzero(counts)
        counts = counts[used]
    else:
        used, counts = np.unique(cell, return_counts=True)
    owner = used // max(n_codes, 1)
    length = np.bincount(owner, weights=counts, minlength=n_rows)
    distinct = np.bincount(owner, minlength=n_rows)
    surprise = np.bincount(owner, weights=counts * np.log(counts), minlength=n_rows)
    safe = np.maximum(length, 1)
    entropy = np.maximum(np.log(safe) - surprise / safe, 0.0)
    return np.stack([length, distinct, distinct / safe, entropy], axis=1).astype(np.float32)
