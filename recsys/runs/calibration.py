"""Calibration of a run: fits calibrators to rows that its models were not trained on, and saves the best one."""

from collections.abc import Sequence

from recsys.evaluation.calibration import (
    MIN_ROWS_OF_A_CLASS,
    CalibrationKind,
    calibrate,
    calibrate_one_fit,
    effective_rows_of_classes,
)
from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.logits import Logits, probability
from recsys.evaluation.metrics import measure
from recsys.evaluation.shown import format_metric
from recsys.report.plots import plot_reliability
from recsys.runs.folder import RunFolder
from recsys.runs.layout import CALIBRATION_FILE
from recsys.runs.metrics import CalibrationSummary
from recsys.runs.predictions import Predictions, join
from recsys.system.files import write_json
from recsys.system.progress import console

RELIABILITY_FILE = "reliability.png"


def calibrate_run(run: RunFolder, predictions: Sequence[Predictions]) -> CalibrationSummary:
    """Fits calibrators to the out-of-fold predictions of a run; writes calibration.json and reliability.png.

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


def calibrate_on_monitored(run: RunFolder, reported: Sequence[Predictions], fit: str) -> CalibrationSummary:
    """Fits calibrators to the rows that early stopping monitored in the only fit of a run; writes calibration.json.

    The reported rows are only evaluated and plotted (reliability.png). Without monitored rows, or with too few of a
    class, writes nothing and chooses no kind.
    """
    monitored = run.load_monitored(fit)
    if monitored is None:
        return CalibrationSummary(chosen=None, figures={})
    report = calibrate_one_fit(monitored.logits, monitored.label, monitored.weight)
    if report is None:
        n_negative, n_positive = map(int, effective_rows_of_classes(monitored.label, monitored.weight))
        have = "have" if monitored.weight is None else "are, with their weights, as many as"
        reason = (
            f"the {len(monitored):,} rows that early stopping monitored {have} {n_positive:,} positive and "
            f"{n_negative:,} negative ones, calibration needs {MIN_ROWS_OF_A_CLASS} of each"
        )
        return CalibrationSummary(chosen=None, fitted_on="monitored rows", figures={}, reason=reason)
    write_json(run.file(CALIBRATION_FILE), report.calibrator.model_dump(mode="json"))
    joined = join(reported)
    logits_by_kind: dict[CalibrationKind, Logits] = {
        "none": joined.logits,
        report.chosen: joined.logits.with_natural(report.calibrator.natural_logit(joined.logits.natural)),
    }
    if joined.has_positive:  # the plot has logarithmic axes
        p_by_kind = {"raw" if kind == "none" else kind: logits.p for kind, logits in logits_by_kind.items()}
        plot_reliability(p_by_kind, joined.label, run.file(RELIABILITY_FILE), joined.weight_in_full_log)
    by_kind = {kind: measure(joined.label, logits, joined.weight) for kind, logits in logits_by_kind.items()}
    return CalibrationSummary(
        chosen=report.chosen,
        fitted_on="monitored rows",
        figures=by_kind if len(joined) else {},
        monitored=report.figures,
    )


def print_calibration(calibration: CalibrationSummary | None) -> None:
    """Prints WLL and ECE by calibration kind and the chosen kind, or why none was fitted."""
    if calibration is not None and calibration.reason is not None:
        console.print(f"no calibration: {calibration.reason}")
    if calibration is None or calibration.chosen is None:
        return
    by_kind, rows = calibration.figures, "cross-fitted"
    if calibration.fitted_on == "monitored rows":
        measured = "measured on the reported rows" if by_kind else "cross-fitted there"
        by_kind = by_kind or calibration.monitored
        rows = f"fitted on {calibration.monitored['none'].n_rows:,} monitored rows, {measured}"
    figures = [
        f"{kind} WLL {format_metric(metrics.wll)} ECE {format_metric(metrics.ece)}" for kind, metrics in by_kind.items()
    ]
    chosen = "none, the raw predictions are already the best" if calibration.chosen == "none" else calibration.chosen
    console.print(f"calibration, {rows}: {', '.join(figures)}; chosen: {chosen}")
