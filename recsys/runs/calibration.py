"""Calibration of a run: its reported predictions become calibrated, and calibration.json has the calibrators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.table import Table

from recsys.evaluation.calibration.calibrator import CalibrationKind, Calibrator, RunCalibration
from recsys.evaluation.calibration.choice import (
    MIN_ROWS_OF_A_CLASS,
    CalibratedRows,
    calibrate,
    calibrate_one_fit,
    effective_rows_of_classes,
)
from recsys.evaluation.calibration.forward import forward_figures
from recsys.evaluation.calibration.gain import CalibrationLoss
from recsys.evaluation.logits import probability
from recsys.evaluation.metrics import MetricName, Metrics
from recsys.evaluation.shown import TITLES, format_interval, format_metrics, titles
from recsys.report.plots import plot_reliability
from recsys.report.tables import TextRow, text_table
from recsys.runs.folder import RunFolder
from recsys.runs.layout import CALIBRATION_FILE
from recsys.runs.metrics import CalibrationSummary, RunMetrics
from recsys.runs.predictions import Predictions, join, join_seeds
from recsys.system.files import write_json
from recsys.system.progress import console

RELIABILITY_FILE = "reliability.png"
_OF_CALIBRATION: tuple[MetricName, ...] = ("logloss", "wll", "ece")
"""The metrics of calibration tables, of those that the run's tables show."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The predictions of a run after calibration."""

    reported: list[Predictions]
    summary: CalibrationSummary
    monitored: Predictions | None = None
    """Of the rows that the only fit of a run was calibrated on, cross-fitted over parts of them."""


def calibrate_run(run: RunFolder, folds: Sequence[Predictions], loss: CalibrationLoss) -> Calibration:
    """Calibrates the out-of-fold predictions of a run; writes calibration.json and reliability.png.

    Kind and parameters of a fold's calibrator come from the other folds. With a single fold, or if the rows outside a
    fold have one class, no calibrator can be cross-fitted: writes nothing and leaves the predictions as they are.
    """
    rows = join(folds).held_out
    if not rows.can_cross_fit:
        return Calibration(list(folds), CalibrationSummary(chosen=None, figures={}))
    return keep_calibrated(run, folds, calibrate(rows, loss), loss)


def keep_calibrated(
    run: RunFolder, folds: Sequence[Predictions], calibrated: CalibratedRows, loss: CalibrationLoss
) -> Calibration:
    """Writes calibration.json and reliability.png of out-of-fold predictions that are calibrated already.

    Args:
        run: the run folder.
        folds: the raw predictions.
        calibrated: the calibrated logits of the folds, end to end.
        loss: what the kind was chosen by.
    """
    rows, report = join(folds).held_out, calibrated.report
    write_json(run.file(CALIBRATION_FILE), RunCalibration(calibrator=report.calibrator).model_dump(mode="json"))
    p_by_kind = {_title(kind): probability(natural) for kind, natural in calibrated.by_kind.items()}
    plot_reliability(p_by_kind, rows.label, run.file(RELIABILITY_FILE), rows.weight_in_full_log)
    summary = CalibrationSummary(
        chosen=report.chosen,
        by_fold={name: calibrator.kind for name, calibrator in report.by_fold.items()},
        loss=loss,
        figures=report.figures,
        gains=report.gains,
        forward=forward_figures(rows),
    )
    reported, start = [], 0
    for fold in folds:
        reported.append(fold.calibrated(calibrated.natural_by_seed[start : start + len(fold)]))
        start += len(fold)
    return Calibration(reported, summary)


def calibrate_on_monitored(
    run: RunFolder, fits: Mapping[str, Sequence[str]], reported: Sequence[Predictions], loss: CalibrationLoss
) -> Calibration:
    """Calibrates the fits of every split on the rows that their early stopping monitored; writes calibration.json.

    The reported rows have no say: they are calibrated, evaluated and plotted (reliability.png). Fits without monitored
    rows, or with too few of a class, stay as they are. Models fitted to other rows take the calibrator of the last
    split. The seeds of a split share a calibrator.

    Args:
        run: the run folder.
        fits: by split: the names of its fits, one for each seed.
        reported: the predictions of each split; empty if there are no rows to report on.
        loss: what the gain of a calibration is measured by.
    """
    by_split: dict[str, CalibratedRows] = {}
    reason = monitored = None
    for split, names in fits.items():
        parts = [part for part in map(run.load_monitored, names) if part is not None]
        monitored = _join_monitored(parts) if parts else None
        calibrated = None if monitored is None else calibrate_one_fit(monitored.held_out, loss)
        if calibrated is not None:
            by_split[split] = calibrated
        elif monitored is not None:
            reason = _too_few(monitored)
    if not by_split:
        fitted_on = "out-of-fold" if reason is None else "monitored rows"
        return Calibration(
            list(reported), CalibrationSummary(chosen=None, fitted_on=fitted_on, figures={}, reason=reason)
        )
    of_splits = [by_split[split].report.calibrator if split in by_split else Calibrator() for split in fits]
    by_fit = {name: calibrator for names, calibrator in zip(fits.values(), of_splits, strict=True) for name in names}
    last = list(by_split.values())[-1]
    calibration = RunCalibration(calibrator=last.report.calibrator, by_fit=by_fit if len(fits) > 1 else {})
    write_json(run.file(CALIBRATION_FILE), calibration.model_dump(mode="json"))

    of_rows = of_splits if reported else []
    final = [
        fold.calibrated(calibrator.natural_logit(fold.raw_by_seed))
        for fold, calibrator in zip(reported, of_rows, strict=True)
    ]
    raw, joined = join(reported), join(final)
    if joined.has_positive:  # the plot has logarithmic axes
        p_by_kind = {"raw": raw.logits.p, "calibrated": joined.logits.p}
        plot_reliability(p_by_kind, joined.label, run.file(RELIABILITY_FILE), joined.weight_in_full_log)
    figures: dict[CalibrationKind, Metrics] = {"none": raw.measure()} if reported else {}
    if len(kinds := {calibrator.kind for calibrator in of_rows}) == 1:
        figures[kinds.pop()] = joined.measure()
    summary = CalibrationSummary(
        chosen=last.report.chosen,
        by_fold={fold.name: calibrator.kind for fold, calibrator in zip(final, of_rows, strict=True)},
        fitted_on="monitored rows",
        loss=loss,
        figures=figures,
        gains=last.report.gains,
        monitored=last.report.figures,
        reason=reason,
    )
    is_alone = monitored is not None and len(fits) == 1
    return Calibration(final, summary, monitored.calibrated(last.natural_by_seed) if monitored and is_alone else None)


def _join_monitored(seeds: Sequence[Predictions]) -> Predictions:
    """The monitored rows of all seeds, which may monitor other rows; those of the same row are in one cluster."""
    if all(np.array_equal(seeds[0].row, one.row) for one in seeds):
        return join_seeds(seeds)
    joined = join(seeds, seeds[0].name)
    return joined if joined.user is not None else replace(joined, user=joined.row)


def _too_few(monitored: Predictions) -> str:
    n_negative, n_positive = map(int, effective_rows_of_classes(monitored.held_out))
    have = "have" if monitored.weight is None else "are, with their weights, as many as"
    return (
        f"the {len(monitored):,} rows that early stopping monitored {have} {n_positive:,} positive and "
        f"{n_negative:,} negative ones, calibration needs {MIN_ROWS_OF_A_CLASS} of each"
    )


def _title(kind: CalibrationKind) -> str:
    return "raw" if kind == "none" else kind


def print_calibration(metrics: RunMetrics) -> None:
    """Prints losses and ECE by calibration kind, forward in time too, and the chosen kind, or why none was fitted.

    The kinds are compared on the rows that the choice is based on. If these are monitored rows, the chosen kind is
    then measured on the reported rows.
    """
    calibration = metrics.calibration
    if calibration is not None and calibration.reason is not None:
        console.print(f"no calibration: {calibration.reason}")
    if calibration is None or calibration.chosen is None:
        return
    shown: tuple[MetricName, ...] = tuple(name for name in _OF_CALIBRATION if name in metrics.shown)
    by_kind, rows = calibration.figures, "cross-fitted"
    if calibration.fitted_on == "monitored rows":
        of_split = " of the last split" if len(calibration.by_fold) > 1 else ""
        by_kind = calibration.monitored
        rows = f"cross-fitted over {by_kind['none'].n_rows:,} monitored rows{of_split}"
    console.print(_calibration_table(f"calibration, {rows}", by_kind, shown))
    console.print(f"chosen calibration: {_choice_text(calibration)}")
    if calibration.fitted_on == "monitored rows" and len(calibration.figures) > 1:
        title = "calibration, fitted to monitored rows, measured on the reported rows"
        console.print(_calibration_table(title, calibration.figures, shown))
    if calibration.forward:
        title = f"calibration of {calibration.forward['none'].n_rows:,} rows of the last days by the days before"
        console.print(_calibration_table(title, calibration.forward, shown))


def _calibration_table(title: str, by_kind: dict[CalibrationKind, Metrics], shown: Sequence[MetricName]) -> Table:
    rows = [TextRow((kind, *format_metrics(metrics, shown))) for kind, metrics in by_kind.items()]
    return text_table(title, ("method", *titles(shown)), rows)


def _choice_text(calibration: CalibrationSummary) -> str:
    """The chosen kind with the interval of its gain; for folds that choose another kind, theirs."""
    others = {fold: kind for fold, kind in calibration.by_fold.items() if kind != calibration.chosen}
    folds = "".join(f", {kind} for fold {fold}" for fold, kind in others.items())
    if calibration.chosen == "none" or calibration.chosen is None:
        return f"none, no gain has an interval above zero{folds}"
    gain = calibration.gains[calibration.chosen]
    return f"{calibration.chosen}, {TITLES[gain.loss]} lower by {format_interval(gain.low, gain.high)}{folds}"
