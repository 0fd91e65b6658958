"""Sets of rows in constant memory: ranges of the fold indices and seeded permutations of them.

Row numbers are computed on access; only `ListedRows` stores them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from recsys.system.hashing import GOLDEN

BLOCK_ROWS = 65_536
_N_ROUNDS = 6
MIXER = np.uint64(0xBF58476D1CE4E5B9)
"""An odd factor that spreads bits."""


class Rows(ABC):
    """A set of rows of a store, indexed by position."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Returns the [b] int64 row numbers at [b] positions in 0 .. len - 1."""

    def numbers(self) -> np.ndarray:
        """Returns all [n] int64 row numbers."""
        return self(np.arange(len(self)))

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
        """Yields the row numbers in order, `size` at a time; the last block may be smaller."""
        for start in range(0, len(self), size):
            yield self(np.arange(start, min(start + size, len(self))))


class GroupRows(Rows):
    """The rows of selected groups.

    Args:
        fold_indices: [n] row numbers, group by group; memory-mapped.
        sizes: number of rows of every group.
        groups: indices of the selected groups.
    """

    def __init__(self, fold_indices: np.ndarray, sizes: Sequence[int], groups: Sequence[int]) -> None:
        self._indices = fold_indices
        selected_sizes = np.array([sizes[group] for group in groups], np.int64)
        self._ends = np.cumsum(selected_sizes)
        starts = np.cumsum([0, *sizes])[list(groups)]
        self._shifts = starts - (self._ends - selected_sizes)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        group = np.searchsorted(self._ends, positions, side="right")
        return self._indices[positions + self._shifts[group]].astype(np.int64)


class JoinedRows(Rows):
    """Sets of rows one after the other."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        number = np.searchsorted(self._ends, positions, side="right")
        numbers = np.empty(len(positions), np.int64)
        for index, part in enumerate(self._parts):
            selected = number == index
            numbers[selected] = part(positions[selected] - (self._ends[index] - len(part)))
        return numbers


class AllRows(Rows):
    """Rows 0 .. n - 1."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows

    def __len__(self) -> int:
        return self._n_rows

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        return positions.astype(np.int64)


class ListedRows(Rows):
    """An explicit list of rows.

    Args:
        numbers: [n] int64 row numbers.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        return self._numbers[positions]


class Permutation:
    """A seeded permutation of 0 .. n - 1 in constant memory.

    A keyed bijection of {0, ..., n - 1}: a balanced Feistel network on the next power of four with cycle walking, which
    applies the network again until the value is below n. Source: Black and Rogaway, "Ciphers with arbitrary finite
    domains", CT-RSA 2002.

    Args:
        n: size of the range, at least 0.
        seed: non-negative integers, such as (seed, epoch).
    """

    def __init__(self, n: int, *seed: int) -> None:
        self.n = n
        self.half_bits = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
        self.mask = np.uint64((1 << int(self.half_bits)) - 1)
        self.keys = np.random.SeedSequence(seed).generate_state(_N_ROUNDS, np.uint64)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Returns the [b] int64 values of the permutation at [b] positions in 0 .. n - 1."""
        values = positions.astype(np.uint64)
        pending = np.arange(len(values))
        while len(pending):
            values[pending] = self._encrypt(values[pending])
            pending = pending[values[pending] >= self.n]
        return values.astype(np.int64)

    def _encrypt(self, x: np.ndarray) -> np.ndarray:
        left, right = x >> self.half_bits, x & self.mask
        with np.errstate(over="ignore"):
            for key in self.keys:
                mixed = (right + key) * GOLDEN
                mixed ^= mixed >> np.uint64(29)
                mixed *= MIXER
                left, right = right, left ^ ((mixed >> np.uint64(32)) & self.mask)
        return (left << self.half_bits) | right


class PermutedSlice(Rows):
    """A slice of a seeded permutation of rows; two disjoint slices of one permutation share no row."""

    def __init__(self, rows: Rows, permutation: Permutation, start: int, stop: int) -> None:
        assert permutation.n == len(rows)
        assert 0 <= start <= stop <= len(rows)
        self._rows, self._permutation, self._start, self._stop = rows, permutation, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        return self._rows(self._permutation(positions + self._start))
