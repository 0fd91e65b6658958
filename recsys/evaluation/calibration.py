"""Calibration after training: maps a model's natural logits to calibrated ones.

Every kind preserves the order of rows, so the ranking metrics of a model do not change.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedKFold

from recsys.config import StrictModel
from recsys.evaluation.cross_fitting import ScoreFunction, cross_fit
from recsys.evaluation.logits import Logits, log_pos_weight_of, logit_of
from recsys.evaluation.metrics import Metrics, effective_size, log_loss_terms, measure, weighted_log_loss

CalibrationKind = Literal["none", "temperature", "isotonic", "centered_isotonic"]
CALIBRATIONS: tuple[CalibrationKind, ...] = get_args(CalibrationKind)
MIN_ROWS_OF_A_CLASS, MIN_ROWS_OF_A_CLASS_ISOTONIC = 20, 100
"""Rows of the rarer class that `calibrate_one_fit` needs for any kind, and for the isotonic kinds."""
_N_PARTS = 5
_LOG_TEMPERATURES = (-3.0, 3.0)
_TIE_BREAK = 1e-7


class Calibrator(StrictModel):
    """The parameters of a fitted calibration."""

    kind: CalibrationKind = "none"
    temperature: float = 1.0
    balance: float = 0.0
    """For `temperature`: ln (N_neg / N_pos). The temperature divides the balanced logit."""
    knots: tuple[float, ...] = ()
    """For isotonic kinds: increasing natural logits."""
    rates: tuple[float, ...] = ()
    """For isotonic kinds: the click rates at the knots, linearly interpolated between them."""

    def natural_logit(self, logit: np.ndarray) -> np.ndarray:
        """Maps [n] natural logits to [n] calibrated ones."""
        match self.kind:
            case "none":
                return logit
            case "temperature":
                return (logit + self.balance) / self.temperature - self.balance
            case "isotonic" | "centered_isotonic":
                # the second term preserves the order of rows within a step
                return logit_of(np.interp(logit, self.knots, self.rates)) + _TIE_BREAK * logit


def fit_calibrator(
    kind: CalibrationKind, logit: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
) -> Calibrator:
    """Fits a calibration to rows that the model was not trained on.

    temperature: the T that minimizes the WLL of the balanced logit / T (Guo et al., "On calibration of modern neural
    networks", ICML 2017). isotonic: the step function of isotonic regression (Zadrozny and Elkan, "Transforming
    classifier scores into accurate multiclass probability estimates", KDD 2002). centered_isotonic: each step becomes
    a point at the mean logit of its rows, with linear interpolation between points (Oron and Flournoy, "Centered
    isotonic regression", Statistics in Biopharmaceutical Research 2017): the rate increases within a step too.
    NOTE[DIFF]: the rate of a step of k rows is shrunk toward the base rate with the weight of one row, because the log
    loss of a click at rate zero is infinite.

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


class CalibrationReport(StrictModel):
    """Metrics of a model's out-of-fold predictions by calibration kind, and the best calibrator."""

    chosen: CalibrationKind
    """The kind with the lowest cross-fitted WLL; `none` if the raw logits have it."""
    calibrator: Calibrator
    """Fitted to all rows, for new rows."""
    figures: dict[CalibrationKind, Metrics]
    """By kind: metrics of the cross-fitted logits."""


def calibrate(
    logits: Logits,
    label: np.ndarray,
    fold: np.ndarray,
    weight: np.ndarray | None = None,
    kinds: Sequence[CalibrationKind] = CALIBRATIONS,
) -> tuple[CalibrationReport, dict[CalibrationKind, np.ndarray]]:
    """Evaluates kinds of calibration; the second value holds the calibrated natural logits by kind.

    Args:
        logits: [n] predictions of models that were not trained on the row.
        label: [n] 0 / 1.
        fold: [n] fold names, at least two different ones.
        weight: [n] weights of the rows; None if they have none.
        kinds: the kinds to evaluate, including `none`.
    """
    full_weight = logits.weight_in_full_log(label, weight)
    natural_by_kind: dict[CalibrationKind, np.ndarray] = {
        kind: cross_calibrate(kind, logits.natural, label, fold, full_weight) for kind in kinds
    }
    figures = {kind: measure(label, logits.with_natural(natural), weight) for kind, natural in natural_by_kind.items()}
    chosen = min(kinds, key=lambda kind: np.inf if (wll := figures[kind].wll) is None else wll)
    calibrator = fit_calibrator(chosen, logits.natural, label, full_weight)
    return CalibrationReport(chosen=chosen, calibrator=calibrator, figures=figures), natural_by_kind


def calibrate_one_fit(logits: Logits, label: np.ndarray, weight: np.ndarray | None = None) -> CalibrationReport | None:
    """Chooses and fits a calibration on held-out rows of one model; None if a class has too few rows.

    The kind is chosen by cross-fitting over parts of the rows. These can be few, where the differences between kinds
    are mostly noise: raw logits are kept unless the lowest WLL is lower by more than its standard error. Weighted rows
    of a class are as few as their effective number.

    Args:
        logits: [n] predictions of a model that was not trained on the rows.
        label: [n] 0 / 1.
        weight: [n] weights of the rows; None if they have none.
    """
    if weight is not None:
        is_counted = weight > 0
        logits, label, weight = logits.take(is_counted), label[is_counted], weight[is_counted]
    n_rarer = min(effective_rows_of_classes(label, weight))
    if n_rarer < MIN_ROWS_OF_A_CLASS:
        return None
    kinds = CALIBRATIONS if n_rarer >= MIN_ROWS_OF_A_CLASS_ISOTONIC else ("none", "temperature")
    part = np.empty(len(label), np.int64)
    for number, (_, rows) in enumerate(StratifiedKFold(_N_PARTS, shuffle=True, random_state=0).split(label, label)):
        part[rows] = number
    report, natural_by_kind = calibrate(logits, label, part, weight, kinds)
    gain, standard_error = _wll_gain(logits, logits.with_natural(natural_by_kind[report.chosen]), label, weight)
    if gain <= standard_error:
        return report.model_copy(update={"chosen": "none", "calibrator": Calibrator()})
    return report


def effective_rows_of_classes(label: np.ndarray, weight: np.ndarray | None) -> tuple[float, float]:
    """The numbers of negative and of positive rows; if rows have weights, the effective sample sizes of both."""
    weight = np.ones(len(label)) if weight is None else weight
    return effective_size(weight[label == 0]), effective_size(weight[label == 1])


def _wll_gain(raw: Logits, calibrated: Logits, label: np.ndarray, weight: np.ndarray | None) -> tuple[float, float]:
    """By how much calibration lowers the WLL of [n] rows, and the standard error of the difference.

    The variance of a weighted mean is that of a mean of as many rows as the effective sample size.
    """
    gains = log_loss_terms(label, raw.balanced) - log_loss_terms(label, calibrated.balanced)
    weight = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    gain, variance = 0.0, 0.0
    for rows in (label == 0, label == 1):
        mean, size = np.average(gains[rows], weights=weight[rows]), effective_size(weight[rows])
        gain += 0.5 * mean
        variance += 0.25 * np.average((gains[rows] - mean) ** 2, weights=weight[rows]) / (size - 1)
    return float(gain), float(np.sqrt(variance))


def cross_calibrate(
    kind: CalibrationKind, logit: np.ndarray, label: np.ndarray, fold: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """[n] calibrated natural logits; the calibrator of a row is fitted to the other folds."""
    if kind == "none":
        return logit

    def fit(rows: np.ndarray) -> ScoreFunction:
        calibrator = fit_calibrator(kind, logit[rows], label[rows], None if weight is None else weight[rows])
        return lambda held_out: calibrator.natural_logit(logit[held_out])

    return cross_fit(fold, fit)
