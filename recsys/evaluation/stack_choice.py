"""Chooses a stacking method, and gives every row an ensemble's logit that its own label has no say in.

Within fold k, everything is fitted to the other folds: the calibrators of the members, the stacks, the choice of the
method, and the calibrator of the ensemble. The last two need predictions of the other folds that do not know fold k
either: they come from a second cross-fit, over the other folds.

Shapes: N rows of a data set, M models of an ensemble (its members).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.evaluation.calibration.calibrator import CalibrationKind, Calibrator
from recsys.evaluation.calibration.choice import CalibratedRows, calibrate, fit_chosen, fit_to_rows
from recsys.evaluation.calibration.gain import CalibrationLoss
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.cross_fitting import ScoreFunction, cross_fit
from recsys.evaluation.metrics import MetricName
from recsys.evaluation.stack_fitting import fit_stack
from recsys.evaluation.stacking import Stack, StackMethod


@dataclass(frozen=True, eq=False)
class Member:
    """A model of an ensemble."""

    name: str
    rows: HeldOutRows
    """The rows that all members share, with the folds of the ensemble and the raw logits of this member."""
    calibrator: Calibrator
    """For new rows."""
    kind_by_fold: Mapping[str, CalibrationKind]
    """The kind of calibration that the rows outside a fold chose when the member was calibrated."""
    loss: CalibrationLoss
    """What a kind is chosen by for a fold without one."""

    def fit_calibrator(self, rows: np.ndarray, fold: str) -> Calibrator:
        """The calibrator of a fold, fitted to the rows at positions."""
        fitted, kind = self.rows.take(rows), self.kind_by_fold.get(fold)
        return fit_chosen(fitted, self.loss) if kind is None else fit_to_rows(kind, fitted)


@dataclass(frozen=True, eq=False)
class StackedRows:
    """The cross-fitted predictions of an ensemble."""

    method: StackMethod
    """The best method on all rows, for new rows."""
    method_by_fold: dict[str, StackMethod]
    """By fold: the best method on the other folds, which scores the fold."""
    by_method: dict[StackMethod, np.ndarray]
    """By method: [N] natural logits of the ensemble before its own calibration."""
    raw: np.ndarray
    """[N] natural logits before the ensemble's own calibration, each fold by its method."""
    calibrated: CalibratedRows
    """Its logits are the reported ones."""


def cross_fit_members(
    members: Sequence[Member],
    methods: Sequence[StackMethod],
    metric: MetricName = "wll",
    rows: HeldOutRows | None = None,
    outside_of: str | None = None,
    on_fold: Callable[[], None] = lambda: None,
) -> dict[StackMethod, np.ndarray]:
    """[N] natural logits of an ensemble by method; calibrators and stacks of a fold are fitted to the other folds.

    Args:
        members: the members.
        methods: the stacking methods.
        metric: what greedy stacks are chosen by.
        rows: the members' rows with other folds; None takes them as they are.
        outside_of: the fold whose kinds of calibration are used; None takes those of each fold itself.
        on_fold: called after each fold.
    """
    rows = members[0].rows if rows is None else rows
    names, weight = [member.name for member in members], rows.weight_in_full_log

    def fit(outside: np.ndarray) -> ScoreFunction:
        inside = np.setdiff1d(np.arange(len(rows)), outside)
        fold = str(rows.fold[inside[0]]) if outside_of is None else outside_of
        calibrators = [member.fit_calibrator(outside, fold) for member in members]
        inputs, label = _inputs(members, calibrators, outside), rows.label[outside]
        fit_weight = None if weight is None else weight[outside]
        stacks = [fit_stack(method, names, inputs, label, fit_weight, metric) for method in methods]
        on_fold()

        def score(held_out: np.ndarray) -> np.ndarray:
            held_out_inputs = _inputs(members, calibrators, held_out)
            return np.stack([stack.natural_logit(held_out_inputs) for stack in stacks], axis=1)

        return score

    return dict(zip(methods, cross_fit(rows.fold, fit).T, strict=True))


def cross_fit_ensemble(
    members: Sequence[Member],
    methods: Sequence[StackMethod],
    metric: MetricName,
    loss: CalibrationLoss,
    on_fold: Callable[[], None] = lambda: None,
) -> StackedRows:
    """Cross-fits an ensemble of members whose rows can be cross-fitted.

    Args:
        members: the members.
        methods: the stacking methods to choose from.
        metric: what methods are chosen by.
        loss: what calibrations are chosen by.
        on_fold: called after each fold of a cross-fit: K times K for K folds.
    """
    rows = members[0].rows
    by_method = cross_fit_members(members, methods, metric, on_fold=on_fold)
    method = max(methods, key=lambda name: rows.measure(by_method[name]).signed(metric))
    method_by_fold: dict[str, StackMethod] = {}
    calibrator_by_fold: dict[str, Calibrator] = {}
    raw, natural = np.empty(len(rows)), np.empty(len(rows))
    for name in map(str, np.unique(rows.fold)):
        is_inside = rows.fold == name
        method_by_fold[name], calibrator = _choose_outside(members, name, methods, metric, loss, on_fold)
        raw[is_inside] = by_method[method_by_fold[name]][is_inside]
        natural[is_inside] = calibrator.natural_logit(raw[is_inside])
        calibrator_by_fold[name] = calibrator
    calibrated = calibrate(replace(rows, raw_by_seed=by_method[method][:, None]), loss)
    report = calibrated.report.model_copy(update={"by_fold": calibrator_by_fold})
    calibrated = replace(calibrated, report=report, natural_by_seed=natural[:, None])
    return StackedRows(method, method_by_fold, by_method, raw, calibrated)


def fit_stack_to_all(members: Sequence[Member], method: StackMethod, metric: MetricName = "wll") -> Stack:
    """Fits the stack for new rows to all rows, with the members' calibrators for new rows."""
    rows = members[0].rows
    inputs = _inputs(members, [member.calibrator for member in members], np.arange(len(rows)))
    names = [member.name for member in members]
    stack = fit_stack(method, names, inputs, rows.label, rows.weight_in_full_log, metric)
    return stack.model_copy(update={"is_on_calibrated": True})


def _choose_outside(
    members: Sequence[Member],
    fold: str,
    methods: Sequence[StackMethod],
    metric: MetricName,
    loss: CalibrationLoss,
    on_fold: Callable[[], None],
) -> tuple[StackMethod, Calibrator]:
    """The method and the ensemble's calibrator for a fold, by a cross-fit over the other folds."""
    is_outside = members[0].rows.fold != fold
    rows = members[0].rows.take(is_outside).in_parts()
    if not rows.can_cross_fit:
        return methods[0], Calibrator()
    outside = [replace(member, rows=member.rows.take(is_outside)) for member in members]
    by_method = cross_fit_members(outside, methods, metric, rows, fold, on_fold)
    method = max(methods, key=lambda name: rows.measure(by_method[name]).signed(metric))
    return method, fit_chosen(replace(rows, raw_by_seed=by_method[method][:, None]), loss)


def _inputs(members: Sequence[Member], calibrators: Sequence[Calibrator], rows: np.ndarray) -> np.ndarray:
    """[n, M] calibrated natural logits of rows, means over seeds."""
    columns = [
        calibrator.natural_logit(member.rows.raw_by_seed[rows]).mean(axis=1)
        for member, calibrator in zip(members, calibrators, strict=True)
    ]
    return np.stack(columns, axis=1)
