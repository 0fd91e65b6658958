"""Fits calibrators to rows that no model was fitted to."""

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from recsys.evaluation.calibration.calibrator import CalibrationKind, Calibrator, beta_inputs
from recsys.evaluation.logits import log_pos_weight_of
from recsys.evaluation.metrics import log_loss_terms, weighted_log_loss

_LOG_TEMPERATURES = (-3.0, 3.0)
_SLOPES = (np.exp(-3.0), np.exp(3.0))
_EXPONENTS = (0.0, np.exp(3.0))


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
    inputs: "list[np.ndarray] | tuple[np.ndarray, ...]",
    label: np.ndarray,
    weight: np.ndarray | None,
    bounds: tuple[float, float],
) -> tuple[tuple[float, ...], float]:
    """Slopes within bounds and the intercept of the logistic regression with the lowest log loss, a convex problem.

    Args:
        inputs: [n] values of each input.
        label: [n] 0 / 1.
        weight: [n] weights of the rows; None if they have none.
        bounds: the smallest and the largest slope.
    """
    x_NK = np.stack(inputs, axis=1)
    center_K = np.average(x_NK, axis=0, weights=weight)
    scale_K = np.sqrt(np.average((x_NK - center_K) ** 2, axis=0, weights=weight)) + 1e-12
    design_NK = np.column_stack([(x_NK - center_K) / scale_K, np.ones(len(x_NK))])
    share_N = np.full(len(label), 1 / len(label)) if weight is None else weight / weight.sum()

    def log_loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logit_N = design_NK @ theta
        return float(share_N @ log_loss_terms(label, logit_N)), (share_N * (expit(logit_N) - label)) @ design_NK

    base_logit = -log_pos_weight_of(label, weight)
    start = np.append(np.clip(1.0, *bounds) * scale_K, base_logit)
    limits = [(bounds[0] * scale, bounds[1] * scale) for scale in scale_K]
    optimum = minimize(
        log_loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[*limits, (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500},
    )
    slope_K = np.clip(optimum.x[:-1] / scale_K, *bounds)
    return tuple(slope_K.tolist()), float(optimum.x[-1] - slope_K @ center_K)
