"""Finds pairs of categorical features whose click rates say more than those of the two features.

One half of the rows fits a model of the single features, additive on the logit scale, and then the effect of every cell
of a pair: one Newton step from the model's prediction, shrunk toward zero. What the effects add to the log likelihood
of the other half, which nothing was fitted to, tells whether the pair is worth its encoding.

Out-of-fold predictions on all rows would not do: where a fold has more clicks than the others, predictions of it are
too low and those of the others too high, so that effects which are fitted to the others mislead.

Shapes: N rows, F features, C cells of a pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from recsys.data.encodings.rates import BetaPrior
from recsys.evaluation.logits import logit_of, probability
from recsys.evaluation.metrics import log_loss_terms

_PAIR_PRECISION = 100.0
"""Prior precision of the effect of a cell: a standard deviation of .1 in log odds."""
_N_PASSES = 5
_MIN_Z = 4.0
"""Of the gain per row; of a thousand pairs without effect, one is found in thirty searches."""
_MAX_DENSE_CELLS = 4_000_000


@dataclass(frozen=True)
class FoundPair:
    """A pair of features, and what its encoding adds."""

    first: int
    second: int
    gain: float
    """Mean gain in log likelihood of a row that nothing was fitted to."""
    z: float
    """The gain over its standard error."""


@dataclass(frozen=True)
class _Half:
    """An additive model of one half of the rows, and its predictions of both."""

    is_fitted: np.ndarray
    """[N] bool."""
    residual: np.ndarray
    """[fitted] label less p."""
    information: np.ndarray
    """[fitted] p (1 - p)."""
    other_logit: np.ndarray
    """[others]."""


def find_pairs(code_NF: np.ndarray, label: np.ndarray, is_first_half: np.ndarray, n_best: int) -> list[FoundPair]:
    """The pairs that are worth an encoding, best first.

    Args:
        code_NF: [N, F] codes of the features, from 0.
        label: [N] 0 / 1, of both classes in both halves.
        is_first_half: [N] bool; each half predicts the other.
        n_best: the largest number of pairs.
    """
    halves = [_fit_singles(code_NF, label, is_fitted) for is_fitted in (is_first_half, ~is_first_half)]
    found = [pair for pair in _gains(code_NF, label, halves) if pair.z >= _MIN_Z]
    return sorted(found, key=lambda pair: -pair.gain)[:n_best]


def _fit_singles(code_NF: np.ndarray, label: np.ndarray, is_fitted: np.ndarray) -> _Half:
    """Fits an effect to every value of every feature, feature by feature, in several passes.

    The prior of a feature's effects is that of its click rates.
    """
    codes, clicks = code_NF[is_fitted], label[is_fitted]
    effects = [np.zeros(int(column.max()) + 1) for column in code_NF.T]
    bias = float(logit_of(clicks.mean()))
    logit = np.full(len(clicks), bias)
    precisions = [_precision(column, clicks) for column in codes.T]
    for _ in range(_N_PASSES):
        for feature, effect in enumerate(effects):
            column = codes[:, feature]
            residual, information = _derivatives(clicks, logit)
            weight = np.bincount(column, information, len(effect))
            new = (np.bincount(column, residual, len(effect)) + weight * effect) / (weight + precisions[feature])
            logit += (new - effect)[column]
            effect[:] = new
        residual, information = _derivatives(clicks, logit)
        step = residual.sum() / information.sum()
        logit, bias = logit + step, bias + step
    others = code_NF[~is_fitted]
    other_logit = bias + sum(effect[others[:, feature]] for feature, effect in enumerate(effects))
    return _Half(is_fitted, *_derivatives(clicks, logit), np.asarray(other_logit))


def _precision(codes: np.ndarray, label: np.ndarray) -> float:
    """The prior precision of the effects of a feature's values: the information of as many rows as its prior counts."""
    prior = BetaPrior.fit(np.bincount(codes), np.bincount(codes, label))
    return prior.strength * prior.mean * (1 - prior.mean)


def _derivatives(label: np.ndarray, logit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label less p, and p (1 - p): the first derivative of the log likelihood, and minus the second."""
    p = probability(logit)
    return label - p, p * (1 - p)


def _gains(code_NF: np.ndarray, label: np.ndarray, halves: list[_Half]) -> Iterator[FoundPair]:
    """What each pair adds to the log likelihood of the half that its effects were not fitted to."""
    before = [log_loss_terms(label[~half.is_fitted], half.other_logit) for half in halves]
    for first, second in combinations(range(code_NF.shape[1]), 2):
        cell, n_cells = _cells(code_NF[:, first], code_NF[:, second])
        gains = []
        for half, loss in zip(halves, before, strict=True):
            fitted, others = cell[half.is_fitted], cell[~half.is_fitted]
            residual, information = (np.bincount(fitted, w, n_cells) for w in (half.residual, half.information))
            effect = residual / (information + _PAIR_PRECISION)
            gains.append(loss - log_loss_terms(label[~half.is_fitted], half.other_logit + effect[others]))
        gain = np.concatenate(gains)
        error = float(gain.std()) / np.sqrt(len(gain))
        yield FoundPair(first, second, float(gain.mean()), float(gain.mean()) / error if error > 0 else 0.0)


def _cells(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, int]:
    """[N] indices of the pairs of two features' codes, and their number."""
    n_second = int(second.max()) + 1
    cell, n_cells = first.astype(np.int64) * n_second + second, (int(first.max()) + 1) * n_second
    if n_cells <= _MAX_DENSE_CELLS:
        return cell, n_cells
    values, cell = np.unique(cell, return_inverse=True)
    return cell, len(values)
