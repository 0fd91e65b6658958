"""Statistics of whole token sequences: length, distinct tokens, diversity and entropy.

Shapes: T tokens of all rows, end to end.
"""

import numpy as np
import pyarrow as pa

from recsys.data.jagged import row_and_position
from recsys.raw.tokens import as_array, list_bounds

_BLOCK_ROWS = 2048
_MAX_CELLS = 1 << 24
"""Maximum size of a block's dense matrix of counts by row and token; larger blocks are counted sparsely."""


def list_statistics(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Computes statistics of each row's whole list; null tokens do not count.

    Args:
        column: [n] lists.

    Returns:
        [n, 4] float32: see `count_statistics`.
    """
    array = as_array(column)
    starts = range(0, max(len(array), 1), _BLOCK_ROWS)
    return np.concatenate([_block_statistics(array.slice(start, _BLOCK_ROWS)) for start in starts])


def _block_statistics(array: pa.Array) -> np.ndarray:
    keys, lengths = list_bounds(array)
    row, _ = row_and_position(lengths)
    encoded = keys.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return count_statistics(codes[codes >= 0], row[codes >= 0], len(array), len(encoded.dictionary))


def count_statistics(codes: np.ndarray, row: np.ndarray, n_rows: int, n_codes: int) -> np.ndarray:
    """Computes statistics of rows from the codes and row indices of [T] tokens.

    Returns:
        [n_rows, 4] float32: length, distinct tokens, distinct / length, and entropy -sum_t c_t / L ln(c_t / L) in nats;
        all zero for an empty sequence.
    """
    cell = row * np.int64(n_codes)
    cell += codes
    if n_rows * n_codes <= _MAX_CELLS:
        counts = np.bincount(cell, minlength=n_rows * n_codes)
        nonzero_cells = np.flatnonzero(counts)
        counts = counts[nonzero_cells]
    else:
        nonzero_cells, counts = np.unique(cell, return_counts=True)
    cell_row = nonzero_cells // max(n_codes, 1)
    length = np.bincount(cell_row, weights=counts, minlength=n_rows)
    distinct = np.bincount(cell_row, minlength=n_rows)
    sum_n_log_n = np.bincount(cell_row, weights=counts * np.log(counts), minlength=n_rows)
    divisor = np.maximum(length, 1)
    entropy = np.maximum(np.log(divisor) - sum_n_log_n / divisor, 0.0)
    return np.stack([length, distinct, distinct / divisor, entropy], axis=1).astype(np.float32)
