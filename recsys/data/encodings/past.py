"""Encodings from the counts of earlier rows, for one split.

A fitting row is encoded by the rows before it in time, so that the rate of a user is that user's rate so far. A row
without such counts (to submit, of a request, or evaluated with `history_until: split`) is encoded by all fitting rows.

Shapes: n rows, P parts of the rows, C codes of a feature, G groups of rows, E encodings, B rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from recsys.data.encodings.rates import BetaPrior
from recsys.data.encodings.table import MIN_DEVIATION, ValueCounts
from recsys.data.groups import NO_LABEL
from recsys.schema.encodings import EncodingKind


def count_past(
    codes: np.ndarray, label: np.ndarray, part: np.ndarray, time_rank: np.ndarray, by_time: np.ndarray, n_codes: int
) -> np.ndarray:
    """Counts, for each row, the rows with a label, the same code and a strictly lower time.

    A row counts rows of its own part and of the parts before it alone: no label of a later part reaches a row that
    models are fitted to, whatever the times are.

    Args:
        codes: [n] codes of the feature.
        label: [n] uint8: 0, 1 or NO_LABEL.
        part: [n] uint8 parts of rows that are evaluated together, from 0.
        time_rank: [n] ranks of the rows' times; equal times have equal ranks.
        by_time: row numbers in the order of their ranks. Rows that it lacks have no time: they count no row, and no row
            counts them.
        n_codes: C.

    Returns:
        [n, 2] int32: rows and clicks.
    """
    past = np.zeros((len(codes), 2), np.int32)
    counts = np.zeros((int(part.max(initial=0)) + 1, n_codes, 2), np.int32)
    _count(codes, label, part, time_rank, by_time, NO_LABEL, counts, past)
    return past


@njit(nogil=True, cache=True)
def _count(codes, label, part, time_rank, by_time, no_label, counts, past):  # type: ignore[no-untyped-def]
    """Fills [n, 2] counts of earlier rows; `counts` [P, C, 2] are those of the parts up to each part so far."""
    start = 0
    while start < len(by_time):
        stop = start
        while stop < len(by_time) and time_rank[by_time[stop]] == time_rank[by_time[start]]:
            row = by_time[stop]
            past[row, 0] = counts[part[row], codes[row], 0]
            past[row, 1] = counts[part[row], codes[row], 1]
            stop += 1
        for position in range(start, stop):  # rows of one time do not count one another
            row = by_time[position]
            if label[row] != no_label:
                for later in range(part[row], len(counts)):
                    counts[later, codes[row], 0] += 1
                    counts[later, codes[row], 1] += label[row]
        start = stop


@dataclass(frozen=True, eq=False)
class PastEncoding:
    """Standardized encodings of one feature from the counts of earlier rows."""

    kinds: tuple[EncodingKind, ...]
    column: int
    """The first of the feature's two columns in the counts of earlier rows."""
    prior: BetaPrior
    """Fitted to the fitting rows."""
    mean: np.ndarray
    """[E] float64, over the fitting rows."""
    deviation: np.ndarray
    """[E] float64."""
    has_past: np.ndarray
    """[G] bool: whether the rows of a group are encoded by their earlier rows, where they have such counts."""
    of_code: np.ndarray
    """[E, C] float32: for rows that are encoded by all fitting rows."""

    @classmethod
    def fit(
        cls,
        counts: ValueCounts,
        fit_groups: Sequence[int],
        kinds: Sequence[EncodingKind],
        column: int,
        past: np.ndarray,
        has_past: np.ndarray,
    ) -> "PastEncoding":
        """Computes the encodings of a feature.

        Args:
            counts: rows and clicks of its values.
            fit_groups: positions of the groups that the split's model is fitted to.
            kinds: the encodings.
            column: see `PastEncoding`.
            past: [n, 2 features] counts of earlier rows of fitting rows, for mean and deviation.
            has_past: see `PastEncoding`.
        """
        rows, clicks = (of[:, list(fit_groups)].sum(axis=1) for of in (counts.n_rows, counts.n_clicks))
        prior = BetaPrior.fit(rows, clicks)
        of_rows = _encode(kinds, prior, past[:, column], past[:, column + 1])
        mean, deviation = of_rows.mean(axis=1), of_rows.std(axis=1)
        deviation = np.maximum(deviation, MIN_DEVIATION)
        of_code = ((_encode(kinds, prior, rows, clicks).T - mean) / deviation).T.astype(np.float32)
        return cls(tuple(kinds), column, prior, mean, deviation, has_past, of_code)

    def __call__(self, codes: np.ndarray, group: np.ndarray | None, past: np.ndarray | None) -> np.ndarray:
        """Encodes rows.

        Args:
            codes: [B] codes of the feature.
            group: [B] groups of the rows; None for rows that are in no group, such as those to submit.
            past: [B, 2 features] counts of earlier rows, -1 for rows without; None for rows in no group.

        Returns:
            [B, E] float32.
        """
        of_code = self.of_code[:, codes].T
        if group is None or past is None:
            return of_code
        n_rows, n_clicks = past[:, self.column], past[:, self.column + 1]
        is_counted = (n_rows >= 0) & self.has_past[group]
        values = _encode(self.kinds, self.prior, np.maximum(n_rows, 0), np.maximum(n_clicks, 0)).T
        return np.where(is_counted[:, None], ((values - self.mean) / self.deviation).astype(np.float32), of_code)


def _encode(kinds: Sequence[EncodingKind], prior: BetaPrior, n_rows: np.ndarray, n_clicks: np.ndarray) -> np.ndarray:
    """Returns [E, ...] float64 encodings of [...] counts, before they are standardized."""
    return np.stack(
        [np.log1p(n_rows) if kind == "past_count" else prior.log_odds(n_rows, n_clicks) for kind in kinds]
    ).astype(np.float64)
