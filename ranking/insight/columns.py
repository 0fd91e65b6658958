"""The columns of earlier and later rows, in a form that does not tell by itself which rows were counted.

The codes of a prepared data set do: a value of a training row always has at least one training row, a value of a test
row may have none. Values are therefore described by the number of earlier rows that have them, without the row itself,
and only values that are frequent in both samples together keep their identity.

Shapes: n rows of each sample, C codes of a feature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.vocabulary import MISSING_ID, RARE_ID

_N_FREQUENT = 50
"""Rows of both samples together from which a value is a cell of its own."""
_N_QUANTILES = 20


@dataclass(frozen=True)
class ComparedColumn:
    """One column of both samples."""

    name: str
    kind: Literal["categorical", "numeric", "sequence"]
    values: np.ndarray
    """[2 n] float32 what a classifier reads, earlier rows first: cells of a categorical column, otherwise numbers, NaN
    for null."""
    cells: np.ndarray
    """[2 n] int64 from 0: the missing value, then values or ranges of values."""
    rare: np.ndarray | None = None
    """[2 n] bool: whether too few other earlier rows have the value to be in a vocabulary; None without one."""


def count_codes(dataset: PreparedDataset, names: Sequence[str], rows: Rows) -> list[np.ndarray]:
    """Counts the rows of each code, [C] for each of the named categorical features."""
    columns = [dataset.manifest.schema_.categorical.index(name) for name in names]
    counts = [np.zeros(dataset.vocabularies[name].n_codes, np.int64) for name in names]
    for block in rows.blocks() if names else ():
        codes = dataset.store.read_sparse(block)
        for count, column in zip(counts, columns, strict=True):
            count += np.bincount(codes[:, column], minlength=len(count))
    return counts


def compared_columns(
    dataset: PreparedDataset, names: Sequence[str], earlier: Rows, samples: np.ndarray
) -> Iterator[ComparedColumn]:
    """Yields the columns of two samples.

    Args:
        dataset: the prepared data set.
        names: categorical, numeric and token sequence features.
        earlier: all earlier rows, whose values are counted.
        samples: [2 n] row numbers: n of the earlier rows, then n later ones.
    """
    schema, n = dataset.manifest.schema_, len(samples) // 2
    categorical = [name for name in schema.categorical if name in names]
    codes = dataset.store.read_sparse(samples) if categorical else np.zeros((2 * n, 0), np.int32)
    is_earlier = np.arange(2 * n) < n
    for name, counts in zip(categorical, count_codes(dataset, categorical, earlier), strict=True):
        of_rows, floor = codes[:, schema.categorical.index(name)], dataset.vocabularies[name].min_count - 1
        n_others = np.where(of_rows == RARE_ID, floor, np.maximum(counts[of_rows] - is_earlier, floor))
        cells = value_cells(of_rows, n_others)
        rare = (of_rows != MISSING_ID) & (n_others == floor)
        yield ComparedColumn(name, "categorical", cells.astype(np.float32), cells, rare)
    numeric = [name for name in schema.measured if name in names]
    numbers = dataset.store.read_measured(samples) if numeric else np.zeros((2 * n, 0), np.float32)
    for name in numeric:
        values = numbers[:, schema.measured.index(name)]
        yield ComparedColumn(name, "numeric", values, range_cells(values))
    for name in (sequence.name for sequence in schema.token_sequences if sequence.name in names):
        values = dataset.store.sequence_lengths(name, samples).astype(np.float32)
        yield ComparedColumn(f"{name} (length)", "sequence", values, range_cells(values))


def value_cells(codes: np.ndarray, n_others: np.ndarray) -> np.ndarray:
    """Numbers the cells of a categorical column.

    Args:
        codes: [2 n] codes of both samples.
        n_others: [2 n] number of other earlier rows with the row's value.

    Returns:
        [2 n] int64: 0 for missing, the binary logarithm of `n_others` for infrequent values, then frequent values.
    """
    n_rows = np.bincount(codes)
    is_frequent = n_rows >= _N_FREQUENT
    is_frequent[[code for code in (MISSING_ID, RARE_ID) if code < len(n_rows)]] = False
    magnitude = np.ceil(np.log2(1 + n_others)).astype(np.int64)
    cells = 1 + magnitude
    identity = int(magnitude.max(initial=0)) + 2 + np.cumsum(is_frequent) - 1
    cells = np.where(is_frequent[codes], identity[codes], cells)
    return np.where(codes == MISSING_ID, 0, cells)


def range_cells(values: np.ndarray) -> np.ndarray:
    """Numbers the cells of a column of numbers: 0 for NaN, then ranges between quantiles; [2 n] int64."""
    is_present = ~np.isnan(values)
    if not is_present.any():
        return np.zeros(len(values), np.int64)
    edges = np.unique(np.quantile(values[is_present], np.linspace(0, 1, _N_QUANTILES + 1)[1:-1]))
    return np.where(is_present, 1 + np.searchsorted(edges, values, side="left"), 0)
