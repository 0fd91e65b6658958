"""Compares two models on the same rows: differences of metrics with intervals from the paired bootstrap."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel

from recsys.errors import InputError
from recsys.evaluation.bootstrap.draws import Resampling
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import measure

ComparedMetric = Literal["ap", "wll", "roc_auc", "logloss", "toss_score"]
COMPARED: tuple[ComparedMetric, ...] = get_args(ComparedMetric)


class Difference(BaseModel):
    """The difference of a metric, second model - first model, with the bounds of its interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float


def paired_bootstrap(
    label: np.ndarray,
    first: Logits,
    second: Logits,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    on_replicate: Callable[[], None] = lambda: None,
    weight: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
):
    is_positive = label == 1
    n_positive = int(is_positive.sum())
    row_weight = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    if not (row_weight[is_positive].any() and row_weight[~is_positive].any()):
        raise InputError(
            f"{len(label):,} rows, {n_positive:,} of them positive: a comparison needs rows of both classes, pass runs "
            "on more rows"
        )
    models = [first, second]
    resampling = Resampling(is_positive, models, row_weight, cluster)
    replicates = np.empty((n_replicates, 2, len(COMPARED)))
    for index, values in enumerate(resampling.replicates(n_replicates, seed)):
        replicates[index] = values
        on_replicate()
    tail = (1 - level) / 2
    low, high = np.nanquantile(replicates[:, 1] - replicates[:, 0], [tail, 1 - tail], axis=0)
    exact = [measure(label, logits, weight).model_dump() for logits in (first, second)]
    return {
        name: Difference(
            first=exact[0][name],
            second=exact[1][name],
            difference=exact[1][name] - exact[0][name],
            low=float(low[index]),
            high=float(high[index]),
        )
        for index, name in enumerate(COMPARED)
    }
