"""Early stopping: selects the monitored rows and computes the composite metric."""

from collections.abc import Mapping

from recsys.data.rows import Permutation, PermutedSlice, Rows
from recsys.errors import InputError
from recsys.evaluation.metrics import MetricName, Metrics
from recsys.training.config import EarlyStopping

HOLDOUT_STREAM, EPOCH_STREAM = 0, 1  # random streams of one seed


def hold_out_monitor_rows(
    rows: Rows, monitor: Rows | None, stopping: EarlyStopping | None, seed: int
) -> tuple[Rows, Rows | None]:
    """Returns the rows to train on and the monitored rows; without `monitor`, holds out a slice of the fitting rows."""
    if stopping is None or monitor is not None:
        return rows, monitor
    n_held_out = max(1, round(stopping.validation_fraction * len(rows)))
    order = Permutation(len(rows), seed, HOLDOUT_STREAM)
    return PermutedSlice(rows, order, n_held_out, len(rows)), PermutedSlice(rows, order, 0, n_held_out)


def composite(metrics: Metrics, weights: Mapping[MetricName, float]) -> float:
    """Computes the weighted sum of metrics that early stopping maximizes.

    Raises:
        InputError: if a metric is undefined on the monitored rows.
    """
    values = metrics.defined()
    if undefined := [name for name in weights if name not in values]:
        raise InputError(
            f"{undefined[0]} is undefined on the {metrics.n_rows} monitored rows ({metrics.n_positive} positive): "
            "raise trainer.early_stopping.validation_fraction, or set trainer.early_stopping=null"
        )
    return sum(weight * values[name] for name, weight in weights.items())
