"""By how much a calibration lowers a loss, with an interval that holds clusters of rows."""

from typing import Literal

import numpy as np

from recsys.config import StrictModel
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.metrics import MetricName, log_loss_terms

CalibrationLoss = Literal["logloss", "wll"]
Z = 1.96
"""Standard errors on either side of a 95 % interval."""


class CalibrationGain(StrictModel):
    """The loss of raw predictions minus that of calibrated ones."""

    loss: CalibrationLoss
    value: float
    standard_error: float
    n_clusters: int
    by: Literal["row", "user"] | None = None
    """What a cluster is; None in files of earlier versions."""

    @property
    def low(self) -> float:
        """The lower bound of the 95 % interval."""
        return self.value - Z * self.standard_error

    @property
    def high(self) -> float:
        """The upper bound of the 95 % interval."""
        return self.value + Z * self.standard_error


def loss_of(metric: MetricName) -> CalibrationLoss:
    """The loss that calibrations are chosen by where runs are chosen by a metric: WLL if it is the metric or a part."""
    return "wll" if metric in ("wll", "toss_score") else "logloss"


def calibration_gain(rows: HeldOutRows, calibrated_NS: np.ndarray, loss: CalibrationLoss) -> CalibrationGain:
    """The gain of calibrated logits over the raw ones, both as means over seeds, with its standard error.

    The loss is a mean over rows, or of two means with WLL. Its variance is that of the sum over clusters of
    w_i (d_i - mean) / sum w, with d_i the difference of row i, times C / (C - 1) for C clusters (Liang and Zeger,
    "Longitudinal data analysis using generalized linear models", Biometrika 1986). Rows of weight zero do not count.

    Args:
        rows: the rows and their raw logits; users are the clusters where rows have them, else each row is one.
        calibrated_NS: [N, S] calibrated natural logits.
        loss: the log loss, or WLL.
    """
    raw, calibrated = rows.reported(rows.raw_by_seed), rows.reported(calibrated_NS)
    if loss == "logloss":
        gain_N = log_loss_terms(rows.label, raw.natural) - log_loss_terms(rows.label, calibrated.natural)
        weight, means = rows.weight_in_full_log, [(np.ones(len(gain_N), bool), 1.0)]
    else:
        gain_N = log_loss_terms(rows.label, raw.balanced) - log_loss_terms(rows.label, calibrated.balanced)
        weight, means = rows.weight, [(rows.label == 0, 0.5), (rows.label == 1, 0.5)]
    weight_N = np.ones(len(gain_N)) if weight is None else weight.astype(np.float64)
    value, influence_N = 0.0, np.zeros(len(gain_N))
    for members, share in means:
        total = weight_N[members].sum()
        mean = float(weight_N[members] @ gain_N[members] / total)
        value += share * mean
        influence_N[members] = share * weight_N[members] * (gain_N[members] - mean) / total
    clusters = rows.clusters
    counted = np.unique(clusters[weight_N > 0])
    sums = np.bincount(clusters, weights=influence_N)
    n_clusters = len(counted)
    variance = np.inf if n_clusters < 2 else float(sums @ sums) * n_clusters / (n_clusters - 1)
    return CalibrationGain(
        loss=loss,
        value=value,
        standard_error=float(np.sqrt(variance)),
        n_clusters=n_clusters,
        by="row" if rows.user is None else "user",
    )
