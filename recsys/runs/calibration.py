"""The step after the last fold: calibrates out-of-fold predictions and keeps the calibrator with the run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recsys.evaluation.calibration import calibrate
from recsys.evaluation.logits import probability
from recsys.report.plots import plot_reliability
from recsys.runs.folder import CALIBRATION_FILE, Part, RunFolder, join
from recsys.system.files import write_json
from recsys.system.progress import console

RELIABILITY_FILE = "reliability.png"


def calibrate_parts(run: RunFolder, parts: Sequence[Part]) -> dict[str, Any]:
    """Writes calibration.json and reliability.png; gives what metrics.json says of them.

    A single part leaves no other rows to fit to: nothing is written, and `chosen` is null.
    """
    whole = join(parts)
    if len(parts) < 2 or len(np.unique(whole.label)) < 2:
        return {"chosen": None, "figures": {}}
    fold = np.repeat([part.name for part in parts], [len(part.label) for part in parts])
    report, by_kind = calibrate(whole.natural_logit, whole.label, fold, whole.balanced_logit - whole.natural_logit)
    write_json(run.file(CALIBRATION_FILE), report.calibrator.model_dump(mode="json"))
    shown = {"raw" if kind == "none" else kind: probability(logit) for kind, logit in by_kind.items()}
    plot_reliability(shown, whole.label, run.file(RELIABILITY_FILE))
    return {"chosen": report.chosen, "figures": {kind: found.model_dump() for kind, found in report.figures.items()}}


def print_calibration(metrics: Mapping[str, Any]) -> None:
    """Says what a run's metrics.json holds of calibration, if anything."""
    calibration = metrics.get("calibration", {})
    if calibration.get("chosen") is None:
        return
    figures = calibration["figures"]
    shown = [f"{kind} WLL {found['wll']:.5f} ECE {found['ece']:.5f}" for kind, found in figures.items()]
    console.print(f"calibration, cross-fitted: {', '.join(shown)}; [bold]{calibration['chosen']}[/bold] is kept")
