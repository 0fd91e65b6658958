"""Embedding tables of a bundle: memory-mapped arrays in fp32, fp16 or int8, looked up by compiled loops.

The tables are not part of the graphs: a process maps them without reading them, several processes share their memory,
and the vectors of a user are computed once, whatever the number of candidates.

Shapes: n candidates, F features, D width, T tokens.
"""

from pathlib import Path

import numpy as np
from numba import njit

from recsys.data.store import load_array

MAX_INT8 = 127


class Table:
    """A table of [rows, D] numbers.

    Args:
        path: the array.
        scales: for int8: the file of the factors of its rows.
    """

    def __init__(self, path: Path, scales: Path | None = None) -> None:
        self.values = np.asarray(load_array(path))
        self.scales = np.asarray(load_array(scales), dtype=np.float32) if scales is not None else None
        self.dim = self.values.shape[1]

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Returns the [T, D] float32 vectors of rows."""
        vectors = self.values[rows].astype(np.float32, copy=False)
        return vectors if self.scales is None else vectors * self.scales[rows][:, None]

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Writes the vectors of [n, F] rows into the first F * D columns of `out`."""
        if self.scales is not None:
            _gather_scaled(self.values, self.scales, rows, out)
        elif self.values.dtype == np.float32:
            _gather(self.values, rows, out)
        else:
            out[:, : rows.shape[1] * self.dim] = self.values[rows].reshape(len(rows), -1)


@njit(nogil=True, cache=True)
def _gather(values, rows, out):  # type: ignore[no-untyped-def]
    dim = values.shape[1]
    for row in range(rows.shape[0]):
        for feature in range(rows.shape[1]):
            source = rows[row, feature]
            for index in range(dim):
                out[row, feature * dim + index] = values[source, index]


@njit(nogil=True, cache=True)
def _gather_scaled(values, scales, rows, out):  # type: ignore[no-untyped-def]
    dim = values.shape[1]
    for row in range(rows.shape[0]):
        for feature in range(rows.shape[1]):
            source = rows[row, feature]
            for index in range(dim):
                out[row, feature * dim + index] = values[source, index] * scales[source]


def mean_by_row(vectors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Returns the [n, D] mean vectors of rows; zeros for a row without vectors."""
    n, lengths = len(offsets) - 1, np.diff(offsets)
    sums = np.zeros((n, vectors.shape[1]), np.float32)
    if len(vectors):
        present = np.flatnonzero(lengths)
        sums[present] = np.add.reduceat(vectors, offsets[:-1][present], axis=0)
    return sums / np.maximum(lengths, 1)[:, None].astype(np.float32)


def quantized(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes the rows of a [rows, D] float32 table: int8 values, and a float16 factor for each row.

    The factor is the largest absolute value of a row over 127, rounded up, so no value is clipped (symmetric
    quantization).
    """
    exact = np.abs(table).max(axis=1, initial=0.0).astype(np.float32) / MAX_INT8
    scales = exact.astype(np.float16)
    scales = np.where(scales < exact, np.nextafter(scales, np.float16(np.inf)), scales)
    divisor = np.where(scales > 0, scales, 1.0).astype(np.float32)[:, None]
    return np.rint(table / divisor).astype(np.int8), scales
