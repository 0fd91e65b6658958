"""Compares two models on the same rows: differences of metrics with intervals from the paired bootstrap.

Every replicate draws a Poisson(1) weight for each row, the same for both models (Hanley and MacGibbon, "Creating
non-parametric bootstrap samples using Poisson frequencies", 2006). Positives are drawn individually. Negatives affect
ranking metrics only through the number above each positive, so negatives that share a rank bin in both models are
drawn together: the sum of k weights is Poisson(k). Ten million rows take some minutes; a few ten thousand are exact.

The weight w of a row multiplies its Poisson draw. Negatives drawn together have the sum s Poisson(sum w / s) with
s = sum w^2 / sum w, which has the mean and the variance of the sum of their draws, sum w and sum w^2.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel

from recsys.errors import InputError
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import log_loss_terms, measure, toss_score

N_EXACT = 50_000
"""Up to this number of negatives, each negative has its own bin."""
_N_BINS = 1500
ComparedMetric = Literal["ap", "wll", "roc_auc", "logloss", "toss_score"]
COMPARED: tuple[ComparedMetric, ...] = get_args(ComparedMetric)


class Difference(BaseModel):
    """The difference of a metric, second model - first model, with the bounds of its interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float | None = None
    """Two-sided, of no difference: twice the smaller share of replicates on one side of zero."""


class Comparison(BaseModel):
    """The differences of two models on the same rows, and what their intervals are drawn over."""

    differences: dict[str, Difference]
    """By metric."""
    by: Literal["row", "user", "day", "request"]
    """What the bootstrap draws."""
    n_clusters: int
    n_rows: int
    n_positive: int
    n_seeds: tuple[int, int] = (1, 1)
    """Fits of the first and of the second model that differ in their seed alone."""
    note: str | None = None
    """What limits the intervals."""


def two_sided_p(replicates: np.ndarray) -> np.ndarray:
    """Two-sided p-values of no difference: twice the smaller share of replicates on one side of zero.

    Args:
        replicates: [R, ...] differences of the bootstrap samples; NaN for a sample that has none.
    """
    n = np.sum(~np.isnan(replicates), axis=0)
    n_smaller = np.minimum(np.sum(replicates <= 0, axis=0), np.sum(replicates >= 0, axis=0))
    return np.minimum(1.0, 2 * (n_smaller + 1) / (n + 1))


def paired_bootstrap(
    label: np.ndarray,
    first: Logits,
    second: Logits,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    on_replicate: Callable[[], None] = lambda: None,
    weight: np.ndarray | None = None,
) -> dict[str, Difference]:
    """Computes the difference second - first, with its interval, of every metric in COMPARED.

    Args:
        label: [n] 0 / 1.
        first: predictions of the reference model.
        second: predictions of the evaluated model.
        n_replicates: number of bootstrap samples.
        level: confidence level; the bounds are quantiles of the replicates.
        seed: seed of the weights.
        on_replicate: called after each replicate, to show progress.
        weight: [n] weights of the rows; None if they have none.

    Raises:
        InputError: if all rows have the same label.
    """
    is_positive = label == 1
    n_positive = int(is_positive.sum())
    row_weight = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    if not (row_weight[is_positive].any() and row_weight[~is_positive].any()):
        raise InputError(
            f"{len(label):,} rows, {n_positive:,} of them positive: a comparison needs rows of both classes, pass runs "
            "on more rows"
        )
    rng = np.random.default_rng(seed)
    rankings = [_Ranking(is_positive, logits) for logits in (first, second)]
    bin_pairs = rankings[0].bin_of_negative * rankings[1].n_bins + rankings[1].bin_of_negative
    cells, cell_of_negative = np.unique(bin_pairs, return_inverse=True)
    bins = (cells // rankings[1].n_bins, cells % rankings[1].n_bins)
    negative_weight = row_weight[~is_positive]
    sums, squares = (np.bincount(cell_of_negative, weights=negative_weight**power) for power in (1, 2))
    scale = squares / np.where(sums > 0, sums, 1.0)
    n_drawn = sums / np.where(scale > 0, scale, 1.0)
    for ranking, cell_bin in zip(rankings, bins, strict=True):
        ranking.set_cells(cell_bin, cell_of_negative, negative_weight)

    replicates = np.empty((n_replicates, 2, len(COMPARED)))
    for replicate in range(n_replicates):
        positive_weight = rng.poisson(1.0, n_positive) * row_weight[is_positive]
        cell_weight = rng.poisson(n_drawn, len(n_drawn)) * scale
        for model, ranking in enumerate(rankings):
            replicates[replicate, model] = ranking.metrics(positive_weight, cell_weight)
        on_replicate()
    tail = (1 - level) / 2
    change = replicates[:, 1] - replicates[:, 0]
    low, high = np.nanquantile(change, [tail, 1 - tail], axis=0)
    p_value = two_sided_p(change)
    exact = [measure(label, logits, weight).model_dump() for logits in (first, second)]
    return {
        name: Difference(
            first=exact[0][name],
            second=exact[1][name],
            difference=exact[1][name] - exact[0][name],
            low=float(low[index]),
            high=float(high[index]),
            p_value=float(p_value[index]),
        )
        for index, name in enumerate(COMPARED)
    }


class _Ranking:
    """The order of the rows by one model's logits, and the model's metrics under row weights."""

    def __init__(self, is_positive: np.ndarray, logits: Logits) -> None:
        positive, negative = logits.natural[is_positive], logits.natural[~is_positive]
        n_negative = len(negative)
        self.edges = _bin_edges(n_negative)
        self.n_bins = len(self.edges) - 1
        descending = np.sort(negative)[::-1]
        rank = np.empty(n_negative, np.int64)
        rank[np.argsort(-negative, kind="stable")] = np.arange(n_negative)
        self.bin_of_negative = np.searchsorted(self.edges, rank, side="right") - 1

        self.order = np.argsort(-positive, kind="stable")
        ordered = positive[self.order]
        # Tied rows share a threshold: the cumulative weight up to the last of them counts.
        self.last_of_tie = np.searchsorted(-ordered, -ordered, side="right") - 1
        n_above, n_not_below = (np.searchsorted(-descending, -ordered, side=side) for side in ("left", "right"))
        self.not_below, self.above = self._bin_position(n_not_below), self._bin_position(n_above)

        terms = log_loss_terms(is_positive.astype(np.int8), logits.natural)
        balanced = log_loss_terms(is_positive.astype(np.int8), logits.balanced)
        self.positive_loss = (terms[is_positive], balanced[is_positive])
        self.negative_loss = (terms[~is_positive], balanced[~is_positive])
        self.full_log_weight = np.exp(-logits.log_sampling_rate)  # of a negative, in the log loss

    def _bin_position(self, n_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts ranks to bin indices and the fractions of those bins that lie above the rank."""
        index = np.minimum(np.searchsorted(self.edges, n_rows, side="right") - 1, self.n_bins - 1)
        return index, (n_rows - self.edges[index]) / np.diff(self.edges)[index]

    def set_cells(self, cell_bin: np.ndarray, cell_of_negative: np.ndarray, weight: np.ndarray) -> None:
        """Sets the bin of each cell, and computes the cells' mean losses from the cell and weight of each negative."""
        self._cell_bin = cell_bin
        sums = np.bincount(cell_of_negative, weights=weight)
        losses = [np.bincount(cell_of_negative, weights=weight * loss) for loss in self.negative_loss]
        self._cell_loss = [loss / np.where(sums > 0, sums, 1.0) for loss in losses]

    def _weight_above(self, bin_position: tuple[np.ndarray, np.ndarray], bin_weight: np.ndarray) -> np.ndarray:
        index, fraction = bin_position
        cumulative = np.concatenate([[0.0], np.cumsum(bin_weight)])
        return cumulative[index] + fraction * bin_weight[index]

    def metrics(self, positive_weight: np.ndarray, cell_weight: np.ndarray) -> tuple[float, ...]:
        """The weighted metrics, in the order of COMPARED."""
        bin_weight = np.bincount(self._cell_bin, weights=cell_weight, minlength=self.n_bins)
        weight = positive_weight[self.order]
        n_positive, n_negative = weight.sum(), bin_weight.sum()
        hits = np.cumsum(weight)[self.last_of_tie]
        misses = self._weight_above(self.not_below, bin_weight)
        natural, balanced = (
            (np.dot(positive_weight, positive_loss), np.dot(cell_weight, cell_loss))
            for positive_loss, cell_loss in zip(self.positive_loss, self._cell_loss, strict=True)
        )
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN if a class has no weight: the quantiles omit it
            ap = np.sum(np.where(weight > 0, weight * hits / (hits + misses), 0.0)) / n_positive
            mid_rank = (misses + self._weight_above(self.above, bin_weight)) / 2
            roc_auc = 1 - np.sum(weight * mid_rank) / (n_positive * n_negative)
            full = self.full_log_weight
            logloss = (natural[0] + full * natural[1]) / (n_positive + full * n_negative)
            wll = (balanced[0] / n_positive + balanced[1] / n_negative) / 2
        return ap, wll, roc_auc, logloss, toss_score(ap, wll)


def _bin_edges(n_negative: int) -> np.ndarray:
    """Bin edges in ranks of negatives: one bin per rank, or bins that are narrow at the top, of equal width below."""
    if n_negative <= N_EXACT:
        return np.arange(n_negative + 1)
    top = np.geomspace(1, n_negative, _N_BINS // 2)
    uniform = np.linspace(0, n_negative, _N_BINS // 2)
    return np.unique(np.concatenate([top, uniform]).round().astype(np.int64))
