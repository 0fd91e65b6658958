"""The rows of a split as the libraries of trees read them."""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np

from recsys.data.rows import Rows
from recsys.data.split import Split, UnseenIds

READ_ROWS = 32_768
"""Rows of a block."""


class TableSequence(lgb.Sequence):
    """The rows of a split as a LightGBM sequence, read in blocks to avoid a float64 copy of all rows.

    Args:
        split: encodes the rows; for training, with some ids replaced.
        rows: the rows to read.
    """

    def __init__(self, split: Split | UnseenIds, rows: Rows) -> None:
        self._split, self._rows = split, rows
        self.batch_size = READ_ROWS
        self._block: tuple[int, np.ndarray] = (-1, np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice | list[int]) -> np.ndarray:
        """Returns one row as float64 or several rows as float32."""
        if isinstance(index, slice):
            return self.read(np.arange(*index.indices(len(self))))
        if isinstance(index, list):
            return self.read(np.array(index))
        number, offset = divmod(int(index), READ_ROWS)  # LightGBM samples single rows in rising order
        if self._block[0] != number:
            start = number * READ_ROWS
            self._block = (number, self.read(np.arange(start, min(start + READ_ROWS, len(self)))))
        return self._block[1][offset].astype(np.float64)

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Returns [b, n_columns] float32: ids, then numbers."""
        ids, numbers = self._split.table(self._rows(positions))
        return np.concatenate([ids.astype(np.float32), numbers], axis=1)

    def block(self, number: int) -> np.ndarray | None:
        """Returns the rows of a block; None after the last one."""
        start = number * READ_ROWS
        return None if start >= len(self) else self[start : start + READ_ROWS]

    def whole(self) -> np.ndarray:
        """Returns all rows, [n, n_columns] float32."""
        first = self[:1]
        table = np.empty((len(self), first.shape[1]), np.float32)
        for start in range(0, len(self), READ_ROWS):
            table[start : start + READ_ROWS] = self[start : start + READ_ROWS]
        return table


@dataclass(frozen=True)
class LabeledTable:
    """Rows with what trees are fitted to."""

    table: TableSequence
    label: np.ndarray
    """[n] float32."""
    weight: np.ndarray
    """[n] float32."""

    def block(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Returns the table, labels and weights of a block; None after the last one."""
        table = self.table.block(number)
        if table is None:
            return None
        rows = slice(number * READ_ROWS, number * READ_ROWS + len(table))
        return table, self.label[rows], self.weight[rows]
