"""Stacking: one probability from those of several models.

Members enter by the logits of their natural probabilities p, whatever loss trained them, so that a gradient-boosted
tree and a transformer are members alike.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from recsys.config import StrictModel
from recsys.evaluation.cross_fitting import Score, cross_fit
from recsys.evaluation.logits import log_pos_weight_of, logit_of
from recsys.evaluation.metrics import weighted_log_loss

StackMethod = Literal["logit_mean", "rank_mean", "weights", "logistic"]
STACK_METHODS: tuple[StackMethod, ...] = get_args(StackMethod)
_N_RANKS = 1001
_LARGEST_RANK_LOGIT = 14.0


class Stack(StrictModel):
    """A fitted ensemble: bias + sum_m weight_m x_m, small enough to read.

    x_m is a member's natural logit; for rank_mean there is one x, the logit of the members' mean rank.
    """

    method: StackMethod
    members: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float = 0.0
    rank_logits: tuple[float, ...] = ()
    """Of rank_mean: logits of the ranks at which the members' quantiles stand."""
    quantiles: tuple[tuple[float, ...], ...] = ()
    """Of rank_mean: each member's natural logits at those ranks."""

    def natural_logit(self, logit_NM: np.ndarray) -> np.ndarray:
        """[n, M] natural logits of the members, in their order, to [n] natural logits of the ensemble."""
        inputs = self._mean_rank_logit(logit_NM)[:, None] if self.method == "rank_mean" else logit_NM
        # term by term: what a row gets then hangs on no other row, as it may in a matrix product
        return sum((w * x for w, x in zip(self.weights, inputs.T, strict=True)), start=np.full(len(inputs), self.bias))

    def _mean_rank_logit(self, logit_NM: np.ndarray) -> np.ndarray:
        ranks = [
            expit(np.interp(column, quantiles, self.rank_logits))
            for column, quantiles in zip(logit_NM.T, self.quantiles, strict=True)
        ]
        return logit_of(np.mean(ranks, axis=0))


def fit_stack(method: StackMethod, members: Sequence[str], logit_NM: np.ndarray, label: np.ndarray) -> Stack:
    """Fits an ensemble to rows that no member was fitted on.

    logit_mean: equal weights, nothing is fitted. weights: weights of at least zero that sum to one, where WLL is
    lowest. logistic: logistic regression, classes balanced. rank_mean: the mean of the members' ranks, which only their
    order decides, brought to a probability by a logistic regression of its logit.

    Args:
        method: which.
        members: M names.
        logit_NM: [n, M] their natural logits.
        label: [n] 0 / 1; both must be there, but for logit_mean.
    """
    names, n_members = tuple(members), logit_NM.shape[1]
    match method:
        case "logit_mean":
            return Stack(method=method, members=names, weights=(1 / n_members,) * n_members)
        case "weights":
            return Stack(method=method, members=names, weights=_simplex_weights(logit_NM, label))
        case "logistic":
            weights, bias = _logistic(logit_NM, label)
            return Stack(method=method, members=names, weights=weights, bias=bias)
        case "rank_mean":
            levels = np.linspace(-_LARGEST_RANK_LOGIT, _LARGEST_RANK_LOGIT, _N_RANKS)
            quantiles = np.quantile(logit_NM, expit(levels), axis=0)
            unscaled = Stack(
                method=method,
                members=names,
                weights=(1.0,),
                rank_logits=tuple(levels.tolist()),
                quantiles=tuple(tuple(column) for column in quantiles.T.tolist()),
            )
            weights, bias = _logistic(unscaled.natural_logit(logit_NM)[:, None], label)
            return unscaled.model_copy(update={"weights": weights, "bias": bias})


def cross_fit_stack(
    method: StackMethod, members: Sequence[str], logit_NM: np.ndarray, label: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """[n] natural logits of an ensemble, each row's from a stack fitted to the other folds.

    Args:
        method: how members are joined.
        members: M names.
        logit_NM: [n, M] their natural logits.
        label: [n] 0 / 1.
        fold: [n] names of the folds.
    """

    def fit(rows: np.ndarray) -> Score:
        stack = fit_stack(method, members, logit_NM[rows], label[rows])
        return lambda held_out: stack.natural_logit(logit_NM[held_out])

    return cross_fit(fold, fit)


def _logistic(input_NM: np.ndarray, label: np.ndarray) -> tuple[tuple[float, ...], float]:
    """Weights and the bias of natural logits, by a regression of balanced classes."""
    scale = input_NM.std(axis=0) + 1e-12
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(input_NM / scale, label)
    return tuple((model.coef_[0] / scale).tolist()), float(model.intercept_[0]) - log_pos_weight_of(label)


def _simplex_weights(logit_NM: np.ndarray, label: np.ndarray) -> tuple[float, ...]:
    """[M] where the WLL of the weighted mean of balanced logits is lowest; it is convex in them."""
    is_positive = label == 1
    balanced_NM = logit_NM + log_pos_weight_of(label)
    share = np.where(is_positive, 0.5 / is_positive.sum(), 0.5 / (~is_positive).sum())

    def wll(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = balanced_NM @ weights
        return weighted_log_loss(label, z), (share * (expit(z) - is_positive)) @ balanced_NM

    n_members = logit_NM.shape[1]
    found = minimize(
        wll,
        np.full(n_members, 1 / n_members),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-10, "maxiter": 200},
    )
    weights = np.clip(found.x, 0.0, None)
    return tuple((weights / weights.sum()).tolist())
