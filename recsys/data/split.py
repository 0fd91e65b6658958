"""A split in scikit-learn's sense: a model's fitting rows, its evaluation rows, and their encoding.

Shapes: B rows of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.batch import Batch
from recsys.data.encoder import FeatureEncoder
from recsys.data.rows import Rows
from recsys.data.store import RowStore
from recsys.defaults import DataSize
from recsys.schema.resolved import Schema

FULL, HOLDOUT = "full", "holdout"
"""`full` is fitted to all training rows, `holdout` to all days except the last. Other splits are named fold_K."""


@dataclass(frozen=True)
class Prior:
    """Class counts of a split's fitting rows."""

    n_positive: int
    n_negative: int

    @property
    def pos_weight(self) -> float:
        """w = N_neg / N_pos."""
        return self.n_negative / self.n_positive


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

    def size(self, device: str) -> DataSize:
        """What settings that are `auto` depend on."""
        schema = self.schema
        n_features = len(schema.categorical) + len(schema.dense) + len(schema.token_sequences)
        return DataSize(len(self.fit_rows), self.prior.n_positive, n_features, device)

    @property
    def schema(self) -> Schema:
        """Schema of the batches."""
        return self.encoder.schema

    @property
    def validation_rows(self) -> Rows | None:
        """The data's own rows for early stopping; None if it has none, or if they are the rows that are reported."""
        return self.evaluation_rows["valid"] if len(self.evaluation_rows) == 2 else None

    @property
    def is_by_time(self) -> bool:
        """Whether the rows to score are later than the fitting rows, which then have several days."""
        if self.name not in (FULL, HOLDOUT) or len(self.fit_rows) == 0:
            return False
        day = self.store.days(self.fit_rows.numbers())
        return bool(day.min() != day.max())

    @property
    def held_out_rows(self) -> Rows:
        """The training rows outside the fitting rows: those of the fold or of the last day."""
        return self.evaluation_rows[self.name.removeprefix("fold_")]

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Returns the batch of [B] row numbers with the given sequence features."""
        return self.encoder.batch(self.store, rows, sequences)

    def table(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `FeatureEncoder.table`."""
        return self.encoder.table(self.store, rows)
