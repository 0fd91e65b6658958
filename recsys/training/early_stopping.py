"""Early stopping: selects the monitored rows and computes the composite metric."""

from collections.abc import Mapping

from recsys.data.rows import Permutation, PermutedSlice, Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.evaluation.metrics import DEFINED_FOR_ONE_CLASS, MetricName, Metrics
from recsys.training.config import EarlyStopping

HOLDOUT_STREAM, EPOCH_STREAM = 0, 1  # random streams of one seed


def split_monitored_rows(
    split: Split, monitor: Rows | None, stopping: EarlyStopping | None, seed: int
) -> tuple[Rows, Rows | None]:
    """Returns the rows to train on, and the rows that early stopping monitors.

    Args:
        split: the split with the fitting rows.
        monitor: the data's own validation rows; None holds out a slice of the fitting rows.
        stopping: None monitors no rows.
        seed: chooses the slice.

    Raises:
        InputError: if no rows are left to train on, or the monitored rows, or the rows to train on, lack a class.
    """
    if stopping is None:
        return split.fit_rows, None
    if monitor is not None:
        _check_classes(split, monitor, stopping, "validation", "add validation rows of both classes")
        return split.fit_rows, monitor
    rows = split.fit_rows
    n_held_out = max(1, round(stopping.validation_fraction * len(rows)))
    order = Permutation(len(rows), seed, HOLDOUT_STREAM)
    fitted, held_out = PermutedSlice(rows, order, n_held_out, len(rows)), PermutedSlice(rows, order, 0, n_held_out)
    if len(fitted) == 0:
        raise InputError(
            f"split {split.name!r} has no rows left to train on: add rows, or set trainer.early_stopping=null"
        )
    cure = "raise trainer.early_stopping.validation_fraction"
    n_positive = _check_classes(split, held_out, stopping, "monitored", cure)
    if split.prior.n_positive == n_positive or split.prior.n_negative == len(held_out) - n_positive:
        raise InputError(
            f"split {split.name!r}: early stopping monitors all rows of one class, so that none is left to train on: "
            "add rows of this class, or set trainer.early_stopping=null"
        )
    return fitted, held_out


def _check_classes(split: Split, monitored: Rows, stopping: EarlyStopping, kind: str, cure: str) -> int:
    """Returns the number of positives; raises InputError if a metric is undefined because they have only one class."""
    labels = [split.store.counted_labels(block) for block in monitored.blocks()]
    n_counted, n_positive = sum(map(len, labels)), sum(int(label.sum()) for label in labels)
    undefined = [name for name in stopping.weights if name not in DEFINED_FOR_ONE_CLASS]
    if n_positive in (0, n_counted) and undefined:
        raise InputError(
            f"split {split.name!r}: {undefined[0]} is undefined on the {len(monitored):,} {kind} rows of early "
            f"stopping ({n_positive:,} positive): {cure}, or set trainer.early_stopping=null"
        )
    return n_positive


def composite(metrics: Metrics, weights: Mapping[MetricName, float]) -> float:
    """Computes the weighted sum of metrics that early stopping maximizes.

    Raises:
        InputError: if a metric is undefined on the monitored rows.
    """
    values = metrics.defined()
    if undefined := [name for name in weights if name not in values]:
        raise InputError(
            f"{undefined[0]} is undefined on the {metrics.n_rows} monitored rows ({metrics.n_positive} positive): "
            "set trainer.early_stopping=null"
        )
    return sum(weight * values[name] for name, weight in weights.items())
