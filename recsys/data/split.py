"""A split in scikit-learn's sense: a model's fitting rows, its evaluation rows, and their encoding.

Shapes: B rows of a batch, F categorical features, T tokens of a sequence in all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from recsys.data.batch import Batch
from recsys.data.encoder import FeatureEncoder
from recsys.data.groups import FOLD, FORWARD
from recsys.data.groups import FULL as FULL
from recsys.data.groups import HOLDOUT as HOLDOUT
from recsys.data.rows import Rows
from recsys.data.store import RowStore
from recsys.data.vocabulary import MISSING_ID, RARE_ID
from recsys.defaults import DataSize
from recsys.schema.resolved import Schema
from recsys.system.hashing import as_fraction, mix

_N_COUNTED = 50_000
"""Fitting rows in which the present shares of the reserved ids are counted."""


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


@dataclass(frozen=True)
class MonitoredFold:
    """The fold of which early stopping of another fold's fit monitors a sample, and no other row."""

    number: int
    rows: Rows
    """The fitting rows of this fold."""
    other_rows: Rows
    """The fitting rows of other folds."""


@dataclass(frozen=True, eq=False)
class Split:
    """One way to fit and evaluate a model.

    `fold_K` is fitted to all folds except K and evaluated on K. `holdout` is fitted to all days except the last and
    evaluated on the last day. `forward_K` is fitted to all training rows before window K and evaluated on it. `tuning`
    is fitted to the rows before the first window that are not in the tuning part, and evaluated on those that are.
    `full` is fitted to all training rows and evaluated on the predefined labeled partitions.
    """

    name: str
    store: RowStore
    """The store that the row numbers refer to."""
    encoder: FeatureEncoder
    """Fitted to the fitting rows."""
    fit_rows: Rows
    evaluation_rows: dict[str, Rows]
    """By name: the fold number, `holdout`, `forward_K`, `tuning`, or `valid` and `test`."""
    prior: Prior
    monitored: MonitoredFold | None = None
    """What early stopping may monitor in a split by fold; None for other splits."""
    has_folds_by_user: bool = False
    """Whether all training rows of a user are in one fold, so that early stopping also holds out whole users."""

    def size(self, device: str) -> DataSize:
        """What settings that are `auto` depend on."""
        return DataSize(len(self.fit_rows), self.prior.n_positive, device)

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
        """Whether the rows to score are later than the fitting rows, which then have several days or times."""
        if not (self.name in (FULL, HOLDOUT) or self.name.startswith(FORWARD)) or len(self.fit_rows) == 0:
            return False
        time = self.store.times(self.fit_rows.numbers())
        return time is not None and bool(time.min() != time.max())

    @property
    def held_out_rows(self) -> Rows:
        """The training rows that are evaluated: those of the fold, the last day, the window or the tuning part."""
        return self.evaluation_rows[self.name.removeprefix(FOLD)]

    @property
    def monitored_fold(self) -> int | None:
        """The only fold with rows that early stopping may monitor; None for splits that are no fold."""
        return None if self.monitored is None else self.monitored.number

    def has_known_user(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns [n] bool: whether a row's user has a fitting row; None without users, and False for a null user."""
        users = self.store.users(rows)
        return None if users is None else self._is_known_user[np.minimum(users, len(self._is_known_user) - 1)]

    @cached_property
    def _is_known_user(self) -> np.ndarray:
        """[n_known + 1] bool by user: whether it has a fitting row; the last entry, of -1 and larger ones, is False."""
        users = [np.unique(users) for block in self.fit_rows.blocks() if (users := self.store.users(block)) is not None]
        known = np.unique(np.concatenate(users)) if users else np.zeros(0, np.int32)
        is_known = np.zeros(int(known.max(initial=-1)) + 2, bool)
        is_known[known[known >= 0]] = True
        return is_known

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


class UnseenIds:
    """A split whose rows have some ids replaced by the rare or the missing id, for training alone.

    An id without a training row keeps its random initial embedding, which would score unseen and missing values at
    random. A share of the ids of each feature, and of the tokens of each sequence, therefore becomes a reserved id that
    is rarer than this share. The choice is a function of row, feature and seed: the same in every epoch and on any
    number of processes.

    Args:
        split: encodes rows and defines the fitting rows.
        share: share of the ids of a feature to replace by each reserved id; 0 replaces none.
        seed: chooses the ids.
    """

    def __init__(self, split: Split, share: float, seed: int) -> None:
        self.split, self.seed = split, seed
        rows = split.fit_rows
        n_counted = min(_N_COUNTED, len(rows))
        counted = np.sort(rows(np.linspace(0, len(rows) - 1, n_counted).astype(np.int64)))
        ids, _ = split.table(counted)
        self.shares = np.stack([_needed(ids == reserved, share) for reserved in (MISSING_ID, RARE_ID)])
        """[2, F]: shares of a feature's ids that become the missing and the rare id."""
        tokens = {sequence.name: split.batch(counted, [sequence.name]) for sequence in split.schema.token_sequences}
        self.token_shares = {
            name: float(_needed((batch.sequences.values().numpy() == RARE_ID)[:, None], share)[0])
            for name, batch in tokens.items()
        }

    def table(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `FeatureEncoder.table`."""
        ids, numbers = self.split.table(rows)
        return self._replaced(ids, rows), numbers

    def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
        """Returns the batch of [B] row numbers with the given sequence features."""
        batch = self.split.batch(rows, sequences)
        if self.shares.any():
            ids_FB = batch.sparse.values().view(-1, len(rows))
            ids_FB.copy_(torch.from_numpy(self._replaced(ids_FB.numpy().T, rows).T))
        for number, name in enumerate(sequences):
            if self.token_shares.get(name):
                jagged = batch.sequences[name]
                is_replaced = self._draw(rows, jagged.lengths().numpy(), number) < self.token_shares[name]
                jagged.values()[torch.from_numpy(is_replaced)] = RARE_ID
        return batch

    def _replaced(self, ids_BF: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns [B, F] ids of the rows after the replacement."""
        n_features = ids_BF.shape[1]
        draw = self._draw(rows, np.full(len(rows), n_features), 0).reshape(ids_BF.shape)
        missing, rare = self.shares
        reserved = np.where(draw < missing, MISSING_ID, RARE_ID)
        return np.where(draw < missing + rare, reserved, ids_BF).astype(ids_BF.dtype)

    def _draw(self, rows: np.ndarray, lengths: np.ndarray, stream: int) -> np.ndarray:
        """Returns [T] uniform numbers in [0, 1) for the entries of rows, end to end."""
        starts = np.cumsum(lengths) - lengths
        position = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
        row_hash = mix(rows.astype(np.uint64), self.seed)
        return as_fraction(mix(np.repeat(row_hash, lengths) + position.astype(np.uint64), stream))


def _needed(is_reserved: np.ndarray, share: float) -> np.ndarray:
    """Returns [F] shares to replace, given which [n, F] ids are reserved: none where that many are already."""
    present = is_reserved.mean(axis=0) if len(is_reserved) else np.zeros(is_reserved.shape[1])
    return np.where(present < share, share, 0.0)
