"""Ensembles on rows that are later than others: the holdout, and the forward windows.

For each window the stack's method and weights, and the calibration of its output, come from out-of-fold predictions of
rows before the window. The members' predictions of the window are those of fits to earlier rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ensemble import as_predictions, natural_logits, stack_summary
from pipelines.plan.config import EnsembleStep
from pipelines.plan.state import PlanState
from recsys.evaluation.calibration.calibrator import Calibrator, RunCalibration
from recsys.evaluation.calibration.choice import fit_chosen
from recsys.evaluation.calibration.gain import loss_of
from recsys.evaluation.gates import EvaluateOn
from recsys.evaluation.metrics import MetricName
from recsys.evaluation.stack_choice import Member, cross_fit_members, fit_stack_to_all
from recsys.evaluation.stacking import STACK_METHODS, Stack
from recsys.runs.folder import RunFolder
from recsys.runs.layout import CALIBRATION_FILE, STACK_FILE
from recsys.runs.metrics import CalibrationSummary, HoldoutEnsembleMetrics
from recsys.runs.predictions import RunPredictions, by_fold, join, join_predictions, read_predictions
from recsys.runs.summary import spread
from recsys.system.files import is_done, write_json

LATER: tuple[EvaluateOn, ...] = ("holdout", "forward")
"""Evaluation rows that are later than the rows of their fits."""


def stack_later_rows(state: PlanState, step: EnsembleStep, ensemble: RunFolder) -> None:
    """Stacks the finished members on each kind of later rows that all of them were evaluated on.

    Args:
        state: the plan.
        step: the ensemble's step.
        ensemble: its finished run over the folds.
    """
    names = [name for name in step.members if is_done(state.folder(name))]
    for evaluate_on in LATER:
        if all(is_done(state.folder(name, evaluate_on)) for name in names):
            _stack(state, step, names, ensemble, evaluate_on)


def _stack(
    state: PlanState, step: EnsembleStep, names: Sequence[str], ensemble: RunFolder, evaluate_on: EvaluateOn
) -> None:
    folders = [state.folder(name, evaluate_on) for name in names]
    config = {"model": {"name": "ensemble", "metric": state.metric}, "members": [folder.name for folder in folders]}
    run = RunFolder(state.folder(step.name, evaluate_on), config)
    if run.is_done:
        return
    folds = join_predictions([read_predictions(state.folder(name)) for name in names])
    later = join_predictions([read_predictions(folder) for folder in folders])
    stacked = stack_windows(state.metric, folds, later)
    raw = as_predictions(later[0], stacked.raw)
    predictions = by_fold(raw.calibrated(stacked.natural[:, None]))
    joined = join(predictions)
    fold_metrics = {scored.name: scored.measure() for scored in predictions}
    last = stacked.windows[-1]
    calibration = CalibrationSummary(
        chosen=last.calibrator.kind,
        by_fold={window.name: window.calibrator.kind for window in stacked.windows},
        loss=loss_of(state.metric),
        figures={"none": raw.measure()},
    )
    metrics = HoldoutEnsembleMetrics(
        overall=joined.measure(),
        raw=raw.measure(),
        folds=fold_metrics,
        spread=spread(list(fold_metrics.values())),
        segments={},
        train=stack_summary(predictions),
        named_metrics=ensemble.metrics().named_metrics,
        calibration=calibration,
        method=last.stack.method,
    )
    write_json(run.file(STACK_FILE), last.stack.model_dump(mode="json"))
    write_json(run.file(CALIBRATION_FILE), RunCalibration(calibrator=last.calibrator).model_dump(mode="json"))
    run.finish(metrics, predictions, later[0].row_id.take(pa.array(joined.row)))


@dataclass(frozen=True)
class WindowStack:
    """The stack of a window, and the calibrator of its output."""

    name: str
    """The name of the window."""
    stack: Stack
    calibrator: Calibrator


@dataclass(frozen=True, eq=False)
class StackedWindows:
    """The predictions of an ensemble for n rows of windows."""

    windows: list[WindowStack]
    """From the earliest to the latest."""
    raw: np.ndarray
    """[n] natural logits before the ensemble's own calibration."""
    natural: np.ndarray
    """[n] calibrated natural logits."""


def windows_in_order(fold: np.ndarray) -> list[str]:
    """The names of windows, `holdout` or `forward_K`, from the earliest to the latest."""
    return sorted(map(str, np.unique(fold)), key=lambda name: int(name.rpartition("_")[2]) if "_" in name else 0)


def stack_windows(
    metric: MetricName, folds: Sequence[RunPredictions], later: Sequence[RunPredictions]
) -> StackedWindows:
    """Stacks the members on each window with a stack of the rows before it.

    Args:
        metric: the metric that the stacking method is chosen by.
        folds: the members' out-of-fold predictions of the same rows.
        later: the members' predictions of the windows, of the same rows.
    """
    fold, names = later[0].fold, windows_in_order(later[0].fold)
    raw, natural, windows = np.empty(len(fold)), np.empty(len(fold)), []
    for number, name in enumerate(names):
        not_before = later[0].row_id.filter(pa.array(np.isin(fold, names[number:])))
        stack, calibrator = stack_of_earlier_rows(metric, folds, [run.name for run in later], not_before)
        positions = np.flatnonzero(fold == name)
        raw[positions] = stack.natural_logit(natural_logits([run.take(positions) for run in later]))
        natural[positions] = calibrator.natural_logit(raw[positions])
        windows.append(WindowStack(name, stack, calibrator))
    return StackedWindows(windows, raw, natural)


def stack_of_earlier_rows(
    metric: MetricName, folds: Sequence[RunPredictions], names: Sequence[str], not_before: pa.Array
) -> tuple[Stack, Calibrator]:
    """Fits a stack and its calibrator on the out-of-fold rows before a window, which also choose their kinds.

    The members' calibrators for these rows are fitted to them alone; the rows of the window have the calibration of
    their own runs.

    Args:
        metric: the metric that the method is chosen by, cross-fitted over the folds.
        folds: out-of-fold predictions of the same rows by the members.
        names: the members' names in the stack.
        not_before: the ids of the rows of the window and of later ones.
    """
    earlier = np.flatnonzero(~np.asarray(pc.is_in(folds[0].row_id, value_set=not_before)))
    loss, fold_of_row = loss_of(metric), folds[0].fold[earlier]
    members = []
    for run, name in zip(folds, names, strict=True):
        rows = replace(run.take(earlier).predictions.held_out, fold=fold_of_row)
        calibrator = fit_chosen(rows, loss)
        kinds = dict.fromkeys(map(str, np.unique(fold_of_row)), calibrator.kind)
        members.append(Member(name, rows, calibrator, kinds, loss))
    rows = members[0].rows
    if not rows.can_cross_fit:
        return fit_stack_to_all(members, "logit_mean"), Calibrator()
    by_method = cross_fit_members(members, STACK_METHODS, metric)
    method = max(STACK_METHODS, key=lambda name: rows.measure(by_method[name]).signed(metric))
    calibrator = fit_chosen(replace(rows, raw_by_seed=by_method[method][:, None]), loss)
    return fit_stack_to_all(members, method, metric), calibrator
