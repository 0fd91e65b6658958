"""Computes a ranking run's metrics over all rows, by fold and by segment, and prints them as a table."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.logits import logit_of
from recsys.evaluation.metrics import METRIC_NAMES, MetricName, Metrics, measure
from recsys.evaluation.own_metrics import measure_own, title_of
from recsys.evaluation.shown import format_metric, format_metrics, titles
from recsys.report.tables import TextRow, text_table
from recsys.runs.metrics import RunMetrics, Spread, TrainSummary, beaten_by
from recsys.runs.predictions import Predictions, join
from recsys.system.progress import console

OVERALL, BEST_POSSIBLE = "overall", "best possible"
_ADVICE = (
    "check that the columns have the right roles; try another --model, more rows, or gatectr sweep over the settings "
    "of this one"
)
_OF_THE_SAMPLE: frozenset[MetricName] = frozenset({"ap", "pr_auc", "toss_score"})
"""Metrics that depend on the share of positives among the rows, and are not weighted by the rate of sampling."""
_MAX_PRINTED_SEGMENTS = 4
"""Larger segmentations are only in metrics.json: 24 rows, one per hour, would hide the other metrics."""


def bayes_metrics(predictions: Predictions, dataset: PreparedDataset) -> Metrics | None:
    """Metrics of the generator's true probabilities on the same rows; None if they are unknown."""
    true_p = dataset.truth(predictions.row)
    if true_p is None:
        return None
    truth = predictions.logits.with_natural(logit_of(true_p))
    return measure(predictions.label, truth, predictions.weight, predictions.user)


def segment_metrics(predictions: Predictions, dataset: PreparedDataset) -> dict[str, dict[str, Metrics]]:
    """Metrics by segmentation and segment label, as defined in the schema's `segments`; by known and new users too."""
    by_segmentation: dict[str, dict[str, Metrics]] = {}
    for name, labels in dataset.segments(predictions.row).items():
        by_segmentation[name] = {}
        for label in sorted(pc.unique(labels).to_pylist()):
            positions = np.flatnonzero(np.asarray(pc.equal(labels, pa.scalar(label))))
            by_segmentation[name][label] = predictions.take(positions).measure()
    if (is_known := predictions.is_known) is not None:
        by_label = {"known": np.flatnonzero(is_known), "new": np.flatnonzero(~is_known)}
        by_segmentation["users"] = {label: predictions.take(rows).measure() for label, rows in by_label.items()}
    return by_segmentation


def spread(by_fold: Sequence[Metrics]) -> dict[str, Spread]:
    """Mean and standard deviation (n - 1) over folds by metric; None if it is defined on too few folds."""
    by_metric: dict[str, Spread] = {}
    for name in METRIC_NAMES:
        values = [value for metrics in by_fold if (value := metrics.value(name)) is not None]
        by_metric[name] = Spread(
            mean=float(np.mean(values)) if values else None,
            sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        )
    return by_metric


def summarize(
    reported: Sequence[Predictions],
    others: Sequence[Predictions],
    dataset: PreparedDataset,
    train: TrainSummary,
    own_metrics: Sequence[str] = (),
) -> RunMetrics:
    """The content of metrics.json, except for calibration.

    Args:
        reported: calibrated predictions that `overall` is computed from: all folds, the holdout, or the test partition.
        others: predictions of other partitions, listed separately.
        dataset: the data set, with segments and the generator's true probabilities.
        train: speed and memory of training.
        own_metrics: paths of metrics of the user's own.
    """
    overall = join(reported)
    by_fold = {fold.name: fold.measure() for fold in reported}
    return RunMetrics(
        overall=overall.measure(),
        raw=measure(overall.label, overall.raw, overall.weight, overall.user),
        folds=by_fold,
        spread=spread(list(by_fold.values())),
        segments=segment_metrics(overall, dataset),
        train=train,
        own_metrics=_measure_own(own_metrics, {fold.name: fold for fold in reported} | {OVERALL: overall}),
        splits={fold.name: fold.measure() for fold in (*others, *reported)} if others else None,
        bayes=bayes_metrics(overall, dataset),
    )


def _measure_own(paths: Sequence[str], subsets: Mapping[str, Predictions]) -> dict[str, dict[str, float | None]]:
    by_path: dict[str, dict[str, float | None]] = {path: {} for path in paths}
    for name, rows in subsets.items():
        for path, value in measure_own(paths, rows.label, rows.logits, rows.weight).items():
            by_path[path][name] = value
    return by_path


def metrics_of_subsets(metrics: RunMetrics) -> dict[str, Metrics]:
    """The metrics of a run by the name of their rows: folds or splits, all folds, baselines, segments."""
    parts = metrics.splits or metrics.folds
    found = {_title(name): figures for name, figures in parts.items()}
    if len(metrics.folds) > 1:
        found[OVERALL] = metrics.overall
    found |= metrics.baselines
    if metrics.raw is not None and metrics.calibration is not None and metrics.calibration.has_changed:
        found["before calibration"] = metrics.raw
    if metrics.bayes is not None:
        found[BEST_POSSIBLE] = metrics.bayes
    for segmentation, by_label in shown_segments(metrics).items():
        found |= {f"{segmentation}: {label}": figures for label, figures in by_label.items()}
    return found


def shown_segments(metrics: RunMetrics) -> dict[str, dict[str, Metrics]]:
    """By segmentation and label: the segments that tables show. They have rows, but none has all of them."""
    with_rows = {
        segmentation: {label: figures for label, figures in by_label.items() if figures.n_rows}
        for segmentation, by_label in metrics.segments.items()
    }
    return {segmentation: by_label for segmentation, by_label in with_rows.items() if len(by_label) > 1}


def _title(name: str) -> str:
    """The name of a fold or split in tables."""
    return f"fold {name}" if name.isdigit() else name


def print_summary(metrics: RunMetrics, title: str) -> None:
    """Prints the metrics as a table: folds or splits, all folds together, baselines, segments."""
    rows: list[TextRow] = []
    hidden = {
        f"{segmentation}: {label}"
        for segmentation, by_label in shown_segments(metrics).items()
        if len(by_label) > _MAX_PRINTED_SEGMENTS
        for label in by_label
    }
    n_parts = len(metrics.splits or metrics.folds)
    own = [{_title(name): value for name, value in by_subset.items()} for by_subset in metrics.own_metrics.values()]
    for index, (name, figures) in enumerate(metrics_of_subsets(metrics).items()):
        if name in hidden:
            continue
        style = {OVERALL: "bold", BEST_POSSIBLE: "green"}.get(name, None if index < n_parts else "dim")
        if len(metrics.folds) == 1 and name in metrics.folds:
            style = "bold"
        counts = (f"{figures.n_rows:,}", f"{figures.n_positive:,}")
        own_cells = [format_metric(by_subset[name]) if name in by_subset else "" for by_subset in own]
        rows.append(TextRow((name, *counts, *format_metrics(figures, metrics.shown, metrics.sd), *own_cells), style))
        if name == OVERALL:
            rows += [_spread_row(metrics, statistic) for statistic in ("mean", "sd")]
    own_titles = [title_of(path) for path in metrics.own_metrics]
    if rows:
        console.print(text_table(title, ("subset", "rows", "positive", *titles(metrics.shown), *own_titles), rows))
    else:
        console.print(f"{title}: no rows to evaluate on")
    if beaten := beaten_by(metrics):
        console.print(f"the model does not beat the {' or the '.join(beaten)}: {_ADVICE}", style="yellow")
    if _has_monitored_valid(metrics):
        console.print(
            "valid: the rows that early stopping monitored. They chose the epoch, so that their figures are slightly "
            "better than those of new rows"
        )
    for note in weight_notes(metrics):
        console.print(note)


def _has_monitored_valid(metrics: RunMetrics) -> bool:
    """Whether a row of the table is of the data's own valid rows, and early stopping monitored them."""
    if "valid" not in (metrics.splits or {}) or not isinstance(metrics.train, TrainSummary):
        return False
    return any(epoch.monitored is not None for fit in metrics.train.fits.values() for epoch in fit.epochs)


def _spread_row(metrics: RunMetrics, statistic: Literal["mean", "sd"]) -> TextRow:
    values = [format_metric(getattr(metrics.spread[name], statistic), metrics.sd[name]) for name in metrics.shown]
    return TextRow((f"{statistic} over folds", "", "", *values, *[""] * len(metrics.own_metrics)))


def weight_notes(metrics: RunMetrics) -> list[str]:
    """Lines under the table of a run: the effective sample size, and which metrics are those of the sample."""
    notes, overall = [], metrics.overall
    if overall.n_effective is not None:
        notes.append(
            f"metrics are weighted: {overall.n_rows:,} rows count as {overall.n_effective:,.0f} of equal weight "
            "(effective sample size)"
        )
    note = sampling_note(metrics)
    return notes if note is None else [*notes, note]


def sampling_note(metrics: RunMetrics) -> str | None:
    """A line that says which metrics are those of the sample; None if no negatives were sampled at a single rate."""
    rate = next((link.sampling_rate for link in metrics.links.values()), 1.0)
    if rate == 1:
        return None
    of_the_sample = ", ".join(titles(name for name in metrics.shown if name in _OF_THE_SAMPLE))
    return (
        f"{100 * rate:.3g} % of the negatives are in the data: p, log loss and ECE are those of the full log; of "
        f"the sample: {of_the_sample}"
    )
