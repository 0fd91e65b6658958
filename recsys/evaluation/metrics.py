"""Exact ranking and calibration metrics of binary predictions.

toss_score = AP / 2 + 1 / (2 (1 + WLL)), the score of the Toss competition. Ranking metrics and the log
loss use the logits of the natural probability p; WLL uses those of the class-balanced posterior q (see
`recsys.evaluation.logits`).
"""

import math
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from recsys.config import warn_of_new_name
from recsys.evaluation.logits import Logits

N_ECE_BINS = 20

MetricName = Literal["logloss", "roc_auc", "ap", "ece", "wll", "pr_auc", "toss_score"]
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
"""In the column order of every table."""
DEFINED_FOR_ONE_CLASS: frozenset[str] = frozenset({"logloss", "ece"})
"""All other metrics need rows of both classes."""
LOWER_IS_BETTER: frozenset[str] = frozenset({"wll", "logloss", "ece"})


class Metrics(BaseModel):
    """Metrics of a set of rows; None if undefined (no rows, or rows of one class)."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    n_rows: int
    n_positive: int
    ap: float | None = None
    wll: float | None = None
    roc_auc: float | None = None
    pr_auc: float | None = None
    logloss: float | None = None
    ece: float | None = None
    toss_score: float | None = Field(default=None, validation_alias="score")  # its name in earlier versions

    def value(self, name: MetricName) -> float | None:
        """One metric by its name."""
        value: float | None = getattr(self, name)
        return value

    def signed(self, name: MetricName) -> float:
        """A metric with the sign that makes higher better; -inf if it is undefined."""
        value = self.value(name)
        if value is None:
            return -math.inf
        return -value if name in LOWER_IS_BETTER else value

    def defined(self) -> dict[str, float]:
        """The metrics that are defined, by name."""
        return {name: value for name in METRIC_NAMES if (value := self.value(name)) is not None}


def metric_name(name: Any) -> Any:
    """Translates `score`, the name of `toss_score` in configs of earlier versions; returns other names unchanged."""
    if name == "score":
        warn_of_new_name("score", "toss_score")
        return "toss_score"
    return name


def measure(label: np.ndarray, logits: Logits) -> Metrics:
    """Computes all metrics of a set of rows.

    Args:
        label: [n] 0 / 1.
        logits: predictions of the same rows.
    """
    label, natural = label.astype(np.int8), logits.natural
    n_positive = int(label.sum())
    counts = {"n_rows": len(label), "n_positive": n_positive}
    if len(label) == 0:
        return Metrics(**counts)
    logloss = float(np.mean(log_loss_terms(label, natural)))
    ece = expected_calibration_error(label, logits.p)
    if n_positive in (0, len(label)):
        return Metrics(**counts, logloss=logloss, ece=ece)
    ap = float(average_precision_score(label, natural))
    precision, recall, _ = precision_recall_curve(label, natural)
    wll = weighted_log_loss(label, logits.balanced)
    return Metrics(
        **counts,
        ap=ap,
        wll=wll,
        roc_auc=float(roc_auc_score(label, natural)),
        pr_auc=float(auc(recall, precision)),
        logloss=logloss,
        ece=ece,
        toss_score=toss_score(ap, wll),
    )


def toss_score(ap: float, wll: float) -> float:
    """AP / 2 + 1 / (2 (1 + WLL))."""
    return 0.5 * ap + 0.5 / (1.0 + wll)


def weighted_log_loss(label: np.ndarray, logit: np.ndarray) -> float:
    """WLL: the mean log loss of each class, averaged over the two classes with equal weight."""
    terms = log_loss_terms(label, logit)
    return float(0.5 * terms[label == 1].mean() + 0.5 * terms[label == 0].mean())


def log_loss_terms(label: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """[n] -ln of the predicted probability of the label, from the logit: ln(1 + exp(-+logit))."""
    return np.logaddexp(0.0, np.where(label == 1, -1.0, 1.0) * logit.astype(np.float64))


def expected_calibration_error(label: np.ndarray, p: np.ndarray, n_bins: int = N_ECE_BINS) -> float:
    """Expected calibration error: mean |predicted - observed rate| over bins of equal numbers of rows.

    Rows of equal p share a bin, so the row order has no effect. Source: Nguyen and O'Connor, "Posterior
    calibration and exploratory analysis for NLP models", EMNLP 2015 (adaptive binning).

    Args:
        label: [n] 0 / 1.
        p: [n] probabilities.
        n_bins: number of bins, of about n / n_bins rows each.
    """
    order = np.argsort(p, kind="stable")
    sorted_p = p[order]
    edges = sorted_p[np.linspace(0, len(p), n_bins + 1)[1:-1].astype(np.int64)]
    bins = np.searchsorted(np.unique(edges), sorted_p, side="right")
    gap = np.bincount(bins, weights=sorted_p - label[order])
    return float(np.abs(gap).sum() / len(p))
