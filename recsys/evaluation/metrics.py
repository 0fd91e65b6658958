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

MetricName = Literal["logloss", "ne", "roc_auc", "gauc", "ap", "ece", "wll", "pr_auc", "toss_score"]
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
"""In the column order of every table."""
DEFINED_FOR_ONE_CLASS: frozenset[str] = frozenset({"logloss", "ece"})
"""All other metrics need rows of both classes."""
NEEDS_USERS: frozenset[str] = frozenset({"gauc"})
"""Metrics of the rows of single users, at least one of whom needs rows of both classes."""
LOWER_IS_BETTER: frozenset[str] = frozenset({"wll", "logloss", "ne", "ece"})


class Metrics(BaseModel):
    """Metrics of a set of rows; None if undefined (no rows, or rows of one class).

    If rows have weights, a row of weight w counts as w rows in every metric; the two counts are still those of rows.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    n_rows: int
    n_positive: int
    n_effective: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Effective sample size, (sum w)^2 / sum w^2; None if rows have no weights."""
    ap: float | None = None
    wll: float | None = None
    roc_auc: float | None = None
    gauc: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Also None if no users are known, or no user has rows of both classes."""
    pr_auc: float | None = None
    logloss: float | None = None
    ne: float | None = None
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


def measure(
    label: np.ndarray, logits: Logits, weight: np.ndarray | None = None, user: np.ndarray | None = None
) -> Metrics:
    """Computes all metrics of a set of rows.

    If negatives were sampled at one rate before the log came, p is that of the full log and so are log loss and ECE,
    with weights of negatives; AP and PR-AUC depend on the share of positives, and are those of the sample.

    Args:
        label: [n] 0 / 1.
        logits: predictions of the same rows.
        weight: [n] weights of the rows; None if they have none.
        user: [n] integers, -1 for a row without a user, for GAUC; None if users are unknown.
    """
    label, natural = label.astype(np.int8), logits.natural
    n_positive = int(label.sum())
    counts: dict[str, Any] = {"n_rows": len(label), "n_positive": n_positive}
    counted = label
    if weight is not None:
        weight = weight.astype(np.float64)
        counts["n_effective"], counted = effective_size(weight), label[weight > 0]
    if len(counted) == 0:
        return Metrics(**counts)
    full_weight = logits.weight_in_full_log(label, weight)
    logloss = float(np.average(log_loss_terms(label, natural), weights=full_weight))
    ece = expected_calibration_error(label, logits.p, weight=full_weight)
    if int(counted.sum()) in (0, len(counted)):
        return Metrics(**counts, logloss=logloss, ece=ece)
    ap = float(average_precision_score(label, natural, sample_weight=weight))
    precision, recall, _ = precision_recall_curve(label, natural, sample_weight=weight)
    wll = weighted_log_loss(label, logits.balanced, weight)
    return Metrics(
        **counts,
        ap=ap,
        wll=wll,
        roc_auc=float(roc_auc_score(label, natural, sample_weight=weight)),
        gauc=None if user is None else grouped_auc(label, natural, user, weight),
        pr_auc=float(auc(recall, precision)),
        logloss=logloss,
        ne=normalized_entropy(logloss, float(np.average(label, weights=full_weight))),
        ece=ece,
        toss_score=toss_score(ap, wll),
    )


def grouped_auc(
    label: np.ndarray, score: np.ndarray, user: np.ndarray, weight: np.ndarray | None = None
) -> float | None:
    """GAUC: the mean over users of the ROC-AUC of their rows, weighted by the number of rows; see `user_aucs`.

    None if no user has rows of both classes.

    Source: Zhu et al., "Optimized cost per click in Taobao display advertising", KDD 2017, section 4.1; weighted by
    impressions as in FuxiCTR's `gAUC`.
    """
    _, auc_of_user, weight_of_user = user_aucs(label, score, user, weight)
    return float(np.average(auc_of_user, weights=weight_of_user)) if len(auc_of_user) else None


def user_aucs(
    label: np.ndarray, score: np.ndarray, user: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the ROC-AUC of the rows of each user who has rows of both classes. A row of weight w counts as w rows.

    Args:
        label: [n] 0 / 1.
        score: [n] scores.
        user: [n] integers; -1 for a row without a user.
        weight: [n] weights of the rows; None if they have none.

    Returns:
        The [U] users, their [U] ROC-AUCs and their [U] sums of weights.
    """
    counted = user >= 0 if weight is None else (user >= 0) & (weight > 0)
    if not counted.any():
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    label, score, user = label[counted], score[counted], user[counted]
    weight = np.ones(len(label)) if weight is None else weight[counted].astype(np.float64)
    order = np.lexsort((score, user))
    label, score, user, weight = label[order], score[order], user[order], weight[order]
    is_new_user = np.concatenate([[True], user[1:] != user[:-1]])
    is_new_tie = is_new_user | np.concatenate([[True], score[1:] != score[:-1]])
    tie_starts, user_starts = np.flatnonzero(is_new_tie), np.flatnonzero(is_new_user)
    user_of_tie = np.cumsum(is_new_user)[tie_starts] - 1
    positive = np.add.reduceat(weight * (label == 1), tie_starts)
    negative = np.add.reduceat(weight * (label != 1), tie_starts)
    n_users = len(user_starts)
    positives, negatives = (np.bincount(user_of_tie, values, n_users) for values in (positive, negative))
    below = np.cumsum(negative) - negative - (np.cumsum(negatives) - negatives)[user_of_tie]
    ordered_pairs = np.bincount(user_of_tie, positive * (below + negative / 2), n_users)
    has_both = (positives > 0) & (negatives > 0)
    auc_of_user = ordered_pairs[has_both] / (positives * negatives)[has_both]
    return user[user_starts][has_both], auc_of_user, (positives + negatives)[has_both]


def normalized_entropy(logloss: float, rate: float) -> float:
    """NE: the log loss over that of the rows' average click rate, which must lie between 0 and 1.

    Source: He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014, section 3.
    """
    return logloss / -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))


def effective_size(weight: np.ndarray) -> float:
    """Kish's effective sample size of [n] weights, (sum w)^2 / sum w^2; 0 if all weights are 0."""
    squares = float(np.sum(np.square(weight, dtype=np.float64)))
    return float(weight.sum(dtype=np.float64)) ** 2 / squares if squares else 0.0


def toss_score(ap: float, wll: float) -> float:
    """AP / 2 + 1 / (2 (1 + WLL))."""
    return 0.5 * ap + 0.5 / (1.0 + wll)


def weighted_log_loss(label: np.ndarray, logit: np.ndarray, weight: np.ndarray | None = None) -> float:
    """WLL: the mean log loss of each class, averaged over the two classes with equal weight.

    Args:
        label: [n] 0 / 1.
        logit: [n] balanced logits.
        weight: [n] weights of the rows in the means; None if they have none.
    """
    terms = log_loss_terms(label, logit)
    classes = (label == 1, label == 0)
    positive, negative = (np.average(terms[c], weights=None if weight is None else weight[c]) for c in classes)
    return float(0.5 * positive + 0.5 * negative)


def log_loss_terms(label: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """[n] -ln of the predicted probability of the label, from the logit: ln(1 + exp(-+logit))."""
    return np.logaddexp(0.0, np.where(label == 1, -1.0, 1.0) * logit.astype(np.float64))


def expected_calibration_error(
    label: np.ndarray, p: np.ndarray, n_bins: int = N_ECE_BINS, weight: np.ndarray | None = None
) -> float:
    """Expected calibration error: mean |predicted - observed rate| over bins of equal numbers of rows.

    Rows of equal p share a bin, so the row order has no effect. Source: Nguyen and O'Connor, "Posterior
    calibration and exploratory analysis for NLP models", EMNLP 2015 (adaptive binning).

    Args:
        label: [n] 0 / 1.
        p: [n] probabilities.
        n_bins: number of bins, of about n / n_bins rows each.
        weight: [n] weights of the rows; the bins then have equal sums of weights. None if they have none.
    """
    order = np.argsort(p, kind="stable")
    sorted_p, gaps = p[order], p[order] - label[order]
    if weight is None:
        total, edges = float(len(p)), sorted_p[np.linspace(0, len(p), n_bins + 1)[1:-1].astype(np.int64)]
    else:
        cumulative = np.cumsum(weight[order], dtype=np.float64)
        total, gaps = float(cumulative[-1]), gaps * weight[order]
        edges = sorted_p[np.searchsorted(cumulative, np.linspace(0, total, n_bins + 1)[1:-1], side="right")]
    bins = np.searchsorted(np.unique(edges), sorted_p, side="right")
    return float(np.abs(np.bincount(bins, weights=gaps)).sum() / total)
