"""Early stopping: selects the monitored rows and computes the composite metric."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from recsys.data.groups import NO_USER
from recsys.data.rows import JoinedRows, ListedRows, Permutation, PermutedSlice, Rows
from recsys.data.split import Split
from recsys.defaults import ENOUGH_CLICKS
from recsys.errors import InputError
from recsys.evaluation.metrics import DEFINED_FOR_ONE_CLASS, Metrics
from recsys.evaluation.own_metrics import defined_values
from recsys.training.config import EarlyStopping
from recsys.training.copies import content_hashes
from recsys.training.state import Epoch

HOLDOUT_STREAM, EPOCH_STREAM = 0, 1  # random streams of one seed
_ENOUGH_CONTENTS = 30
"""Different rows that monitored rows must have so that copies are held out together."""


def split_monitored_rows(
    split: Split, monitor: Rows | None, stopping: EarlyStopping | None, seed: int
) -> tuple[Rows, Rows | None]:
    """Returns the rows to train on, and the rows that early stopping monitors.

    Args:
        split: the split with the fitting rows.
        monitor: the data's own validation rows; None holds out some of the fitting rows: the latest of a split by time
            or day, rows of one other fold in a split by fold, else a random sample. With folds by user, whole users
            are sampled; without row ids, copies of a row together.
        stopping: None monitors no rows.
        seed: chooses the sample.

    Raises:
        InputError: if no rows are left to train on, or the monitored rows, or the rows to train on, lack a class.
    """
    if stopping is None:
        return split.fit_rows, None
    if monitor is not None:
        _check_classes(split, monitor, stopping, "validation", "add validation rows of both classes")
        return split.fit_rows, monitor
    stopping = stopping.resolved(split.size("cpu"))
    n_held_out = max(1, round(stopping.validation_fraction * len(split.fit_rows)))
    fitted, held_out = _hold_out(split, n_held_out, seed)
    if len(fitted) == 0:
        raise InputError(
            f"split {split.name!r} has no rows left to train on: add rows, or set trainer.early_stopping=null"
        )
    cure = "raise trainer.early_stopping.validation_fraction"
    if split.monitored is not None and len(held_out) >= len(split.monitored.rows):
        cure = f"early stopping monitors at most fold {split.monitored.number}: lower prepare.n_folds"
    n_positive, n_negative = _check_classes(split, held_out, stopping, "monitored", cure)
    if split.prior.n_positive == n_positive or split.prior.n_negative == n_negative:
        raise InputError(
            f"split {split.name!r}: early stopping monitors all rows of one class, so that none is left to train on: "
            "add rows of this class, or set trainer.early_stopping=null"
        )
    return fitted, held_out


def _hold_out(split: Split, n: int, seed: int) -> tuple[Rows, Rows]:
    """Divides the fitting rows into those to train on and about n that are held out."""
    time = split.store.times(split.fit_rows.numbers()) if split.is_by_time else None
    if time is not None:
        return _latest(split.fit_rows, time, n, seed)
    if split.monitored is None:
        return _sample(split, split.fit_rows, n, seed)
    kept, held_out = _sample(split, split.monitored.rows, min(n, len(split.monitored.rows)), seed)
    return JoinedRows([split.monitored.other_rows, kept]), held_out


def _latest(rows: Rows, time: np.ndarray, n: int, seed: int) -> tuple[Rows, Rows]:
    """Divides rows into the earlier ones, and the n latest by [len(rows)] times."""
    order = Permutation(len(rows), seed, HOLDOUT_STREAM)(np.arange(len(rows)))
    order = order[np.argsort(-time[order].astype(np.int64), kind="stable")]  # at random among rows of the same time
    numbers = rows.numbers()[order]
    return ListedRows(np.sort(numbers[n:])), ListedRows(np.sort(numbers[:n]))


def _sample(split: Split, rows: Rows, n: int, seed: int) -> tuple[Rows, Rows]:
    """Divides rows at random; all rows of a cluster are held out or none, in as few clusters as have n rows."""
    numbers = rows.numbers()
    key = _cluster_keys(split, numbers, n)
    _, cluster, sizes = (None, None, None) if key is None else np.unique(key, return_inverse=True, return_counts=True)
    if cluster is None or sizes is None or len(sizes) == len(numbers):
        order = Permutation(len(rows), seed, HOLDOUT_STREAM)
        return PermutedSlice(rows, order, n, len(rows)), PermutedSlice(rows, order, 0, n)
    order_of_clusters = Permutation(len(sizes), seed, HOLDOUT_STREAM)(np.arange(len(sizes)))
    n_held_out = int(np.searchsorted(np.cumsum(sizes[order_of_clusters]), n)) + 1
    is_held_out = np.zeros(len(sizes), bool)
    is_held_out[order_of_clusters[:n_held_out]] = True
    return ListedRows(numbers[~is_held_out[cluster]]), ListedRows(numbers[is_held_out[cluster]])


def _cluster_keys(split: Split, numbers: np.ndarray, n_held_out: int) -> np.ndarray | None:
    """Returns [n] numbers that rows share which are in one fold: those of a user, or copies; None for single rows.

    Copies are ignored where so many rows have few contents: some two of forty combinations would tell little.
    """
    users = split.store.users(numbers) if split.has_folds_by_user else None
    if users is not None:
        return np.where(users != NO_USER, users, -1 - np.arange(len(users)))
    if split.store.has_ids:
        return None
    content = np.concatenate([content_hashes(split.store, block) for block in ListedRows(numbers).blocks()])
    n_contents = len(np.unique(content)) * n_held_out / len(numbers)
    return content if n_contents >= _ENOUGH_CONTENTS else None


def few_clicks_warning(fits: Sequence[tuple[Split, Rows | None]]) -> str | None:
    """What to say of monitored rows whose rarer class is too small to choose an epoch by; None if it is not.

    Args:
        fits: the split and the monitored rows of each fit of a run.
    """
    counts = [_count_classes(split, monitored) for split, monitored in fits if monitored is not None]
    rarer = [min(count) for count in counts]
    if not rarer or min(rarer) >= ENOUGH_CLICKS:
        return None
    kind = "clicks" if all(positive <= negative for positive, negative in counts) else "rows of the rarer class"
    number = f"{min(rarer):,}" if min(rarer) == max(rarer) else f"{min(rarer):,} to {max(rarer):,}"
    return (
        f"early stopping monitors {number} {kind}: below {ENOUGH_CLICKS} its choice of the epoch depends on chance, "
        "more rows help"
    )


def _check_classes(split: Split, monitored: Rows, stopping: EarlyStopping, kind: str, cure: str) -> tuple[int, int]:
    """Returns the numbers of positives and negatives; raises InputError if a metric is undefined without one class."""
    n_positive, n_negative = _count_classes(split, monitored)
    defined: Collection[str] = DEFINED_FOR_ONE_CLASS if n_positive + n_negative else ()
    undefined = [name for name in stopping.weights if name not in defined]
    if 0 in (n_positive, n_negative) and undefined:
        raise InputError(
            f"split {split.name!r}: {undefined[0]} is undefined on the {len(monitored):,} {kind} rows of early "
            f"stopping ({n_positive:,} positive): {cure}, or set trainer.early_stopping=null"
        )
    return n_positive, n_negative


def _count_classes(split: Split, rows: Rows) -> tuple[int, int]:
    """Returns the numbers of positives and negatives with a weight above zero."""
    labels = [split.store.counted_labels(block) for block in rows.blocks()]
    n_positive = sum(int(label.sum()) for label in labels)
    return n_positive, sum(map(len, labels)) - n_positive


def composite(metrics: Metrics, weights: Mapping[str, float], own: Mapping[str, float | None] | None = None) -> float:
    """Computes the weighted sum of metrics that early stopping maximizes.

    Args:
        metrics: the metrics of the monitored rows.
        weights: weights by metric.
        own: metrics of the user's own, by path.

    Raises:
        InputError: if a metric is undefined on the monitored rows.
    """
    values = metrics.defined() | defined_values(own or {})
    if undefined := [name for name in weights if name not in values]:
        raise InputError(
            f"{undefined[0]} is undefined on the {metrics.n_rows} monitored rows ({metrics.n_positive} positive): "
            "set trainer.early_stopping=null"
        )
    return sum(weight * values[name] for name, weight in weights.items())


def epoch_text(epoch: Epoch, n_rows: int, weights: Mapping[Any, float]) -> str:
    """An epoch of `n_rows` rows in words."""
    watched = "" if epoch.monitored is None else f"  monitored {monitored_text(epoch.monitored, weights)}"
    waited = f"{epoch.waited_s / epoch.seconds:.1%}".replace("%", " %")
    return f"loss {epoch.loss:.4f}{watched}  {n_rows / epoch.seconds:,.0f} rows/s  data wait {waited}"


def monitored_text(value: float, weights: Mapping[Any, float]) -> str:
    """A composite metric in words: `logloss 0.45170`, or the weighted sum of several metrics."""
    if len(weights) > 1:
        return f"{value:.5f} ({' + '.join(f'{weight:g} {name}' for name, weight in weights.items())})"
    ((name, weight),) = weights.items()
    return f"{name} {value / weight if weight else value:.5f}"
