"""Calibration after training: one function from a model's natural logits to better ones.

Every kind keeps the order of rows, so that ranking metrics of one model stay as they are.
"""

from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression

from recsys.config import StrictModel
from recsys.evaluation.cross_fitting import Score, cross_fit
from recsys.evaluation.logits import Logits, log_pos_weight_of, logit_of
from recsys.evaluation.metrics import Metrics, measure, weighted_log_loss

CalibrationKind = Literal["none", "temperature", "isotonic", "centered_isotonic"]
CALIBRATIONS: tuple[CalibrationKind, ...] = get_args(CalibrationKind)
_LOG_TEMPERATURES = (-3.0, 3.0)
_TIE_BREAK = 1e-7


class Calibrator(StrictModel):
    """A fitted calibration, small enough to read."""

    kind: CalibrationKind = "none"
    temperature: float = 1.0
    balance: float = 0.0
    """Of temperature: ln (N_neg / N_pos), for the balanced logit is what it divides."""
    knots: tuple[float, ...] = ()
    """Of isotonic kinds: rising natural logits."""
    rates: tuple[float, ...] = ()
    """Of isotonic kinds: the click rates there; between them they are interpolated."""

    def natural_logit(self, logit: np.ndarray) -> np.ndarray:
        """[n] natural logits to [n] calibrated ones."""
        match self.kind:
            case "none":
                return logit
            case "temperature":
                return (logit + self.balance) / self.temperature - self.balance
            case "isotonic" | "centered_isotonic":
                # the second term keeps rows of one step in their order
                return logit_of(np.interp(logit, self.knots, self.rates)) + _TIE_BREAK * logit


def fit_calibrator(kind: CalibrationKind, logit: np.ndarray, label: np.ndarray) -> Calibrator:
    """Fits a calibration to rows that the model has not seen.

    temperature: T where the WLL of the balanced logit / T is lowest (Guo et al., "On calibration of modern neural
    networks", ICML 2017). isotonic: the rising steps of least squares (Zadrozny and Elkan, "Transforming classifier
    scores into accurate multiclass probability estimates", KDD 2002). centered_isotonic: the same steps, each a point
    at its rows' mean logit, with straight lines between them (Oron and Flournoy, "Centered isotonic regression",
    Statistics in Biopharmaceutical Research 2017): within a step the rate rises too. NOTE[DIFF]: a step of k rows is
    drawn to the base rate by one row's weight, for a rate of zero would make a click there infinitely surprising.

    Args:
        kind: which.
        logit: [n] natural logits.
        label: [n] 0 / 1, both present.
    """
    match kind:
        case "none":
            return Calibrator()
        case "temperature":
            balance = log_pos_weight_of(label)
            balanced = logit + balance
            found = minimize_scalar(
                lambda log_t: weighted_log_loss(label, balanced / np.exp(log_t)),
                bounds=_LOG_TEMPERATURES,
                method="bounded",
                options={"xatol": 1e-6},
            )
            return Calibrator(kind=kind, temperature=float(np.exp(found.x)), balance=balance)
        case "isotonic" | "centered_isotonic":
            model = IsotonicRegression(out_of_bounds="clip").fit(logit, label)
            steps, step, n_rows = np.unique(model.predict(logit), return_inverse=True, return_counts=True)
            smoothed = np.maximum.accumulate((steps * n_rows + label.mean()) / (n_rows + 1))
            if kind == "centered_isotonic":
                centres = np.bincount(step, weights=logit) / n_rows
                return Calibrator(kind=kind, knots=tuple(centres.tolist()), rates=tuple(smoothed.tolist()))
            rates = smoothed[np.searchsorted(steps, model.y_thresholds_).clip(max=len(steps) - 1)]
            return Calibrator(kind=kind, knots=tuple(model.X_thresholds_.tolist()), rates=tuple(rates.tolist()))


class CalibrationReport(StrictModel):
    """What calibration did to a model's out-of-fold predictions, and what to keep of it."""

    chosen: CalibrationKind
    """The kind of the lowest cross-fitted WLL; none where raw logits have it."""
    calibrator: Calibrator
    """Fitted to all rows, for rows to come."""
    figures: dict[CalibrationKind, Metrics]
    """By kind, each row calibrated by the other folds."""


def calibrate(
    logits: Logits, label: np.ndarray, fold: np.ndarray
) -> tuple[CalibrationReport, dict[CalibrationKind, np.ndarray]]:
    """Tries every kind; the second value holds the calibrated natural logits of each.

    Args:
        logits: [n] predictions of models that have not seen the row.
        label: [n] 0 / 1.
        fold: [n] names; two or more.
    """
    by_kind: dict[CalibrationKind, np.ndarray] = {
        kind: cross_calibrate(kind, logits.natural, label, fold) for kind in CALIBRATIONS
    }
    figures = {kind: measure(label, logits.with_natural(natural)) for kind, natural in by_kind.items()}
    chosen = min(CALIBRATIONS, key=lambda kind: np.inf if (wll := figures[kind].wll) is None else wll)
    calibrator = fit_calibrator(chosen, logits.natural, label)
    return CalibrationReport(chosen=chosen, calibrator=calibrator, figures=figures), by_kind


def cross_calibrate(kind: CalibrationKind, logit: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """[n] calibrated natural logits, each row's from a calibrator fitted to the other folds."""
    if kind == "none":
        return logit

    def fit(rows: np.ndarray) -> Score:
        calibrator = fit_calibrator(kind, logit[rows], label[rows])
        return lambda held_out: calibrator.natural_logit(logit[held_out])

    return cross_fit(fold, fit)
