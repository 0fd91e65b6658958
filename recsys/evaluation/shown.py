"""What tables and plots show of metrics: which ones, their titles, and as many digits as their deviation supports."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator

from recsys.config import StrictModel
from recsys.evaluation.metrics import METRIC_NAMES, MetricName, Metrics
from recsys.own_code import is_path

TITLES: Mapping[MetricName, str] = {
    "logloss": "log loss",
    "ne": "NE",
    "roc_auc": "ROC-AUC",
    "gauc": "GAUC",
    "ap": "AP",
    "ece": "ECE",
    "wll": "WLL",
    "pr_auc": "PR-AUC",
    "toss_score": "Toss score",
}
STANDARD_METRICS: tuple[MetricName, ...] = ("logloss", "roc_auc", "ap", "ece")
"""Shown in every table."""
_PARTS_OF_TOSS_SCORE: tuple[MetricName, ...] = ("wll", "pr_auc")
_N_DECIMALS, _MAX_DECIMALS = 4, 6
_WIDTH_OF_INTERVAL = 2 * 1.96
"""Standard deviations between the bounds of a 95 % interval."""


def _check_path(name: str) -> str:
    if not is_path(name):
        raise ValueError(f"{name!r} must be the path of a function, such as my_package.my_file:my_metric")
    return name


OwnMetricPath = Annotated[str, AfterValidator(_check_path)]


class EvaluationConfig(StrictModel):
    """The section `evaluation` of a config."""

    metric: MetricName | None = None
    """The metric that sweeps, ensembles and plans choose by, which tables show beside log loss, ROC-AUC, AP and ECE.
    null: the metric of early stopping; log loss if that has several or none."""
    own_metrics: tuple[OwnMetricPath, ...] = ()
    """Metrics of your own, which metrics.json and tables have beside the others: paths of functions of label, p and
    weight, `package.module:function`."""


def named_metrics(metric: MetricName | None, monitored: Iterable[str]) -> tuple[MetricName, ...]:
    """The metrics that a config names: first the one to choose by, then the others that early stopping monitors.

    Args:
        metric: `evaluation.metric`.
        monitored: the metrics in the weights of early stopping; those of the user's own are left out.
    """
    by_name: dict[str, MetricName] = {name: name for name in METRIC_NAMES}
    known = [by_name[name] for name in monitored if name in by_name]
    chosen = metric or (known[0] if len(known) == 1 else "logloss")
    return tuple(dict.fromkeys((chosen, *known)))


def shown_metrics(named: Iterable[MetricName], has_users: bool = False) -> tuple[MetricName, ...]:
    """The metrics of a table's columns: the standard ones and those named; the Toss score is shown with its parts.

    Args:
        named: metrics that a config names.
        has_users: whether users are known, so that GAUC is shown.
    """
    shown = {*STANDARD_METRICS, *named, *(("gauc",) if has_users else ())}
    if "toss_score" in shown:
        shown.update(_PARTS_OF_TOSS_SCORE)
    return tuple(name for name in METRIC_NAMES if name in shown)


def titles(names: Iterable[MetricName]) -> list[str]:
    """The column titles of metrics."""
    return [TITLES[name] for name in names]


def counted(n: int, noun: str) -> str:
    """Returns a number with its noun: `1 step`, `1,234 steps`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def format_metric(value: float | None, sd: float | None = None, sign: Literal["", "+"] = "") -> str:
    """Formats a metric; a dash if it is undefined.

    With a standard deviation, the last digit is the second significant digit of the deviation. Without one, a metric
    has four decimals, or, if it is small, two significant digits.

    Args:
        value: the metric, a mean of it, or a deviation.
        sd: its standard deviation.
        sign: `+` also shows the sign of positive values.
    """
    if value is None or not math.isfinite(value):
        return "-"
    if sd is not None and sd > 0 and math.isfinite(sd):
        return f"{value:{sign}.{min(_decimals_of_two_digits(sd), _MAX_DECIMALS)}f}"
    if value == 0:
        return f"{value:{sign}.{_N_DECIMALS}f}"
    n_decimals = max(_N_DECIMALS, _decimals_of_two_digits(value))
    return f"{value:{sign}.{n_decimals}f}" if n_decimals <= _MAX_DECIMALS else f"{value:{sign}.1e}"


def _decimals_of_two_digits(value: float) -> int:
    """The decimals that show two significant digits of a number: 3 for 0.012, 2 for 0.0996, which rounds to 0.10."""
    exponent = int(f"{value:.1e}".partition("e")[2])
    return max(0, 1 - exponent)


def interval_sd(low: float, high: float) -> float:
    """The standard deviation of a normal distribution with this 95 % interval."""
    return (high - low) / _WIDTH_OF_INTERVAL


def format_interval(low: float, high: float) -> str:
    """Formats the bounds of the 95 % interval of a difference."""
    low_text, high_text = (format_metric(bound, interval_sd(low, high), "+") for bound in (low, high))
    return f"{low_text} .. {high_text}"


def format_metrics(
    metrics: Metrics, shown: Iterable[MetricName], sd: Mapping[MetricName, float | None] | None = None
) -> list[str]:
    """Formats the metrics of a table's row.

    Args:
        metrics: the metrics of a set of rows.
        shown: the metrics of the table.
        sd: standard deviations by metric.
    """
    return [format_metric(metrics.value(name), (sd or {}).get(name)) for name in shown]
