"""Chooses a calibration, and gives every row a calibrated logit that its own label has no say in.

Shapes: N rows, S seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.config import StrictModel
from recsys.evaluation.calibration.calibrator import CALIBRATIONS, CalibrationKind, Calibrator
from recsys.evaluation.calibration.fitting import fit_calibrator
from recsys.evaluation.calibration.gain import CalibrationGain, CalibrationLoss, calibration_gain
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.cross_fitting import ScoreFunction, cross_fit
from recsys.evaluation.metrics import Metrics, effective_size

MIN_ROWS_OF_A_CLASS, MIN_ROWS_OF_A_CLASS_MANY_PARAMETERS = 20, 100
"""Rows of the rarer class that any kind needs, and that beta and the isotonic kinds need."""
_FEW_PARAMETERS: tuple[CalibrationKind, ...] = ("none", "temperature", "platt")


class CalibrationReport(StrictModel):
    """The chosen calibration of a model, and what the choice is based on."""

    chosen: CalibrationKind
    """The kind with the lowest loss among those whose gain has an interval above zero; `none` if there is none."""
    calibrator: Calibrator
    """Fitted to all rows, for new rows."""
    by_fold: dict[str, Calibrator]
    """By fold: the calibrator of its rows. Kind and parameters come from the other folds."""
    figures: dict[CalibrationKind, Metrics]
    """By kind: metrics of the cross-fitted logits."""
    gains: dict[CalibrationKind, CalibrationGain]
    """By kind: its gain over no calibration, cross-fitted."""


@dataclass(frozen=True, eq=False)
class CalibratedRows:
    """The calibrated natural logits of rows."""

    report: CalibrationReport
    natural_by_seed: np.ndarray
    """[N, S]: each fold by the calibrator that the other folds choose and fit."""
    by_kind: dict[CalibrationKind, np.ndarray]
    """By kind: [N] cross-fitted, means over seeds."""

    def take(self, rows: np.ndarray) -> "CalibratedRows":
        """Selects rows by positions."""
        by_kind = {kind: natural[rows] for kind, natural in self.by_kind.items()}
        return CalibratedRows(self.report, self.natural_by_seed[rows], by_kind)


def calibrate(rows: HeldOutRows, loss: CalibrationLoss = "logloss") -> CalibratedRows:
    """Chooses a calibration of a run's out-of-fold logits, and calibrates them.

    Logits of seeds share a calibrator, which is fitted to all of them. The kind of a fold's calibrator is chosen on the
    other folds, by cross-fitting over them; with two folds, over parts of the other one.

    Args:
        rows: rows of at least two folds, with both classes outside each.
        loss: what the gain of a calibration is measured by.
    """
    chosen, gains, natural_by_kind = _choose(rows, loss)
    by_fold: dict[str, Calibrator] = {}
    natural_by_seed = np.empty_like(rows.raw_by_seed, dtype=np.float64)
    for name in np.unique(rows.fold):
        is_inside = rows.fold == name
        calibrator = fit_chosen(rows.take(~is_inside), loss)
        natural_by_seed[is_inside] = calibrator.natural_logit(rows.raw_by_seed[is_inside])
        by_fold[str(name)] = calibrator
    by_kind = {kind: rows.reported(natural).natural for kind, natural in natural_by_kind.items()}
    report = CalibrationReport(
        chosen=chosen,
        calibrator=fit_to_rows(chosen, rows),
        by_fold=by_fold,
        figures=figures_of(rows, by_kind),
        gains=gains,
    )
    return CalibratedRows(report, natural_by_seed, by_kind)


def calibrate_one_fit(rows: HeldOutRows, loss: CalibrationLoss = "logloss") -> CalibratedRows | None:
    """Chooses a calibration on rows that one model was not fitted to; None if a class has too few of them.

    The kind is chosen by cross-fitting over five parts of the rows, which the logits are calibrated by too.

    Args:
        rows: the rows, of one fold.
        loss: what the gain of a calibration is measured by.
    """
    if min(effective_rows_of_classes(rows)) < MIN_ROWS_OF_A_CLASS:
        return None
    parts = rows.in_parts()
    return calibrate(parts, loss) if parts.can_cross_fit else None


def fit_chosen(rows: HeldOutRows, loss: CalibrationLoss) -> Calibrator:
    """The calibrator of the kind that rows choose, fitted to them."""
    kind, _, _ = _choose(rows.in_parts(), loss)
    return fit_to_rows(kind, rows)


def fit_to_rows(kind: CalibrationKind, rows: HeldOutRows) -> Calibrator:
    """Fits a calibrator to the logits of all seeds."""
    n_seeds, weight = rows.raw_by_seed.shape[1], rows.weight_in_full_log
    weight = None if weight is None else np.tile(weight, n_seeds)
    return fit_calibrator(kind, rows.raw_by_seed.T.ravel(), np.tile(rows.label, n_seeds), weight)


def cross_calibrate(kind: CalibrationKind, rows: HeldOutRows) -> np.ndarray:
    """[N, S] calibrated natural logits; the calibrator of a row is fitted to the other folds."""
    if kind == "none":
        return rows.raw_by_seed

    def fit(outside: np.ndarray) -> ScoreFunction:
        calibrator = fit_to_rows(kind, rows.take(outside))
        return lambda inside: calibrator.natural_logit(rows.raw_by_seed[inside])

    return cross_fit(rows.fold, fit)


def figures_of(rows: HeldOutRows, natural_by_kind: dict[CalibrationKind, np.ndarray]) -> dict[CalibrationKind, Metrics]:
    """Metrics of rows by kind of calibration, from their [N] natural logits."""
    return {kind: rows.measure(natural) for kind, natural in natural_by_kind.items()}


def kinds_for(rows: HeldOutRows) -> Sequence[CalibrationKind]:
    """The kinds that the rows are enough for."""
    n_rarer = min(effective_rows_of_classes(rows))
    if n_rarer < MIN_ROWS_OF_A_CLASS:
        return ("none",)
    return CALIBRATIONS if n_rarer >= MIN_ROWS_OF_A_CLASS_MANY_PARAMETERS else _FEW_PARAMETERS


def effective_rows_of_classes(rows: HeldOutRows) -> tuple[float, float]:
    """The numbers of negative and of positive rows; if rows have weights, the effective sample sizes of both."""
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight
    return effective_size(weight[rows.label == 0]), effective_size(weight[rows.label == 1])


def _choose(
    rows: HeldOutRows, loss: CalibrationLoss
) -> tuple[CalibrationKind, dict[CalibrationKind, CalibrationGain], dict[CalibrationKind, np.ndarray]]:
    """The chosen kind, the gains of all kinds, and the [N, S] cross-fitted logits by kind."""
    kinds: Sequence[CalibrationKind] = kinds_for(rows) if rows.can_cross_fit else ("none",)
    natural_by_kind = {kind: cross_calibrate(kind, rows) for kind in kinds}
    gains: dict[CalibrationKind, CalibrationGain] = {}
    for kind in kinds:
        if kind != "none":
            gains[kind] = calibration_gain(rows, natural_by_kind[kind], loss)
    has_gain = [kind for kind, gain in gains.items() if gain.low > 0]
    chosen: CalibrationKind = max(has_gain, key=lambda kind: gains[kind].value, default="none")
    return chosen, gains, natural_by_kind
