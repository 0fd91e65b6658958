"""Sets of rows that are ranges of the fold indices: any of their members is computed, none is listed."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from recsys.data.permutation import Permutation


class Rows(Protocol):
    """A numbered set of rows of the prepared data set."""

    def __len__(self) -> int: ...

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """[b] places in 0 .. len - 1 to [b] int64 row numbers."""
        ...


class GroupRows:
    """The rows of some groups.

    Args:
        fold_indices: [n] row numbers, group after group; memory-mapped.
        sizes: rows of every group.
        groups: the groups to take.
    """

    def __init__(self, fold_indices: np.ndarray, sizes: Sequence[int], groups: Sequence[int]) -> None:
        self._indices = fold_indices
        taken = np.array([sizes[group] for group in groups], np.int64)
        self._ends = np.cumsum(taken)
        starts = np.cumsum([0, *sizes])[list(groups)]
        self._shifts = starts - (self._ends - taken)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        group = np.searchsorted(self._ends, places, side="right")
        return self._indices[places + self._shifts[group]].astype(np.int64)


class AllRows:
    """Rows 0 .. n - 1."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows

    def __len__(self) -> int:
        return self._n_rows

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        return places.astype(np.int64)


class ListedRows:
    """Rows that are listed.

    Args:
        numbers: [n] int64.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        return self._numbers[places]


class PermutedSlice:
    """A stretch of a seeded permutation of rows: two stretches of one permutation have no row in common."""

    def __init__(self, rows: Rows, permutation: Permutation, start: int, stop: int) -> None:
        assert permutation.n == len(rows)
        assert 0 <= start <= stop <= len(rows)
        self._rows, self._permutation, self._start, self._stop = rows, permutation, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        return self._rows(self._permutation(places + self._start))
