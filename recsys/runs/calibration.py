"""Calibration of a run: fits calibrators to its out-of-fold predictions and saves the best one in the run folder."""

from collections.abc import Sequence

from recsys.evaluation.calibration import calibrate
from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.logits import probability
from recsys.report.plots import plot_reliability
from recsys.runs.folder import RunFolder
from recsys.runs.layout import CALIBRATION_FILE
from recsys.runs.metrics import CalibrationSummary
from recsys.runs.predictions import Predictions, join
from recsys.system.files import write_json
from recsys.system.progress import console

RELIABILITY_FILE = "reliability.png"


def calibrate_run(run: RunFolder, predictions: Sequence[Predictions]) -> CalibrationSummary:
    """Writes calibration.json and reliability.png.

    With a single fold, or if the rows outside a fold have one class, no calibrator can be cross-fitted: writes nothing
    and chooses no kind.
    """
    joined = join(predictions)
    if not can_cross_fit(joined.label, joined.fold, joined.weight):
        return CalibrationSummary(chosen=None, figures={})
    report, natural_by_kind = calibrate(joined.logits, joined.label, joined.fold, joined.weight)
    write_json(run.file(CALIBRATION_FILE), report.calibrator.model_dump(mode="json"))
    p_by_kind = {"raw" if kind == "none" else kind: probability(natural) for kind, natural in natural_by_kind.items()}
    plot_reliability(p_by_kind, joined.label, run.file(RELIABILITY_FILE), joined.weight_in_full_log)
    return CalibrationSummary(chosen=report.chosen, figures=report.figures)


def print_calibration(calibration: CalibrationSummary | None) -> None:
    """Prints WLL and ECE by calibration kind, and the chosen kind; prints nothing if none was fitted."""
    if calibration is None or calibration.chosen is None:
        return
    figures = [f"{kind} WLL {metrics.wll:.5f} ECE {metrics.ece:.5f}" for kind, metrics in calibration.figures.items()]
    console.print(f"calibration, cross-fitted: {', '.join(figures)}; chosen: {calibration.chosen}")
