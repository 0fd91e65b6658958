"""Fits calibrators to rows that no model was fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from recsys.evaluation.calibration.calibrator import CalibrationKind, Calibrator, beta_inputs
from recsys.evaluation.logits import log_pos_weight_of
from recsys.evaluation.metrics import log_loss_terms, weighted_log_loss

_LOG_TEMPERATURES = (-3.0, 3.0)
_SLOPES = (float(np.exp(-3.0)), float(np.exp(3.0)))
_EXPONENTS = (0.0, float(np.exp(3.0)))
_MAX_STEPS, _TOLERANCE, _SMALLEST_STEP, _RIDGE = 50, 1e-9, 1e-6, 1e-12


def fit_calibrator(
    kind: CalibrationKind, logit: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> Calibrator:
    """Fits a calibration to rows that the model was not trained on.

    temperature: the T that minimizes the WLL of the balanced logit / T (Guo et al., "On calibration of modern neural
    networks", ICML 2017). platt: a logit + b with a > 0 by maximum likelihood, a temperature with an intercept (Platt,
    "Probabilistic outputs for support vector machines", 1999). beta: a ln s - b ln (1 - s) + c with a, b >= 0 by
    maximum likelihood, where s is the balanced probability: both tails have their own slope (Kull, Silva Filho and
    Flach, "Beta calibration", AISTATS 2017). isotonic: the step function of isotonic regression (Zadrozny and Elkan,
    "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002). centered_isotonic: each
    step becomes a point at the mean logit of its rows, with linear interpolation between points (Oron and Flournoy,
    "Centered isotonic regression", Statistics in Biopharmaceutical Research 2017): the rate increases within a step
    too.
    NOTE[DIFF]: the rate of a step of k rows is shrunk toward the base rate with the weight of one row, because the log
    loss of a click at rate zero is infinite. NOTE[DIFF]: the slope of platt is at least exp(-3), so that the order of
    rows stays that of the model even where the model is worse than chance.

    Args:
        kind: the calibration method.
        logit: [n] natural logits.
        label: [n] 0 / 1, both classes present.
        weight: [n] weights of the rows, of any mean; None if they have none.
    """
    if weight is not None:
        is_counted = weight > 0
        logit, label, weight = logit[is_counted], label[is_counted], weight[is_counted] / weight[is_counted].mean()
    match kind:
        case "none":
            return Calibrator()
        case "temperature":
            balance = log_pos_weight_of(label, weight)
            balanced = logit + balance
            optimum = minimize_scalar(
                lambda log_t: weighted_log_loss(label, balanced / np.exp(log_t), weight),
                bounds=_LOG_TEMPERATURES,
                method="bounded",
                options={"xatol": 1e-6},
            )
            return Calibrator(kind=kind, temperature=float(np.exp(optimum.x)), balance=balance)
        case "platt":
            (slope,), intercept = _maximum_likelihood([logit], label, weight, _SLOPES)
            return Calibrator(kind=kind, slope=slope, intercept=intercept)
        case "beta":
            balance = log_pos_weight_of(label, weight)
            (a, b), intercept = _maximum_likelihood(beta_inputs(logit + balance), label, weight, _EXPONENTS)
            return Calibrator(kind=kind, balance=balance, exponents=(a, b), intercept=intercept)
        case "isotonic" | "centered_isotonic":
            model = IsotonicRegression(out_of_bounds="clip").fit(logit, label, weight)
            step_rates, step_indices = np.unique(model.predict(logit), return_inverse=True)
            row_weight = np.ones(len(logit)) if weight is None else weight
            n_rows, base_rate = np.bincount(step_indices, weights=row_weight), np.average(label, weights=weight)
            smoothed = np.maximum.accumulate((step_rates * n_rows + base_rate) / (n_rows + 1))
            if kind == "centered_isotonic":
                centers = np.bincount(step_indices, weights=row_weight * logit) / n_rows
                return Calibrator(kind=kind, knots=tuple(centers.tolist()), rates=tuple(smoothed.tolist()))
            rates = smoothed[np.searchsorted(step_rates, model.y_thresholds_).clip(max=len(step_rates) - 1)]
            return Calibrator(kind=kind, knots=tuple(model.X_thresholds_.tolist()), rates=tuple(rates.tolist()))


def _maximum_likelihood(
    inputs: Sequence[np.ndarray], label: np.ndarray, weight: np.ndarray | None, bounds: tuple[float, float]
) -> tuple[tuple[float, ...], float]:
    """Slopes within bounds and the intercept of the logistic regression with the lowest log loss, a convex problem.

    Args:
        inputs: [n] values of each input.
        label: [n] 0 / 1.
        weight: [n] weights of the rows; None if they have none.
        bounds: the smallest and the largest slope.
    """
    share = np.full(len(label), 1 / len(label)) if weight is None else weight / weight.sum()
    problem = _Logistic(np.stack(inputs), label, share, bounds)
    slopes, intercept, _ = problem.solve({})
    return tuple(slopes.tolist()), intercept


@dataclass(frozen=True, eq=False)
class _Logistic:
    """A logistic regression of few inputs, whose slopes are bounded."""

    inputs: np.ndarray
    """[inputs, n]."""
    label: np.ndarray
    share: np.ndarray
    """[n] weights of the rows, with the sum 1."""
    bounds: tuple[float, float]

    def solve(self, fixed: Mapping[int, float]) -> tuple[np.ndarray, float, float]:
        """The best slopes within the bounds, the intercept, and the log loss; some slopes are fixed.

        If a slope lies outside its bounds where nothing bounds it, then one of those that do is at its bound in the
        best solution within the bounds, as the problem is convex: each is tried.
        """
        slopes, intercept, loss = self._newton(fixed)
        outside = [i for i, slope in enumerate(slopes) if i not in fixed and not self._is_inside(slope)]
        if not outside:
            return slopes, intercept, loss
        solutions = [self.solve({**fixed, i: float(np.clip(slopes[i], *self.bounds))}) for i in outside]
        return min(solutions, key=lambda solution: solution[2])

    def _is_inside(self, slope: float) -> bool:
        return self.bounds[0] <= slope <= self.bounds[1]

    def _newton(self, fixed: Mapping[int, float]) -> tuple[np.ndarray, float, float]:
        """Newton's method with halved steps where a whole one does not lower the loss."""
        free = [i for i in range(len(self.inputs)) if i not in fixed]
        offset = sum((slope * self.inputs[i] for i, slope in fixed.items()), start=np.zeros(len(self.label)))
        means = self.inputs[free] @ self.share
        scales = np.sqrt((self.inputs[free] - means[:, None]) ** 2 @ self.share) + 1e-12
        design = np.vstack([(self.inputs[free] - means[:, None]) / scales[:, None], np.ones(len(self.label))])
        rate = float(self.share @ self.label)
        theta = np.append(np.zeros(len(free)), np.log(rate / (1 - rate)) - offset @ self.share)
        loss = self._loss(theta @ design + offset)
        for _ in range(_MAX_STEPS):
            p = expit(theta @ design + offset)
            gradient = design @ (self.share * (p - self.label))
            hessian = (design * (self.share * p * (1 - p))) @ design.T
            step = np.linalg.solve(hessian + _RIDGE * np.eye(len(theta)), gradient)
            size = 1.0
            while (stepped := self._loss((theta - size * step) @ design + offset)) > loss and size > _SMALLEST_STEP:
                size /= 2
            theta, loss = theta - size * step, stepped
            if np.abs(size * step).max() < _TOLERANCE:
                break
        slopes = np.zeros(len(self.inputs))
        slopes[list(fixed)] = list(fixed.values())
        slopes[free] = theta[:-1] / scales
        return slopes, float(theta[-1] - slopes[free] @ means), loss

    def _loss(self, logit: np.ndarray) -> float:
        return float(self.share @ log_loss_terms(self.label, logit))
