"""Rows that calibrators are fitted to: raw logits by seed, labels, and the parts that cross-fitting goes by.

Shapes: N rows, S seeds.
"""

from dataclasses import dataclass, replace

import numpy as np

from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import Metrics, measure

N_PARTS = 5
"""Parts of rows without folds."""


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    """Rows that the models which score them were not fitted to."""

    raw_by_seed: np.ndarray
    """[N, S] natural logits before calibration, one column for each seed."""
    logits: Logits
    """Of which the scales count; its natural logits are not read."""
    label: np.ndarray
    """[N] 0 / 1."""
    fold: np.ndarray
    """[N] names of folds."""
    weight: np.ndarray | None = None
    """[N] weights of the rows; None if they have none."""
    user: np.ndarray | None = None
    """[N] codes of users, -1 for a row that is a cluster of its own; None if rows have no user."""
    day: np.ndarray | None = None
    """[N] days in the order of time, -1 for none; None if rows have no day."""

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> "HeldOutRows":
        """Selects rows by positions or by a mask."""
        return replace(
            self,
            raw_by_seed=self.raw_by_seed[rows],
            logits=self.logits.take(rows),
            label=self.label[rows],
            fold=self.fold[rows],
            weight=None if self.weight is None else self.weight[rows],
            user=None if self.user is None else self.user[rows],
            day=None if self.day is None else self.day[rows],
        )

    def reported(self, natural_by_seed: np.ndarray) -> Logits:
        """The logits that a run reports: the mean over seeds of [N, S] natural logits."""
        return self.logits.with_natural(natural_by_seed.mean(axis=1))

    def measure(self, natural: np.ndarray) -> Metrics:
        """Metrics of the rows with [N] natural logits."""
        return measure(self.label, self.logits.with_natural(natural), self.weight, self.user)

    @property
    def weight_in_full_log(self) -> np.ndarray | None:
        """[N] weights with which the rows stand for the full log; None if all are one."""
        return self.logits.weight_in_full_log(self.label, self.weight)

    @property
    def clusters(self) -> np.ndarray:
        """[N] numbers of the clusters of rows from 0: users, or the rows themselves."""
        if self.user is None:
            return np.arange(len(self))
        is_alone = self.user < 0
        names = self.user.astype(np.int64)
        names[is_alone] = -1 - np.arange(int(is_alone.sum()))
        return np.unique(names, return_inverse=True)[1]

    @property
    def can_cross_fit(self) -> bool:
        """See `recsys.evaluation.cross_fitting.can_cross_fit`."""
        return can_cross_fit(self.label, self.fold, self.weight)

    def in_parts(self) -> "HeldOutRows":
        """The same rows with folds that can be cross-fitted over, if there are any.

        They are the rows' own folds, else parts: of users where rows have them, else of equal shares of each class.
        """
        if self.can_cross_fit:
            return self
        rng = np.random.default_rng(0)
        if self.user is not None:
            clusters = self.clusters
            by_user = replace(
                self, fold=(rng.permutation(int(clusters.max(initial=0)) + 1)[clusters] % N_PARTS).astype(str)
            )
            if by_user.can_cross_fit:
                return by_user
        part = np.empty(len(self), np.int64)
        for positive in (0, 1):
            members = np.flatnonzero(self.label == positive)
            part[rng.permutation(members)] = np.arange(len(members)) % N_PARTS
        return replace(self, fold=part.astype(str))
