"""Fits the linear part of a model: a logistic regression with random effects.

Each feature's ids have weights from a normal distribution of its own, whose standard deviation is estimated with them:
a feature of which each id says much is hardly shrunk, one that says nothing is shrunk to nothing. One penalty for all
features is far worse on some data sets, and none is best on all of them (docs/defaults.md).

Shapes: n rows, F categorical features, N dense columns, K columns of the regression, G groups of columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from recsys.data.batch import Batch
from recsys.data.rows import JoinedRows, ListedRows, Permutation, PermutedSlice, Rows
from recsys.data.split import Split
from recsys.defaults import SharePrior
from recsys.distributed.sharding import fill_table
from recsys.evaluation.logits import LogitLink
from recsys.nn.embeddings import module_name
from recsys.nn.linear_part import LinearPart
from recsys.nn.vectors import groups_of_numbers

MAX_ROWS = 100_000
"""Fitting rows, chosen at random, which take seconds."""
_MAX_ROUNDS, _TOLERANCE = 12, 0.02
"""Estimates of the standard deviations; they end when none changes by more than this share."""
_PRIOR_STD, _PRIOR_COUNT = 0.3, 2.0
"""Prior of each standard deviation, and for how many weights it counts: few ids tell little of their own."""
_MIN_STD = 1e-3
STD_FACTOR = 1.4
"""The estimates are too low for labels of 0 and 1 and ids with few rows, by Laplace's approximation (Breslow and Lin,
Biometrika 82, 1995) and by taking weights as independent. Log losses were lower with 1.4 than with 1 and 2 on each of
seven sets of 2,000 to 10,000 rows (docs/defaults.md)."""
_SHARES = np.linspace(0, 1, 21)
_MAX_ITERATIONS, _LOSS_TOLERANCE = 100, 1e-6


@dataclass(frozen=True)
class Inputs:
    """The inputs of a regression: K = U + N columns."""

    one_hot: sparse.csr_matrix
    """[n, U] ids as zeros and ones."""
    dense: np.ndarray
    """[n, N] float32."""

    def logits(self, weights: np.ndarray) -> np.ndarray:
        """[n] products with [K] weights."""
        n_ids = self.one_hot.shape[1]
        return self.one_hot @ weights[:n_ids] + self.dense @ weights[n_ids:].astype(np.float32)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """[K] sums of the columns, with [n] values as factors of the rows."""
        return np.concatenate([self.one_hot.T @ values, self.dense.T @ values.astype(np.float32)])

    def square_sums(self, values: np.ndarray) -> np.ndarray:
        """[K] sums of the squares of the columns, with [n] values as factors of the rows."""
        return np.concatenate(
            [self.one_hot.T @ values, np.einsum("nk,nk,n->k", self.dense, self.dense, values.astype(np.float32))]
        )


@dataclass(frozen=True)
class RandomEffects:
    """A fitted logistic regression with random effects."""

    weights: np.ndarray
    """[K] float64."""
    bias: float
    std: np.ndarray
    """[G] estimated standard deviations of the groups' weights; penalties take `STD_FACTOR` times as much."""


def fit_linear_part(part: LinearPart, split: Split, rows: Rows, link: LogitLink, seed: int) -> None:
    """Fits the linear part of a model with sharded tables to training rows, in place.

    Args:
        part: of a model for the split's features.
        split: encodes rows.
        rows: training rows; some of them if there are more than `MAX_ROWS`.
        link: of the model's logits, whose scale the regression gets.
        seed: chooses the rows.
    """
    numbers = PermutedSlice(rows, Permutation(len(rows), seed), 0, min(MAX_ROWS, len(rows))).numbers()
    vocabularies = [name for name, columns in split.schema.vocabularies.items() if set(columns) & {*part.ids.features}]
    starts = np.cumsum([0, *(split.schema.num_embeddings[name] for name in vocabularies)])
    first = dict(zip(vocabularies, starts, strict=False))
    first_of = {column: first[name] for name in vocabularies for column in split.schema.vocabularies[name]}
    first_F = np.array([first_of[name] for name in part.ids.features], dtype=np.int64)
    batches = [split.batch(block, ()) for block in ListedRows(numbers).blocks()]
    position_NF = np.concatenate([_ids(batch, part.ids.features) + first_F for batch in batches])
    dense_NN = np.concatenate([batch.dense.numpy() for batch in batches])
    used, column = np.unique(position_NF, return_inverse=True)
    n_rows, n_features = position_NF.shape
    row_starts = np.arange(n_rows + 1) * n_features
    one_hot = sparse.csr_matrix((np.ones(column.size), column.ravel(), row_starts), (n_rows, len(used)))
    group_of_id = np.searchsorted(starts, used, side="right") - 1
    group = np.concatenate([group_of_id, len(vocabularies) + groups_of_numbers(split.schema)])
    label, row_weight = split.store.labels(numbers).astype(np.float64), split.training_weights(numbers)
    fit = fit_random_effects(Inputs(one_hot, dense_NN), group, label, row_weight)
    weights = np.zeros(starts[-1], np.float32)
    weights[used] = fit.weights[: len(used)]
    tables = part.ids.state_dict()
    for number, name in enumerate(vocabularies):
        (table,) = (table for key, table in tables.items() if key.endswith(f".{module_name(name)}.weight"))
        fill_table(table, torch.from_numpy(weights[starts[number] : starts[number + 1]]))
    part.dense_weights.copy_(torch.from_numpy(fit.weights[len(used) :]))
    part.bias.fill_(fit.bias + np.log(link.trained_weight))


def refit_linear_part(
    part: LinearPart | None, split: Split, rows: Rows, monitored: Rows | None, link: LogitLink, seed: int
) -> bool:
    """Fits a linear part with a share of the logit to the monitored rows as well, after they have chosen the share.

    Returns:
        Whether that was done: not if as many rows as a fit takes were there before.
    """
    if part is None or not part.share or monitored is None or len(rows) >= MAX_ROWS:
        return False
    fit_linear_part(part, split, JoinedRows([rows, monitored]), link, seed)
    return True


class Mixture:
    """Chooses the share of the linear part of a model.

    The share is that at which the log loss of the monitored rows is lowest, with a normal prior: a few clicks choose
    little. The metric that stops the training may be rougher, such as AP.

    Args:
        part: fitted.
        link: of the model's logits.
        prior: of the share.
    """

    def __init__(self, part: LinearPart, link: LogitLink, prior: SharePrior) -> None:
        self._part, self._link = part, link
        self._penalties = ((_SHARES - prior.mean) / prior.std) ** 2 / 2
        self._linear: np.ndarray | None = None

    def choose(
        self, predict: Callable[[], np.ndarray], label: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, float]:
        """Sets the share for the current network; returns the [n] logits of the monitored rows, and the share.

        Args:
            predict: computes the [n] logits of these rows with the share that is set.
            label: [n] labels.
            weight: [n] weights; None for ones.
        """
        if self._linear is None:
            self._linear = self._logits(1.0, predict)
        network = self._logits(0.0, predict)
        weight = np.ones(len(label)) if weight is None else weight / weight.mean()
        losses = []
        for candidate in _SHARES:
            in_log = network + candidate * (self._linear - network) - np.log(self._link.trained_weight)
            losses.append(weight @ (np.logaddexp(0, in_log) - label * in_log))
        best = float(_SHARES[np.argmin(losses + self._penalties)])
        self._part.share.fill_(best)
        return (network + best * (self._linear - network)).astype(np.float32), best

    def _logits(self, share: float, predict: Callable[[], np.ndarray]) -> np.ndarray:
        self._part.share.fill_(share)
        return predict()


def _ids(batch: Batch, features: Sequence[str]) -> np.ndarray:
    """[B, F] ids of categorical features."""
    ids = [batch.sparse[name].values().numpy() for name in features]
    return np.stack(ids, axis=1) if ids else np.zeros((len(batch), 0), np.int64)


def fit_random_effects(
    inputs: Inputs, group: np.ndarray, label: np.ndarray, row_weight: np.ndarray | None = None
) -> RandomEffects:
    """Fits the weights, and the standard deviation of each group's weights, by turns.

    The standard deviation s of a group is that at which the marginal likelihood is highest, given Laplace's
    approximation with independent weights: s^2 = sum of w^2 / sum of (1 - v / s^2), where v is a weight's variance.
    Source: MacKay, "Bayesian interpolation", Neural Computation 4, 1992, equation 4.8 (alpha = gamma / 2 E_W), by
    group as in Tipping, "Sparse Bayesian learning", JMLR 1, 2001, equation 16.

    Args:
        inputs: of n rows, with K columns.
        group: [K] group of each column, from 0.
        label: [n] 0 / 1.
        row_weight: [n] weights of rows; None for ones.
    """
    n_groups = int(group.max(initial=-1)) + 1
    std = np.full(n_groups, _PRIOR_STD)
    row_weight = np.ones(len(label)) if row_weight is None else row_weight.astype(np.float64)
    weights, rate = np.zeros(len(group)), float(np.clip(np.average(label, weights=row_weight), 1e-6, 1 - 1e-6))
    bias, curvature = float(np.log(rate / (1 - rate))), inputs.square_sums(row_weight * rate * (1 - rate))
    for _ in range(_MAX_ROUNDS):
        used, precision = std, std[group] ** -2.0
        weights, bias = _fit_weights(inputs, label, row_weight, precision, curvature, weights, bias)
        p = expit(inputs.logits(weights) + bias)
        curvature = inputs.square_sums(row_weight * p * (1 - p))
        determined = curvature / (curvature + precision)
        total = np.bincount(group, weights**2, n_groups) + _PRIOR_COUNT * _PRIOR_STD**2
        std = np.sqrt(total / (np.bincount(group, determined, n_groups) + _PRIOR_COUNT)).clip(_MIN_STD)
        if np.all(np.abs(std / used - 1) < _TOLERANCE):
            break
    precision = (STD_FACTOR * used)[group] ** -2.0
    weights, bias = _fit_weights(inputs, label, row_weight, precision, curvature, weights, bias)
    return RandomEffects(weights, bias, used)


def _fit_weights(
    inputs: Inputs,
    label: np.ndarray,
    row_weight: np.ndarray,
    precision: np.ndarray,
    curvature: np.ndarray,
    weights: np.ndarray,
    bias: float,
) -> tuple[np.ndarray, float]:
    """Minimizes the sum of the log losses plus half the sum of precision times weight^2; starts at given weights.

    Each weight is in units of its standard deviation, in which L-BFGS needs few steps (Liu and Nocedal, 1989).
    """
    unit = (curvature + precision) ** -0.5
    bias_unit = float(np.sum(row_weight) * 0.05 + 1) ** -0.5

    def loss_and_gradient(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        w = scaled[:-1] * unit
        logit = inputs.logits(w) + scaled[-1] * bias_unit
        loss = row_weight @ (np.logaddexp(0, logit) - label * logit) + precision @ w**2 / 2
        residual = row_weight * (expit(logit) - label)
        return loss, np.append((inputs.sums(residual) + precision * w) * unit, residual.sum() * bias_unit)

    start = np.append(weights / unit, bias / bias_unit)
    options = {"maxiter": _MAX_ITERATIONS, "ftol": _LOSS_TOLERANCE}
    scaled = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
    return scaled[:-1] * unit, float(scaled[-1] * bias_unit)
