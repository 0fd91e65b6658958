"""Metrics of the user's own: functions that are found by the path `package.module:function`."""

import math
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import numpy as np

from recsys.errors import InputError
from recsys.evaluation.logits import Logits
from recsys.own_code import SEPARATOR, is_path, named_object


class RankingMetric(Protocol):
    """A metric of the user's own: a function of the rows' labels, probabilities and weights."""

    def __call__(self, label: np.ndarray, p: np.ndarray, weight: np.ndarray | None) -> float | None:
        """The metric of [n] labels of 0 and 1, [n] float64 probabilities and [n] weights; None if it is undefined."""
        ...


def measure_own(
    paths: Iterable[str], label: np.ndarray, logits: Logits, weight: np.ndarray | None
) -> dict[str, float | None]:
    """Computes metrics of the user's own, by path.

    Args:
        paths: paths of metrics; names of other metrics are left out.
        label: [n] 0 / 1.
        logits: predictions of the same rows.
        weight: [n] weights of the rows; None if they have none.

    Raises:
        InputError: if a folder alone names the metric, or it returns something else than a number or None.
    """
    return {path: _number(path, own_metric(path)(label, logits.p, weight)) for path in paths if is_path(path)}


def own_metric(path: str) -> RankingMetric:
    """A metric that the user of this process named.

    Raises:
        InputError: if only a file named it, or it is no function.
    """
    metric = named_object(path, f"name it yourself with evaluation.own_metrics=[{path}]")
    if not callable(metric):
        raise InputError(f"{path} is not a function: a metric is a function of label, p and weight")
    return cast(RankingMetric, metric)


def title_of(path: str) -> str:
    """The name of a metric in tables: that of its function."""
    return path.rpartition(SEPARATOR)[2]


def defined_values(values: Mapping[str, float | None]) -> dict[str, float]:
    """The metrics that are defined."""
    return {path: value for path, value in values.items() if value is not None}


def _number(path: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float | np.number) or not math.isfinite(float(value)):
        raise InputError(
            f"{path} must return a number, or None if it is undefined, got {value!r}: correct the function"
        )
    return float(value)
