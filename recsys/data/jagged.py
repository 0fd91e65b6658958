"""Jagged NumPy arrays: rows of varying length, end to end. `recsys.nn.jagged` is the tensor version.

Shapes: T elements of all rows, end to end.
"""

import numpy as np


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Converts [n] lengths to [n + 1] int64 offsets that start at 0."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def row_and_position(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the [T] rows of the elements and their [T] positions in the rows, given [n] lengths."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    return row, np.arange(len(row)) - starts[row]


def gather_indices(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the [T] indices of elements starts[i] .. starts[i] + lengths[i] of each row i, end to end."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
