"""Compares two models on the same rows: differences of metrics with intervals from the paired bootstrap.

Every bootstrap sample draws the same rows for all fits of both models, in clusters: the rows of a user resemble each
other, and an interval that draws them one by one is too narrow.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, computed_field

from recsys.errors import InputError
from recsys.evaluation.bootstrap.draws import Resampling
from recsys.evaluation.bootstrap.intervals import difference_bounds
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import MetricName, measure

By = Literal["row", "user", "day"]
"""What a bootstrap sample draws: single rows, or all rows of a user or of a day."""
ComparedMetric = Literal["ap", "wll", "roc_auc", "logloss", "toss_score"]
COMPARED: tuple[ComparedMetric, ...] = get_args(ComparedMetric)
"""Of any rows. Intervals that draw users hold GAUC too."""
ENOUGH_CLUSTERS, ENOUGH_CLICKS = 50, 500
"""An interval from fewer is said to be rough."""


class Difference(BaseModel):
    """The difference of a metric, second model - first model, with the bounds of its interval."""

    first: float
    """The mean over fits, if the model has several."""
    second: float
    difference: float
    low: float
    high: float
    p_value: float | None = None
    """Two-sided, of no difference; None in files of earlier versions."""


class Interval(BaseModel):
    """A metric of one model with the bounds of its interval."""

    value: float
    low: float
    high: float


class Comparison(BaseModel):
    """The differences of two models on the same rows, and what their intervals hold."""

    differences: dict[str, Difference]
    """By metric."""
    by: By = "row"
    n_rows: int
    n_positive: int
    n_clusters: int
    """Number of users, days or rows that were drawn; a row without a user or a day is drawn alone."""
    n_seeds: tuple[int, int] = (1, 1)
    """Number of fits of each model that differ in their seed."""

    @property
    def counts(self) -> str:
        """The numbers of rows, positives and clusters: `101,371 rows, 58,000 positives, 1,215 users`."""
        clusters = "" if self.by == "row" else f", {self.n_clusters:,} {self.by}s"
        return f"{self.n_rows:,} rows, {self.n_positive:,} positives{clusters}"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def scope(self) -> str:
        """What the intervals speak of: two models, or single fits of them, whose seeds they do not vary."""
        first, second = self.n_seeds
        drawn = f"intervals hold {self.by}s"
        if first > 1 and second > 1:
            return f"{drawn} and seeds ({first} and {second} fits)"
        if first == second == 1:
            return f"{drawn}: a difference of these two fits; other seeds may give another one"
        which, n = ("first", second) if first == 1 else ("second", first)
        return f"{drawn} and the seeds of one model ({n} fits); of the {which} there is this one fit"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def note(self) -> str | None:
        """A warning that the intervals are rough; None if 50 clusters and 500 rows of each class are there."""
        n_rarer = min(self.n_positive, self.n_rows - self.n_positive)
        kind = "clicks" if n_rarer == self.n_positive else "rows without a click"
        few = [f"{self.n_clusters:,} {self.by}s"] if self.n_clusters < ENOUGH_CLUSTERS else []
        few += [f"{n_rarer:,} {kind}"] if n_rarer < ENOUGH_CLICKS else []
        return f"rough intervals, from {' and '.join(few)}" if few else None


def paired_bootstrap(
    label: np.ndarray,
    first: Logits | Sequence[Logits],
    second: Logits | Sequence[Logits],
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    on_replicate: Callable[[], None] = lambda: None,
    weight: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    by: By = "row",
) -> Comparison:
    """Computes the difference second - first, with its interval, of every metric in COMPARED, and of GAUC by user.

    Args:
        label: [n] 0 / 1.
        first: predictions of the reference model; of several fits that differ in their seed, a metric is their mean.
        second: predictions of the evaluated model.
        n_replicates: number of bootstrap samples.
        level: confidence level.
        seed: seed of the draws.
        on_replicate: called after each replicate, to show progress.
        weight: [n] weights of the rows; None if they have none.
        cluster: [n] integers, the user or day of each row, -1 for a row that is drawn alone; None draws rows.
        by: what a cluster is.

    Raises:
        InputError: if all rows have the same label.
    """
    assert (cluster is None) == (by == "row"), "clusters are users or days"
    is_positive = label == 1
    n_positive = int(is_positive.sum())
    row_weight = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    if not (row_weight[is_positive].any() and row_weight[~is_positive].any()):
        raise InputError(
            f"{len(label):,} rows, {n_positive:,} of them positive: a comparison needs rows of both classes, pass runs "
            "on more rows"
        )
    n_first, n_second = (1 if isinstance(model, Logits) else len(model) for model in (first, second))
    fits = [fit for model in (first, second) for fit in ([model] if isinstance(model, Logits) else model)]
    resampling = Resampling(is_positive, fits, row_weight, cluster, clusters_are_users=by == "user")
    names = compared_metrics(resampling)
    replicates = np.empty((n_replicates, len(fits), len(names)))
    for index, metrics in enumerate(resampling.replicates(n_replicates, seed)):
        replicates[index] = metrics
        on_replicate()
    measured = [measure(label, fit, weight, cluster if resampling.has_gauc else None) for fit in fits]
    exact = np.array([[metrics.value(name) for name in names] for metrics in measured], np.float64)
    low, high, p_value = difference_bounds(replicates, exact, n_first, resampling.n_clusters, level)
    first_exact, second_exact = exact[:n_first].mean(axis=0), exact[n_first:].mean(axis=0)
    differences = {
        name: Difference(
            first=first_exact[index],
            second=second_exact[index],
            difference=second_exact[index] - first_exact[index],
            low=low[index],
            high=high[index],
            p_value=p_value[index],
        )
        for index, name in enumerate(names)
    }
    return Comparison(
        differences=differences,
        by=by,
        n_rows=len(label),
        n_positive=n_positive,
        n_clusters=resampling.n_clusters,
        n_seeds=(n_first, n_second),
    )


def metric_intervals(
    label: np.ndarray,
    model: Logits,
    n_replicates: int = 200,
    level: float = 0.95,
    seed: int = 0,
    weight: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    by: By = "row",
) -> dict[str, Interval]:
    """Computes the interval of each metric of `paired_bootstrap` for one model; see there for the arguments.

    The interval holds the rows or users of the data, not the seed of the fit. Rows of one class or one user have none.
    """
    is_positive = label == 1
    row_weight = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    if not (row_weight[is_positive].any() and row_weight[~is_positive].any()):
        return {}
    resampling = Resampling(is_positive, [model], row_weight, cluster, clusters_are_users=by == "user")
    names = compared_metrics(resampling)
    replicates = np.stack(list(resampling.replicates(n_replicates, seed)))
    metrics = measure(label, model, weight, cluster if resampling.has_gauc else None)
    exact = np.array([[metrics.value(name) for name in names]], np.float64)
    # as the difference from a model whose metrics are zero
    zero = np.zeros_like
    low, high, _ = difference_bounds(
        np.concatenate([zero(replicates), replicates], axis=1),
        np.concatenate([zero(exact), exact]),
        1,
        resampling.n_clusters,
        level,
    )
    return {
        name: Interval(value=exact[0, index], low=low[index], high=high[index])
        for index, name in enumerate(names)
        if np.isfinite(low[index])
    }


def compared_metrics(resampling: Resampling) -> tuple[MetricName, ...]:
    """The metrics of bootstrap samples, in their order."""
    return (*COMPARED, "gauc") if resampling.has_gauc else COMPARED
