"""Metrics of one model under the weights of a bootstrap sample.

Positives are weighted individually. Negatives affect ranking metrics only through the weight above each positive:
they are counted by bins of their rank, which are single ranks up to `N_EXACT` negatives.
"""

import numpy as np
from numba import njit
from scipy import sparse

from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import log_loss_terms, toss_score

N_EXACT = 50_000
"""Up to this number of negatives, each negative has its own bin."""
_N_BINS = 1500


class Ranking:
    """The order of the rows by one model's logits, and the model's metrics under weights.

    Args:
        is_positive: [n] bool.
        logits: of the [n] rows.
    """

    def __init__(self, is_positive: np.ndarray, logits: Logits) -> None:
        positive, negative = logits.natural[is_positive], logits.natural[~is_positive]
        edges = _bin_edges(len(negative))
        self.n_bins = len(edges) - 1
        ascending = np.argsort(-negative, kind="stable")
        rank = np.empty(len(negative), np.int64)
        rank[ascending] = np.arange(len(negative))
        self.bin_of_negative = np.searchsorted(edges, rank, side="right") - 1

        self._order = np.argsort(-positive, kind="stable")
        ordered, descending = -positive[self._order], -negative[ascending]
        # Tied positives share a threshold: all of them count at it.
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self._starts = np.append(starts, len(ordered))
        n_above, n_not_below = (np.searchsorted(descending, ordered[starts], side=side) for side in ("left", "right"))
        self._not_below, self._above = (_bin_positions(n, edges) for n in (n_not_below, n_above))

        terms = log_loss_terms(is_positive.astype(np.int8), logits.natural)
        balanced = log_loss_terms(is_positive.astype(np.int8), logits.balanced)
        self._positive_losses = (terms[is_positive], balanced[is_positive])
        self._negative_losses = (terms[~is_positive], balanced[~is_positive])
        self._full_weight = np.exp(-logits.log_sampling_rate)  # of a negative, in the log loss

    def set_units(self, unit: np.ndarray, n_units: int, weight: np.ndarray) -> None:
        """Sets what is drawn together, before the first call of `metrics`.

        Args:
            unit: [negatives] the unit with which each negative is drawn.
            n_units: number of units.
            weight: [negatives] weight of each negative if its unit is drawn once.
        """
        shape = (self.n_bins, n_units)
        self._columns = sparse.csc_array((weight, (self.bin_of_negative, unit)), shape)
        self._unit_losses = [np.bincount(unit, weight * loss, n_units) for loss in self._negative_losses]

    def metrics(self, positive_weight: np.ndarray, unit_draw: np.ndarray) -> tuple[float, ...]:
        """The weighted metrics in the order of COMPARED: AP, WLL, ROC-AUC, log loss and Toss score.

        NaN if a class has no weight.

        Args:
            positive_weight: [positives] float64.
            unit_draw: [units] float64 how often each unit of negatives is drawn.
        """
        bin_weight = np.zeros(self.n_bins)
        _add_columns(self._columns.indptr, self._columns.indices, self._columns.data, unit_draw, bin_weight)
        n_positive, n_negative, ap, rank_sum = _rank_sums(
            positive_weight, self._order, self._starts, *self._not_below, *self._above, bin_weight
        )
        natural, balanced = (
            (np.dot(positive_weight, positive_loss), np.dot(unit_draw, unit_loss))
            for positive_loss, unit_loss in zip(self._positive_losses, self._unit_losses, strict=True)
        )
        if n_positive == 0 or n_negative == 0:
            return (np.nan,) * 5
        ap /= n_positive
        roc_auc = 1 - rank_sum / (n_positive * n_negative)
        logloss = (natural[0] + self._full_weight * natural[1]) / (n_positive + self._full_weight * n_negative)
        wll = (balanced[0] / n_positive + balanced[1] / n_negative) / 2
        return ap, wll, roc_auc, logloss, toss_score(ap, wll)


def _bin_edges(n_negative: int) -> np.ndarray:
    """Bin edges in ranks of negatives: one bin per rank, or bins that are narrow at the top, of equal width below."""
    if n_negative <= N_EXACT:
        return np.arange(n_negative + 1)
    top = np.geomspace(1, n_negative, _N_BINS // 2)
    uniform = np.linspace(0, n_negative, _N_BINS // 2)
    return np.unique(np.concatenate([top, uniform]).round().astype(np.int64))


def _bin_positions(n_rows: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts ranks to bins and the fractions of those bins that lie above the rank."""
    index = np.minimum(np.searchsorted(edges, n_rows, side="right") - 1, len(edges) - 2)
    return index, (n_rows - edges[index]) / np.diff(edges)[index]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _add_columns(starts: np.ndarray, rows: np.ndarray, values: np.ndarray, draw: np.ndarray, out: np.ndarray) -> None:
    """Adds the product of a sparse matrix, stored by columns, and the draws of its columns."""
    for column in range(len(draw)):
        n_drawn = draw[column]
        if n_drawn != 0:
            for k in range(starts[column], starts[column + 1]):
                out[rows[k]] += n_drawn * values[k]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _rank_sums(
    weight: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    not_below_bin: np.ndarray,
    not_below_fraction: np.ndarray,
    above_bin: np.ndarray,
    above_fraction: np.ndarray,
    bin_weight: np.ndarray,
) -> tuple[float, float, float, float]:
    """Weights of both classes, and the positives' weighted sums of precision and of the rank among negatives."""
    cumulative = np.zeros(len(bin_weight) + 1)
    for index in range(len(bin_weight)):
        cumulative[index + 1] = cumulative[index] + bin_weight[index]
    hits = precision_sum = rank_sum = 0.0
    for tie in range(len(starts) - 1):
        tied = 0.0
        for k in range(starts[tie], starts[tie + 1]):
            tied += weight[order[k]]
        if tied == 0:
            continue
        hits += tied
        low, high = not_below_bin[tie], above_bin[tie]
        misses = cumulative[low] + not_below_fraction[tie] * bin_weight[low]
        above = cumulative[high] + above_fraction[tie] * bin_weight[high]
        precision_sum += tied * hits / (hits + misses)
        rank_sum += tied * (misses + above) / 2
    return hits, cumulative[-1], precision_sum, rank_sum
