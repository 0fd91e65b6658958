"""Jagged arrays in NumPy: rows of varying length, end to end. `recsys.nn.jagged` is the same for tensors."""

import numpy as np


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """[n] lengths to the [n + 1] int64 offsets of rows that follow each other from 0 on."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def row_and_position(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For [n] lengths: the row of each of the T elements, and its position in that row."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    return row, np.arange(len(row)) - starts[row]


def gather_indices(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[T] indices of the elements starts[i] .. starts[i] + lengths[i] of each row i, row after row."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
