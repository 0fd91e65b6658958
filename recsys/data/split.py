"""A split in scikit-learn's sense: a model's fitting rows, its evaluation rows, and their encoding.

Shapes: B rows of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from recsys.data.batch import Batch
from recsys.data.encoder import FeatureEncoder
from recsys.data.rows import Rows
from recsys.data.store import RowStore
from recsys.schema.resolved import Schema

FULL, HOLDOUT = "full", "holdout"
"""`full` is fitted to all training rows, `holdout` to all days except the last. Other splits are named fold_K."""


@dataclass(frozen=True)
class Prior:
    """Class counts of a split's fitting rows, and the sums of their weights."""

    n_positive: int
    n_negative: int
    positive_weight: float | None = None
    """Sum of the weights of positives; None if rows have no weights."""
    negative_weight: float | None = None
    sampling_rate: float = 1.0
    """The rate at which negatives were kept before the log came; 1 if rows have weights."""

    @property
    def pos_weight(self) -> float:
        """w = N_neg / N_pos, of the sums of weights if rows have weights."""
        if self.positive_weight is None or self.negative_weight is None:
            return self.n_negative / self.n_positive
        return self.negative_weight / self.positive_weight

    @property
    def mean_weight(self) -> float | None:
        """The mean weight of the rows; None if rows have no weights."""
        if self.positive_weight is None or self.negative_weight is None:
            return None
        return (self.positive_weight + self.negative_weight) / (self.n_positive + self.n_negative)


@dataclass(frozen=True, eq=False)
class Split:
    """One way to fit and evaluate a model.

    `fold_K` is fitted to all folds except K and evaluated on K. `holdout` is fitted to all days except the last and
    evaluated on the last day. `full` is fitted to all training rows and evaluated on the predefined labeled partitions.
    """

    name: str
    store: RowStore
    """The store that the row numbers refer to."""
    encoder: FeatureEncoder
    """Fitted to the fitting rows."""
    fit_rows: Rows
    evaluation_rows: dict[str, Rows]
    """By name: the fold number, `holdout`, or `valid` and `test`."""
    prior: Prior

    @property
    def schema(self) -> Schema:
        """Schema of the batches."""
        return self.encoder.schema

    @property
    def held_out_rows(self) -> Rows:
        """The training rows outside the fitting rows: those of the fold or of the last day."""
        return self.evaluation_rows[self.name.removeprefix("fold_")]

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Returns the batch of [B] row numbers with the given sequence features."""
        batch, weight = self.encoder.batch(self.store, rows, sequences), self.training_weights(rows)
        return batch if weight is None else replace(batch, weight=torch.from_numpy(weight))

    def training_weights(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the [B] float32 weights of rows, with a mean of one over the fitting rows; None without weights.

        With this mean, the mean loss of a batch is the sum of w times loss over its rows, divided by their number: the
        sum is that of its micro-batches and of all processes, and the learning rate keeps its meaning.
        """
        weights, mean = self.store.weights(rows), self.prior.mean_weight
        return None if weights is None or mean is None else (weights / mean).astype(np.float32)

    def table(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `FeatureEncoder.table`."""
        return self.encoder.table(self.store, rows)
