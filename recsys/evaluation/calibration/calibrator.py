"""Calibrators: maps of a model's natural logits to calibrated ones.

Every kind preserves the order of rows, so the ranking metrics of a model do not change.
"""

from typing import Any, Literal, get_args

import numpy as np
from pydantic import model_validator

from recsys.config import StrictModel
from recsys.evaluation.logits import logit_of

CalibrationKind = Literal["none", "temperature", "platt", "beta", "isotonic", "centered_isotonic"]
CALIBRATIONS: tuple[CalibrationKind, ...] = get_args(CalibrationKind)
_TIE_BREAK = 1e-7


class Calibrator(StrictModel):
    """The parameters of a fitted calibration; see `fit_calibrator` for the kinds."""

    kind: CalibrationKind = "none"
    temperature: float = 1.0
    balance: float = 0.0
    """For `temperature` and `beta`: ln (N_neg / N_pos). Both work on the balanced logit."""
    slope: float = 1.0
    """For `platt`: a > 0."""
    intercept: float = 0.0
    """For `platt`: b; for `beta`: c."""
    exponents: tuple[float, float] = (1.0, 1.0)
    """For `beta`: a and b, neither negative."""
    knots: tuple[float, ...] = ()
    """For isotonic kinds: increasing natural logits."""
    rates: tuple[float, ...] = ()
    """For isotonic kinds: the click rates at the knots, linearly interpolated between them."""

    def natural_logit(self, logit: np.ndarray) -> np.ndarray:
        """Maps natural logits of any shape to calibrated ones."""
        match self.kind:
            case "none":
                return logit
            case "temperature":
                return (logit + self.balance) / self.temperature - self.balance
            case "platt":
                return self.slope * logit + self.intercept
            case "beta":
                log_odds = beta_inputs(logit + self.balance)
                calibrated = self.exponents[0] * log_odds[0] + self.exponents[1] * log_odds[1] + self.intercept
                # where an exponent is 0, its half of the curve is flat: the last term preserves the order of rows
                return calibrated + _TIE_BREAK * logit
            case "isotonic" | "centered_isotonic":
                # the second term preserves the order of rows within a step
                return logit_of(np.interp(logit, self.knots, self.rates)) + _TIE_BREAK * logit


def beta_inputs(balanced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln s and -ln (1 - s) of s = sigmoid(balanced): the two inputs of beta calibration, both increasing."""
    return -np.logaddexp(0.0, -balanced), np.logaddexp(0.0, balanced)


class RunCalibration(StrictModel):
    """calibration.json: the calibrators of a run."""

    calibrator: Calibrator = Calibrator()
    """For every fit without one of its own, for models fitted to all rows, and for the output of an ensemble."""
    by_fit: dict[str, Calibrator] = {}
    """By fit, of fits that are calibrated on the rows that they monitored."""
    by_member: dict[str, Calibrator] = {}
    """By member of a plan's final run: its calibrator, fitted to the out-of-fold predictions of the same settings."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_file(cls, values: Any) -> Any:
        return {"calibrator": values} if isinstance(values, dict) and "kind" in values else values

    def of_fit(self, name: str) -> Calibrator:
        """The calibrator of a fit."""
        return self.by_fit.get(name, self.calibrator)
