"""A split in scikit-learn's sense: the rows that a model is fitted to, those it is evaluated on, and their encoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.batch import Batch
from recsys.data.encoder import FeatureEncoder
from recsys.data.rows import Rows
from recsys.data.store import RowStore
from recsys.schema.resolved import Schema

FULL, HOLDOUT = "full", "holdout"
"""Fitted to all training rows; fitted to all days but the last. Other splits are named fold_K."""


@dataclass(frozen=True)
class Prior:
    """The classes of a split's fitting rows."""

    n_positive: int
    n_negative: int

    @property
    def pos_weight(self) -> float:
        """w = N_neg / N_pos."""
        return self.n_negative / self.n_positive


@dataclass(frozen=True, eq=False)
class Split:
    """One way to fit and evaluate a model.

    `fold_K` is fitted to all folds but K and evaluated on K, `holdout` to all days but the last and evaluated on that
    day, `full` to all training rows and evaluated on the partitions that the data brought.
    """

    name: str
    store: RowStore
    """The rows that the numbers below refer to."""
    encoder: FeatureEncoder
    """Fitted to the fitting rows."""
    fit_rows: Rows
    evaluation_rows: dict[str, Rows]
    """By name: the fold's number, `holdout`, or `valid` and `test`."""
    prior: Prior

    @property
    def schema(self) -> Schema:
        """Of what a batch holds."""
        return self.encoder.schema

    @property
    def held_out_rows(self) -> Rows:
        """The training rows that are not fitted to: of the fold, or of the last day."""
        return self.evaluation_rows[self.name.removeprefix("fold_")]

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """[B] row numbers and the sequence features to read, as a batch."""
        return self.encoder.batch(self.store, rows, sequences)

    def table(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `FeatureEncoder.table`."""
        return self.encoder.table(self.store, rows)
