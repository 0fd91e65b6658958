"""Finds pairs of categorical features whose click rates say more than those of the two features.

A logistic regression on the rates of single features predicts rows of the other inner folds. The effect of a cell of a
pair is one Newton step from that prediction, shrunk toward zero; what it adds to the log likelihood of rows that it was
not fitted to tells whether the pair is worth its encoding.

Shapes: N rows, F features, C cells of a pair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from recsys.data.encodings.rates import BetaPrior
from recsys.evaluation.cross_fitting import ScoreFunction, cross_fit
from recsys.evaluation.logits import probability
from recsys.evaluation.metrics import log_loss_terms

_SHRINKAGE = 10.0
"""Prior precision of the effect of a cell: a standard deviation of .3 in log odds."""
_MIN_Z = 4.0
"""Of the gain per row; with a thousand pairs without effect, one is found in thirty searches."""


@dataclass(frozen=True)
class FoundPair:
    """A pair of features, and what its encoding adds."""

    first: int
    second: int
    gain: float
    """Mean gain in log likelihood of a row that it was not fitted to."""
    z: float
    """The gain over its standard error."""


def single_rates(code_NF: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """[N, F] log odds of the click rates of single features, counted on the rows of the other folds."""

    def fit(outside: np.ndarray) -> ScoreFunction:
        tables = []
        for codes in code_NF.T:
            counted = [np.bincount(codes[outside], w, codes.max() + 1) for w in (np.ones(len(outside)), label[outside])]
            tables.append(BetaPrior.fit(*counted).log_odds(*counted))
        return lambda rows: np.stack([table[codes[rows]] for table, codes in zip(tables, code_NF.T, strict=True)], 1)

    return cross_fit(fold, fit)


def find_pairs(code_NF: np.ndarray, label: np.ndarray, fold: np.ndarray, n_best: int) -> list[FoundPair]:
    """The pairs that are worth an encoding, best first.

    Args:
        code_NF: [N, F] codes of the features, from 0.
        label: [N] 0 / 1, of both classes in the rows outside each fold.
        fold: [N] inner folds.
        n_best: the largest number of pairs.
    """
    rates = StandardScaler().fit_transform(single_rates(code_NF, label, fold))

    def fit(outside: np.ndarray) -> ScoreFunction:
        model = LogisticRegression(max_iter=200).fit(rates[outside], label[outside])
        return lambda rows: model.decision_function(rates[rows])

    logit = cross_fit(fold, fit)
    found = [pair for pair in _gains(code_NF, label, fold, logit) if pair.z >= _MIN_Z]
    return sorted(found, key=lambda pair: -pair.gain)[:n_best]


def _gains(code_NF: np.ndarray, label: np.ndarray, fold: np.ndarray, logit: np.ndarray) -> Iterator[FoundPair]:
    """What each pair adds to predicted logits of rows."""
    p = probability(logit)
    residual, information, before = label - p, p * (1 - p), log_loss_terms(label, logit)
    inner = [fold == name for name in np.unique(fold)]
    for first, second in combinations(range(code_NF.shape[1]), 2):
        cell = _cells(code_NF[:, [first, second]])
        n_cells = int(cell.max()) + 1
        if n_cells <= max(len(np.unique(code_NF[:, index])) for index in (first, second)):
            continue  # one of the features tells the other
        effect = np.zeros(len(label))
        for is_inside in inner:
            sums = [np.bincount(cell[~is_inside], of[~is_inside], n_cells) for of in (residual, information)]
            effect[is_inside] = (sums[0] / (sums[1] + _SHRINKAGE))[cell[is_inside]]
        gain = before - log_loss_terms(label, logit + effect)
        error = gain.std() / np.sqrt(len(gain))
        yield FoundPair(first, second, float(gain.mean()), float(gain.mean() / error) if error > 0 else 0.0)


def _cells(codes: np.ndarray) -> np.ndarray:
    """[N] dense indices of the pairs of [N, 2] codes."""
    key = codes[:, 0].astype(np.int64) * (int(codes[:, 1].max()) + 1) + codes[:, 1]
    return np.unique(key, return_inverse=True)[1]


def is_enough(label: np.ndarray, fold: np.ndarray, n_rarer: int) -> bool:
    """Whether rows outside every inner fold have at least so many of the rarer class."""
    outside: Sequence[np.ndarray] = [label[fold != name] for name in np.unique(fold)]
    return len(outside) > 1 and all(min(of.sum(), len(of) - of.sum()) >= n_rarer for of in outside)
