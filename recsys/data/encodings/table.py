"""The encodings of a feature's values for one split, without the rows of a row's own fold.

A fitting row of fold K is encoded by the other fitting rows alone, those outside fold K: with its own label among the
counts, a model would read the label from the encoding of a rare value. All other rows are encoded by all fitting rows.

Shapes: C codes of a feature (missing, rare, and its values), G groups of rows, K folds, E encodings, B rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.encodings.rates import BetaPrior
from recsys.data.groups import Group
from recsys.schema.encodings import EncodingKind

MIN_DEVIATION = 0.01
"""Encodings that differ less, in log odds or logarithms of counts, are not scaled up to a deviation of 1."""


@dataclass(frozen=True, eq=False)
class ValueCounts:
    """Rows and clicks of each value of a feature, by group."""

    n_rows: np.ndarray
    """[C, G] integers."""
    n_clicks: np.ndarray
    """[C, G] integers."""


@dataclass(frozen=True, eq=False)
class EncodingTable:
    """Encodings of one feature's values, for one split."""

    kinds: tuple[EncodingKind, ...]
    values: np.ndarray
    """[E, K + 1, C] float32: for fitting rows of each fold, and last for all other rows."""
    part_of_group: np.ndarray
    """[G] int64: the entry of the second axis for the rows of each group."""

    @classmethod
    def fit(
        cls,
        counts: ValueCounts,
        groups: Sequence[Group],
        fit_groups: Sequence[int],
        kinds: Sequence[EncodingKind],
        is_standardized: bool = True,
    ) -> "EncodingTable":
        """Computes the encodings of a feature.

        Args:
            counts: rows and clicks of its values.
            groups: all groups of the data set.
            fit_groups: positions of the groups that the split's model is fitted to.
            kinds: the encodings.
            is_standardized: whether to shift and scale them to mean 0 and deviation 1 over the fitting rows.
        """
        n_folds = 1 + max((group.fold for group in groups), default=0)
        fold_of = np.array([groups[index].fold for index in fit_groups], np.int64)
        part_of_group = np.full(len(groups), n_folds, np.int64)
        part_of_group[list(fit_groups)] = fold_of
        rows, clicks = (of[:, list(fit_groups)].astype(np.float64) for of in (counts.n_rows, counts.n_clicks))
        values = np.empty((len(kinds), n_folds + 1, len(rows)), np.float32)
        for part in range(n_folds + 1):
            others = np.flatnonzero(fold_of != part)
            n_rows_C, n_clicks_C = rows[:, others].sum(axis=1), clicks[:, others].sum(axis=1)
            for index, kind in enumerate(kinds):
                encode = _count if kind == "count" else _ctr
                values[index, part] = encode(n_rows_C, n_clicks_C, rows.sum())
        if not is_standardized:
            return cls(tuple(kinds), values, part_of_group)
        own_rows = np.stack([rows[:, fold_of == fold].sum(axis=1) for fold in range(n_folds)])
        for index in range(len(kinds)):
            values[index] = _standardized(values[index], own_rows)
        return cls(tuple(kinds), values, part_of_group)

    @property
    def of_code(self) -> np.ndarray:
        """[E, C] float32: for rows that are in no group."""
        return self.values[:, -1]

    def __call__(self, codes: np.ndarray, group: np.ndarray | None) -> np.ndarray:
        """Encodes rows.

        Args:
            codes: [B] codes of the feature.
            group: [B] groups of the rows; None for rows that are in no group, such as those to submit.

        Returns:
            [B, E] float32.
        """
        return self.values[:, self.part(group), codes].T

    def part(self, group: np.ndarray | None) -> np.ndarray | int:
        """The entry of the second axis for rows of [B] groups; one entry for rows that are in no group."""
        return self.values.shape[1] - 1 if group is None else self.part_of_group[group]


def _count(n_rows_C: np.ndarray, n_clicks_C: np.ndarray, n_fit_rows: float) -> np.ndarray:
    """ln(1 + rows), as many as there would be if all fitting rows were counted."""
    n_counted = n_rows_C.sum()
    return np.log1p(n_rows_C * (n_fit_rows / n_counted if n_counted else 1.0))


def _ctr(n_rows_C: np.ndarray, n_clicks_C: np.ndarray, n_fit_rows: float) -> np.ndarray:
    return BetaPrior.fit(n_rows_C, n_clicks_C).log_odds(n_rows_C, n_clicks_C)


def _standardized(values_PC: np.ndarray, own_rows_KC: np.ndarray) -> np.ndarray:
    """Shifts and scales encodings to mean 0 and deviation 1 over the fitting rows, each as it is encoded itself.

    The counts of one fold may say that a feature has no effect, and those of another one that it has: values of the
    one, divided by the deviation of the other, would be thousands.
    """
    if not own_rows_KC.any():
        return np.zeros_like(values_PC)
    of_rows = values_PC[:-1]
    mean = np.average(of_rows, weights=own_rows_KC)
    deviation = np.sqrt(np.average((of_rows - mean) ** 2, weights=own_rows_KC))
    return ((values_PC - mean) / max(deviation, MIN_DEVIATION)).astype(np.float32)
