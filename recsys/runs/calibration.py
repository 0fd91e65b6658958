"""Calibration of a run: fits calibrators to its out-of-fold predictions and keeps the chosen one with the run."""

from collections.abc import Sequence

import numpy as np

from recsys.evaluation.calibration import calibrate
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

    The predictions of a single fold leave no other rows to fit to: nothing is written then, and no kind is chosen.
    """
    whole = join(predictions)
    if len(predictions) < 2 or len(np.unique(whole.label)) < 2:
        return CalibrationSummary(chosen=None, figures={})
    report, by_kind = calibrate(whole.logits, whole.label, whole.fold)
    write_json(run.file(CALIBRATION_FILE), report.calibrator.model_dump(mode="json"))
    p_by_kind = {"raw" if kind == "none" else kind: probability(natural) for kind, natural in by_kind.items()}
    plot_reliability(p_by_kind, whole.label, run.file(RELIABILITY_FILE))
    return CalibrationSummary(chosen=report.chosen, figures=report.figures)


def print_calibration(calibration: CalibrationSummary | None) -> None:
    """Prints WLL and ECE of each kind of calibration, and the one that is kept; nothing where none was fitted."""
    if calibration is None or calibration.chosen is None:
        return
    figures = [f"{kind} WLL {found.wll:.5f} ECE {found.ece:.5f}" for kind, found in calibration.figures.items()]
    console.print(f"calibration, cross-fitted: {', '.join(figures)}; [bold]{calibration.chosen}[/bold] is kept")
