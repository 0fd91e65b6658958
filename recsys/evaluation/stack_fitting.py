"""Fits stacks: the weights of an ensemble, on rows that no member was fitted on.

Shapes: N rows of a data set, M models of an ensemble (its members).
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from recsys.errors import InputError
from recsys.evaluation.greedy_selection import select_greedily
from recsys.evaluation.logits import log_pos_weight_of
from recsys.evaluation.metrics import MetricName, weighted_log_loss
from recsys.evaluation.stacking import Stack, StackMethod

_N_RANKS = 1001
_LARGEST_RANK_LOGIT = 14.0


def fit_stack(
    method: StackMethod,
    members: Sequence[str],
    logit_NM: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray | None = None,
    metric: MetricName = "wll",
) -> Stack:
    """Fits an ensemble to rows that no member was fitted on.

    logit_mean: equal weights, nothing is fitted. weights: the non-negative weights that sum to one and minimize WLL.
    greedy: weights that sum to one and are chosen step by step for the best metric: see `greedy_selection`.
    logistic: class-balanced logistic regression. rank_mean: the mean of the members' ranks, which depends only on the
    members' order of rows, converted to a probability by logistic regression on its logit.

    Args:
        method: the ensemble method.
        members: M names.
        logit_NM: [N, M] natural logits of the members.
        label: [N] 0 / 1.
        weight: [N] weights of the rows, of any mean; None if they have none. Ranks are those among all rows.
        metric: what greedy chooses by.

    Raises:
        InputError: if the rows have one class, except for logit_mean.
    """
    if weight is not None:
        is_counted = weight > 0
        logit_NM, label, weight = logit_NM[is_counted], label[is_counted], weight[is_counted]
    if method != "logit_mean" and int(label.sum()) in (0, len(label)):
        raise InputError(
            f"the stack {method} is fitted to {len(label):,} rows, {int(label.sum()):,} of them positive: it needs "
            "rows of both classes"
        )
    names, n_members = tuple(members), logit_NM.shape[1]
    match method:
        case "logit_mean":
            return Stack(method=method, members=names, weights=(1 / n_members,) * n_members)
        case "weights":
            return Stack(method=method, members=names, weights=_simplex_weights(logit_NM, label, weight))
        case "greedy":
            return Stack(method=method, members=names, weights=select_greedily(logit_NM, label, metric, weight))
        case "logistic":
            weights, bias = _logistic(logit_NM, label, weight)
            return Stack(method=method, members=names, weights=weights, bias=bias)
        case "rank_mean":
            rank_logits = np.linspace(-_LARGEST_RANK_LOGIT, _LARGEST_RANK_LOGIT, _N_RANKS)
            quantiles = np.quantile(logit_NM, expit(rank_logits), axis=0)
            unscaled = Stack(
                method=method,
                members=names,
                weights=(1.0,),
                rank_logits=tuple(rank_logits.tolist()),
                quantiles=tuple(tuple(column) for column in quantiles.T.tolist()),
            )
            weights, bias = _logistic(unscaled.natural_logit(logit_NM)[:, None], label, weight)
            return unscaled.model_copy(update={"weights": weights, "bias": bias})


def _logistic(input_NM: np.ndarray, label: np.ndarray, weight: np.ndarray | None) -> tuple[tuple[float, ...], float]:
    """Weights and bias of a class-balanced logistic regression; the bias is shifted back to the natural scale."""
    scale, log_pos_weight = input_NM.std(axis=0) + 1e-12, log_pos_weight_of(label, weight)
    model = LogisticRegression(class_weight="balanced" if weight is None else None, max_iter=1000)
    if weight is not None:  # "balanced" would count rows
        for positive in (0, 1):
            weight = np.where(label == positive, weight / weight[label == positive].sum() * len(label) / 2, weight)
    model.fit(input_NM / scale, label, weight)
    return tuple((model.coef_[0] / scale).tolist()), float(model.intercept_[0]) - log_pos_weight


def _simplex_weights(logit_NM: np.ndarray, label: np.ndarray, weight: np.ndarray | None) -> tuple[float, ...]:
    """[M] weights that minimize the WLL of the weighted mean of balanced logits, a convex problem."""
    is_positive = label == 1
    balanced_NM = logit_NM + log_pos_weight_of(label, weight)
    counts_N = np.ones(len(label), np.int64) if weight is None else weight
    positive_share, negative_share = 0.5 / counts_N[is_positive].sum(), 0.5 / counts_N[~is_positive].sum()
    row_weight_N = np.where(is_positive, positive_share, negative_share) * counts_N

    def wll(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logit_N = balanced_NM @ weights
        return weighted_log_loss(label, logit_N, weight), (row_weight_N * (expit(logit_N) - is_positive)) @ balanced_NM

    n_members = logit_NM.shape[1]
    optimum = minimize(
        wll,
        np.full(n_members, 1 / n_members),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-10, "maxiter": 200},
    )
    weights = np.clip(optimum.x, 0.0, None)
    return tuple((weights / weights.sum()).tolist())
