"""The rows of a split as LightGBM reads them, and their scores."""

import lightgbm as lgb
import numpy as np

from recsys.data.rows import Rows
from recsys.data.split import Split, UnseenIds
from recsys.system.progress import progress_line

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


def predict_trees(booster: lgb.Booster, split: Split, rows: Rows, name: str = "scoring") -> np.ndarray:
    """Returns [n] float32 logits of rows; an empty name shows no progress."""
    table, logits = TableSequence(split, rows), np.empty(len(rows), np.float32)
    with progress_line(name, len(rows), is_shown=bool(name)) as line:
        for start in range(0, len(rows), READ_ROWS):
            block = table[start : start + READ_ROWS]
            with np.errstate(over="ignore"):  # a logit that is infinite in float32 is reported by the caller
                logits[start : start + len(block)] = booster.predict(block, raw_score=True)
            line.advance(len(block))
    return logits
