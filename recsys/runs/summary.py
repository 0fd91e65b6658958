"""The metrics of a ranking run over all its rows, by fold and by segment, and the table that shows them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.logits import logit_of
from recsys.evaluation.metrics import METRIC_NAMES, Metrics, format_metric, measure
from recsys.runs.metrics import RunMetrics, Spread, TrainSummary
from recsys.runs.predictions import Predictions, join
from recsys.system.progress import console

_MAX_PRINTED_SEGMENTS = 4
"""A segmentation of more is left to metrics.json: a table of 24 hours would hide the rest."""


def bayes_metrics(predictions: Predictions, dataset: PreparedDataset) -> Metrics | None:
    """The same rows as the generator's true probabilities would score them, where they are known."""
    truth = dataset.truth(predictions.row)
    if truth is None:
        return None
    return measure(predictions.label, predictions.logits.with_natural(logit_of(truth)))


def segment_metrics(predictions: Predictions, dataset: PreparedDataset) -> dict[str, dict[str, Metrics]]:
    """Metrics by segmentation and label, as the schema's `segments` name them."""
    by_segmentation: dict[str, dict[str, Metrics]] = {}
    for name, labels in dataset.segments(predictions.row).items():
        by_segmentation[name] = {}
        for label in sorted(pc.unique(labels).to_pylist()):
            inside = np.flatnonzero(np.asarray(pc.equal(labels, pa.scalar(label))))
            by_segmentation[name][label] = predictions.take(inside).measure()
    return by_segmentation


def spread(by_fold: Sequence[Metrics]) -> dict[str, Spread]:
    """By metric, mean and standard deviation (n - 1) over folds; None where too few have it."""
    by_metric: dict[str, Spread] = {}
    for name in METRIC_NAMES:
        values = [value for metrics in by_fold if (value := metrics.value(name)) is not None]
        by_metric[name] = Spread(
            mean=float(np.mean(values)) if values else None,
            sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        )
    return by_metric


def summarize(
    reported: Sequence[Predictions], others: Sequence[Predictions], dataset: PreparedDataset, train: TrainSummary
) -> RunMetrics:
    """The content of metrics.json, calibration aside.

    Args:
        reported: what `overall` is measured on: all folds, the holdout, or the test partition.
        others: further partitions, shown beside them.
        dataset: knows segments and the generator's truth.
        train: speed and memory of training.
    """
    overall = join(reported)
    by_fold = {part.name: part.measure() for part in reported}
    return RunMetrics(
        overall=overall.measure(),
        folds=by_fold,
        spread=spread(list(by_fold.values())),
        segments=segment_metrics(overall, dataset),
        train=train,
        splits={part.name: part.measure() for part in (*others, *reported)} if others else None,
        bayes=bayes_metrics(overall, dataset),
    )


def print_summary(metrics: RunMetrics, title: str) -> None:
    """Prints metrics.json as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("rows of")
    for column in ("rows", "positive", *METRIC_NAMES):
        table.add_column(column, justify="right")

    def add(name: str, figures: Metrics, style: str | None = None) -> None:
        counts = (f"{figures.n_rows:,}", f"{figures.n_positive:,}")
        table.add_row(name, *counts, *figures.formatted(), style=style)

    for name, figures in (metrics.splits or metrics.folds).items():
        add(name if not name.isdigit() else f"fold {name}", figures)
    for segmentation, by_label in metrics.segments.items():
        if len(by_label) <= _MAX_PRINTED_SEGMENTS:
            for label, figures in by_label.items():
                add(f"{segmentation}: {label}", figures, "dim")
    add("overall", metrics.overall, "bold")
    if len(metrics.folds) > 1 and metrics.spread:
        for statistic in ("mean", "sd"):
            values = [format_metric(getattr(metrics.spread[metric], statistic)) for metric in METRIC_NAMES]
            table.add_row(f"{statistic} over folds", "", "", *values)
    if metrics.bayes is not None:
        add("best possible", metrics.bayes, "green")
    console.print(table)
