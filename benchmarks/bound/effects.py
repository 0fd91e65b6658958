"""A logistic regression with random effects, whose variances are estimated from the rows that it is fitted to.

The weights of a group are normal with mean 0 and one variance. Newton steps find the most probable weights; after each
step, the precision of a group becomes gamma / |w|^2 with gamma = k - precision tr(H^-1), the number of weights that the
rows determine (MacKay, "Bayesian interpolation", Neural Computation 1992; Breslow and Clayton, "Approximate inference
in generalized linear mixed models", JASA 1993). Levels of the first group meet no other level of that group, so that
their block of the Hessian is diagonal: its thousands of weights cost little.

Shapes: n rows, K dense columns, L levels of the first group, M other weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse
from scipy.special import expit

_BLOCK_ROWS = 131_072
_MAX_STEPS, _N_FIRST_STEPS = 60, 5
"""The first steps keep the precisions: they say nothing before the weights are near the most probable ones."""
_PRECISIONS = (1e-2, 1e4)
_FIXED_PRECISION = 0.1
"""Of weights without a variance of their own: it only keeps a weight finite whose rows have one label."""
_TOLERANCE = 0.002
"""Of weights and standard deviations, in logits, in the last step."""


@dataclass(frozen=True, eq=False)
class Design:
    """The inputs of [n] rows."""

    dense: np.ndarray
    """[n, K] float32."""
    dense_groups: dict[str, slice]
    """Dense columns whose weights share a variance; all others are fixed effects."""
    codes: np.ndarray
    """[n, G] int32 level of each row in each group, -1 for none."""
    levels: dict[str, int]
    """Number of levels of each of the G groups; the first is the one with the diagonal block."""

    def __len__(self) -> int:
        return len(self.dense)

    def __post_init__(self) -> None:
        assert self.codes.shape == (len(self.dense), len(self.levels))

    @property
    def groups(self) -> dict[str, slice]:
        """The weights of each group that share a variance, among the M others; without the first group."""
        found, start = dict(self.dense_groups), self.dense.shape[1]
        for name, n_levels in list(self.levels.items())[1:]:
            found[name] = slice(start, start + n_levels)
            start += n_levels
        return found

    @property
    def n_others(self) -> int:
        """M."""
        return self.dense.shape[1] + sum(list(self.levels.values())[1:])

    def others(self, rows: np.ndarray) -> sparse.csr_array:
        """[b, M] inputs of the weights outside the first group."""
        codes, n_dense = self.codes[rows, 1:], self.dense.shape[1]
        starts = n_dense + np.cumsum([0, *list(self.levels.values())[1:]])[:-1]
        columns = np.concatenate(
            [np.broadcast_to(np.arange(n_dense), (len(rows), n_dense)), np.maximum(codes, 0) + starts], axis=1
        )
        values = np.concatenate([self.dense[rows], codes >= 0], axis=1, dtype=np.float64)
        pointers = np.arange(len(rows) + 1) * columns.shape[1]
        return sparse.csr_array((values.ravel(), columns.ravel(), pointers), (len(rows), self.n_others))


@dataclass(frozen=True, eq=False)
class Effects:
    """Fitted weights."""

    first: np.ndarray
    """[L] weights of the first group."""
    others: np.ndarray
    """[M] weights: dense columns, then the levels of the other groups."""
    sd: dict[str, float]
    """Estimated standard deviation of the weights of each group."""

    def logit(self, design: Design, rows: np.ndarray) -> np.ndarray:
        """Returns the [b] logits of rows."""
        parts = [np.zeros(0)]
        for block in _blocks(rows):
            code = design.codes[block, 0]
            parts.append(design.others(block) @ self.others + np.where(code >= 0, self.first[np.maximum(code, 0)], 0))
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class _Curvature:
    """Gradient and Hessian of the log likelihood, without the sign; blocks of the first group and the others."""

    gradient_first: np.ndarray
    """[L]"""
    gradient_others: np.ndarray
    """[M]"""
    diagonal: np.ndarray
    """[L] the block of the first group."""
    mixed: np.ndarray
    """[L, M]"""
    hessian: np.ndarray
    """[M, M]"""


def fit_effects(
    design: Design, label: np.ndarray, rows: np.ndarray, on_step: Callable[[], None] = lambda: None
) -> Effects:
    """Fits the weights and their variances.

    Args:
        design: the inputs of all rows.
        label: [n] 0 / 1; only those of `rows` are read.
        rows: the rows to fit to.
        on_step: called after each Newton step.
    """
    first_name, n_first = next(iter(design.levels.items()))
    groups, n_others = design.groups, design.n_others
    precision = dict.fromkeys([first_name, *groups], 10.0)
    effects = Effects(np.zeros(n_first), np.zeros(n_others), {})
    for number in range(_MAX_STEPS):
        penalty_M = np.full(n_others, _FIXED_PRECISION)
        for name, part in groups.items():
            penalty_M[part] = precision[name]
        at = _curvature(design, label, rows, effects)
        step_L, step_M, spread_L, spread_M = _newton_step(at, effects, precision[first_name], penalty_M)
        effects = Effects(effects.first + step_L, effects.others + step_M, {})
        on_step()
        if number < _N_FIRST_STEPS:
            continue
        updated = {first_name: _precision(precision[first_name], effects.first, spread_L)}
        for name, part in groups.items():
            updated[name] = _precision(precision[name], effects.others[part], spread_M[part])
        changes = [abs(updated[name] ** -0.5 - precision[name] ** -0.5) for name in precision]
        precision = updated
        if max(*changes, np.abs(step_L).max(initial=0), np.abs(step_M).max(initial=0)) < _TOLERANCE:
            break
    sd = {name: float(value**-0.5) for name, value in precision.items()}
    return Effects(effects.first, effects.others, sd)


def _precision(precision: float, weights: np.ndarray, spread: np.ndarray) -> float:
    """The next precision of a group, from its weights and their posterior variances."""
    determined = max(len(weights) - precision * float(spread.sum()), 1e-6)
    return float(np.clip(determined / max(float(weights @ weights), 1e-12), *_PRECISIONS))


def _curvature(design: Design, label: np.ndarray, rows: np.ndarray, effects: Effects) -> _Curvature:
    n_first, n_others = len(effects.first), len(effects.others)
    gradient_L, diagonal_L, mixed_LM = np.zeros(n_first), np.zeros(n_first), np.zeros((n_first, n_others))
    gradient_M, hessian_MM = np.zeros(n_others), np.zeros((n_others, n_others))
    for block in _blocks(rows):
        others, code = design.others(block), design.codes[block, 0]
        p = expit(effects.logit(design, block))
        residual, weight = label[block] - p, p * (1 - p)
        has_level = code >= 0
        gradient_L += np.bincount(code[has_level], residual[has_level], n_first)
        diagonal_L += np.bincount(code[has_level], weight[has_level], n_first)
        gradient_M += others.T @ residual
        weighted = others.multiply(weight[:, None]).tocsr()
        hessian_MM += (others.T @ weighted).toarray()
        present = np.flatnonzero(has_level)
        levels = sparse.csr_array((np.ones(len(present)), (code[present], present)), (n_first, len(block)))
        mixed_LM += (levels @ weighted).toarray()
    return _Curvature(gradient_L, gradient_M, diagonal_L, mixed_LM, hessian_MM)


def _newton_step(
    at: _Curvature, effects: Effects, precision_L: float, penalty_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The [L] and [M] steps of the weights, and their [L] and [M] posterior variances, the diagonal of H^-1."""
    diagonal_L = at.diagonal + precision_L
    scaled_LM = at.mixed / diagonal_L[:, None]
    inverse_MM = linalg.inv(at.hessian + np.diag(penalty_M) - at.mixed.T @ scaled_LM)
    slope_L = at.gradient_first - precision_L * effects.first
    slope_M = at.gradient_others - penalty_M * effects.others
    step_M = inverse_MM @ (slope_M - scaled_LM.T @ slope_L)
    step_L = slope_L / diagonal_L - scaled_LM @ step_M
    spread_L = 1 / diagonal_L + ((scaled_LM @ inverse_MM) * scaled_LM).sum(axis=1)
    return step_L, step_M, spread_L, inverse_MM.diagonal()


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield rows[start : start + _BLOCK_ROWS]
