"""Ensembles on rows that are later than others: the holdout, and the forward windows.

For each window the stack's method and weights come from out-of-fold predictions of rows before the window. The members'
predictions of the window are those of fits to earlier rows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ensemble import natural_logits, stack_summary
from pipelines.plan.config import EnsembleStep
from pipelines.plan.state import PlanState
from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.gates import EvaluateOn
from recsys.evaluation.metrics import MetricName, measure
from recsys.evaluation.stack_fitting import cross_fit_stack, fit_stack
from recsys.evaluation.stacking import STACK_METHODS, Stack, StackMethod
from recsys.runs.calibration import calibrate_run
from recsys.runs.folder import RunFolder
from recsys.runs.layout import STACK_FILE
from recsys.runs.metrics import HoldoutEnsembleMetrics
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
    natural, stacks = stack_windows(state.metric, folds, later)
    first = later[0]
    logits = first.logits.with_natural(natural)
    predictions = by_fold(first.label, first.fold, logits, first.weight)
    fold_metrics = {scored.name: scored.measure() for scored in predictions}
    last = stacks[-1]
    metrics = HoldoutEnsembleMetrics(
        overall=measure(first.label, logits, first.weight),
        folds=fold_metrics,
        spread=spread(list(fold_metrics.values())),
        segments={},
        train=stack_summary(predictions),
        named_metrics=ensemble.metrics().named_metrics,
        calibration=calibrate_run(run, predictions),
        method=last.method,
    )
    write_json(run.file(STACK_FILE), last.model_dump(mode="json"))
    run.finish(metrics, predictions, first.row_id.take(pa.array(join(predictions).row)))


def windows_in_order(fold: np.ndarray) -> list[str]:
    """The names of windows, `holdout` or `forward_K`, from the earliest to the latest."""
    return sorted(map(str, np.unique(fold)), key=lambda name: int(name.rpartition("_")[2]) if "_" in name else 0)


def stack_windows(
    metric: MetricName, folds: Sequence[RunPredictions], later: Sequence[RunPredictions]
) -> tuple[np.ndarray, list[Stack]]:
    """Stacks the members on each window with a stack of the rows before it.

    Args:
        metric: the metric that the stacking method is chosen by.
        folds: the members' out-of-fold predictions of the same rows.
        later: the members' predictions of the windows, of the same rows.

    Returns:
        The natural logits of the rows of `later`, and the stack of each window.
    """
    fold, names = later[0].fold, windows_in_order(later[0].fold)
    natural, stacks = np.empty(len(fold)), []
    members = [run.name for run in later]
    for number, name in enumerate(names):
        not_before = later[0].row_id.filter(pa.array(np.isin(fold, names[number:])))
        stack = stack_of_earlier_rows(metric, members, folds, not_before)
        positions = np.flatnonzero(fold == name)
        natural[positions] = stack.natural_logit(natural_logits([run.take(positions) for run in later]))
        stacks.append(stack)
    return natural, stacks


def stack_of_earlier_rows(
    metric: MetricName, members: Sequence[str], folds: Sequence[RunPredictions], not_before: pa.Array
) -> Stack:
    """Chooses and fits a stack on the out-of-fold rows that are before a window.

    Args:
        metric: the metric that the method is chosen by, cross-fitted over the folds.
        members: names of the members.
        folds: their out-of-fold predictions of the same rows.
        not_before: the ids of the rows of the window and of later ones.
    """
    earlier = np.flatnonzero(~np.asarray(pc.is_in(folds[0].row_id, value_set=not_before)))
    runs = [run.take(earlier) for run in folds]
    first, natural_NM = runs[0], natural_logits(runs)
    weight, names = first.predictions.weight_in_full_log, list(members)
    if not can_cross_fit(first.label, first.fold, first.weight):
        return fit_stack("logit_mean", names, natural_NM, first.label, weight)

    def score(method: StackMethod) -> float:
        natural = cross_fit_stack(method, names, natural_NM, first.label, first.fold, weight)
        return measure(first.label, first.logits.with_natural(natural), first.weight).signed(metric)

    return fit_stack(max(STACK_METHODS, key=score), names, natural_NM, first.label, weight)
