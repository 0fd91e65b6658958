"""metrics.json: the figures of a run over all its rows, by part and by segment, and the table that shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.logits import logit_of
from recsys.evaluation.metrics import METRIC_NAMES, Metrics, measure
from recsys.runs.folder import Part, join
from recsys.system.progress import console

_SHOWN = ("ap", "wll", "roc_auc", "pr_auc", "logloss", "ece", "score")


def measure_part(part: Part) -> Metrics:
    """All metrics of a part."""
    return measure(part.label, part.natural_logit, part.balanced_logit)


def bayes_part(part: Part, dataset: PreparedDataset) -> Part | None:
    """The same rows as the generator's true probabilities would score them, where they are known."""
    truth = dataset.truth(part.rows)
    if truth is None:
        return None
    natural = logit_of(truth)
    shift = part.balanced_logit - part.natural_logit
    return Part("bayes", part.rows, part.label, natural.astype(np.float32), natural, natural + shift)


def measure_segments(part: Part, dataset: PreparedDataset) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics by segmentation and label, as the schema's `segments` name them."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, labels in dataset.segments(part.rows).items():
        found[name] = {}
        for label in sorted(pc.unique(labels).to_pylist()):
            mine = np.asarray(pc.equal(labels, pa.scalar(label)))
            metrics = measure(part.label[mine], part.natural_logit[mine], part.balanced_logit[mine])
            found[name][label] = metrics.model_dump()
    return found


def spread(parts: Sequence[Metrics]) -> dict[str, dict[str, float | None]]:
    """By metric, `mean` and `sd` (with n - 1) over parts; None where too few have it."""
    found: dict[str, dict[str, float | None]] = {}
    for name in METRIC_NAMES:
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        found[name] = {
            "mean": float(np.mean(values)) if values else None,
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
    return found


def summarize(
    reported: Sequence[Part], others: Sequence[Part], dataset: PreparedDataset, train: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        reported: the parts that `overall` speaks of: all folds, the holdout, or the test split.
        others: further splits, shown beside them.
        dataset: knows segments and the generator's truth.
        train: speed and memory of training.
    """
    overall = join(reported)
    bayes = bayes_part(overall, dataset)
    by_part = {part.name: measure_part(part) for part in reported}
    metrics: dict[str, Any] = {
        "overall": measure_part(overall).model_dump(),
        "folds": {name: found.model_dump() for name, found in by_part.items()},
        "spread": spread(list(by_part.values())),
        "segments": measure_segments(overall, dataset),
        "train": dict(train),
    }
    if others:
        metrics["splits"] = {part.name: measure_part(part).model_dump() for part in (*others, *reported)}
    if bayes is not None:
        metrics["bayes"] = measure_part(bayes).model_dump()
    return metrics


def print_summary(metrics: Mapping[str, Any], title: str) -> None:
    """Shows metrics.json as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("rows of")
    for column in ("rows", "positive", *_SHOWN):
        table.add_column(column, justify="right")

    def add(name: str, figures: Mapping[str, Any], style: str | None = None) -> None:
        shown = ["-" if figures[metric] is None else f"{figures[metric]:.5f}" for metric in _SHOWN]
        counts = ["" if figures[count] is None else f"{figures[count]:,}" for count in ("n_rows", "n_positive")]
        table.add_row(name, *counts, *shown, style=style)

    for name, figures in metrics.get("splits", metrics["folds"]).items():
        add(name if not name.isdigit() else f"fold {name}", figures)
    for segmentation, by_label in metrics["segments"].items():
        if len(by_label) <= 4:  # the others are for metrics.json: a table of 24 hours hides the rest
            for label, figures in by_label.items():
                add(f"{segmentation}: {label}", figures, "dim")
    add("overall", metrics["overall"], "bold")
    if len(metrics["folds"]) > 1 and "spread" in metrics:
        for which in ("mean", "sd"):
            figures = {name: found[which] for name, found in metrics["spread"].items()}
            add(f"{which} over folds", figures | {"n_rows": None, "n_positive": None})
    if "bayes" in metrics:
        add("best possible", metrics["bayes"], "green")
    console.print(table)
