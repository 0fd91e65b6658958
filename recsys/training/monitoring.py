"""Measures the clicks of the monitored rows after each epoch."""

from collections.abc import Callable, Mapping

import numpy as np

from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.defaults import share_prior
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.own_metrics import measure_own
from recsys.nn.linear_part import LinearPart
from recsys.training.config import EarlyStopping
from recsys.training.early_stopping import composite
from recsys.training.linear_part import Mixture
from recsys.training.log import Log
from recsys.training.predict import evaluate
from recsys.training.state import Epoch


class ClickMonitor:
    """Computes the composite metric of early stopping, and may choose the share of a linear part.

    Args:
        split: encodes rows.
        rows: the monitored rows.
        stopping: the composite metric.
        link: of the model's logits.
        log: receives the metrics.
    """

    def __init__(self, split: Split, rows: Rows, stopping: EarlyStopping, link: LogitLink, log: Log) -> None:
        self.rows = rows
        self._split, self._stopping, self._link, self._log = split, stopping, link, log
        numbers = rows.numbers()
        self._label, self._weight = split.store.labels(numbers), split.store.weights(numbers)
        self._mixture: Mixture | None = None

    def choose_share_of(self, part: LinearPart) -> None:
        """Chooses the share of a linear part from now on."""
        self._mixture = Mixture(part, self._link, share_prior(self._split.size("cpu")))

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
        metrics, weights = evaluate(logits, self._split, self.rows, self._link), self._stopping.weights
        own = measure_own(weights, self._label, self._link.logits(logits), self._weight)
        epoch.monitored = composite(metrics, weights, own)
        self._log.curves("monitor/pr", self._label, self._link.logits(logits).natural, step)
        return metrics.defined()
