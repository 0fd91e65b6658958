"""Measures the clicks of the monitored rows after each epoch."""

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.own_metrics import measure_own
from recsys.nn.linear_part import linear_part_of
from recsys.training.config import EarlyStopping
from recsys.training.early_stopping import composite
from recsys.training.linear_part import Mixture, fit_linear_part
from recsys.training.log import Log
from recsys.training.predict import evaluate
from recsys.training.state import Epoch


class ClickMonitor:
    """Computes the composite metric of early stopping; chooses the share of the model's linear part, if it has one.

    Args:
        split: encodes rows.
        rows: the monitored rows.
        stopping: the composite metric.
        link: of the model's logits.
        log: receives the metrics.
    """

    def __init__(self, split: Split, rows: Rows, stopping: EarlyStopping, link: LogitLink, log: Log) -> None:
        self._split, self._rows, self._stopping, self._link, self._log = split, rows, stopping, link, log
        numbers = rows.numbers()
        self._label, self._weight = split.store.labels(numbers), split.store.weights(numbers)
        self._mixture: Mixture | None = None

    def fit_linear_part(self, model: nn.Module, rows: Rows, seed: int) -> None:
        """Fits the linear part of a model to its training rows; the focal loss has none."""
        part = linear_part_of(model)
        if part is not None and not self._link.focal_gamma:
            fit_linear_part(part, self._split, rows, self._link, seed)
            self._mixture = Mixture(part, self._link)

    def measure(self, predict: Callable[[], np.ndarray], epoch: Epoch, step: int) -> Mapping[str, float]:
        """Returns the metrics of the monitored rows; stores their composite in the epoch.

        Args:
            predict: computes the rows' [n] logits by the current model.
            epoch: the finished epoch.
            step: its last step.
        """
        if self._mixture is None:
            logits = predict()
        else:
            logits, epoch.linear_share = self._mixture.choose(predict, self._label, self._weight)
        metrics, weights = evaluate(logits, self._split, self._rows, self._link), self._stopping.weights
        own = measure_own(weights, self._label, self._link.logits(logits), self._weight)
        epoch.monitored = composite(metrics, weights, own)
        self._log.curves("monitor/pr", self._label, self._link.logits(logits).natural, step)
        return metrics.defined()
