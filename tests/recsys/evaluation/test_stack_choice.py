from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from recsys.evaluation.calibration.calibrator import Calibrator
from recsys.evaluation.calibration.choice import calibrate
from recsys.evaluation.logits import probability
from recsys.evaluation.metrics import measure
from recsys.evaluation.stack_choice import Member, StackedRows, cross_fit_ensemble, cross_fit_members, fit_stack_to_all
from recsys.evaluation.stacking import STACK_METHODS, StackMethod
from tests.helpers.calibration import held_out, uncalibrated

N = 3000
FOLD = (np.arange(N) % 3).astype(str)


def two_views(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """[N, 2] logits of two members with a wrong scale, and labels."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.5, 1, N)
    label = (rng.random(N) < probability(truth)).astype(np.int8)
    return np.stack([2 * (truth + rng.normal(0, 0.5, N)), 0.5 * (truth + rng.normal(0, 0.6, N)) + 1], axis=1), label


def calibrated_members(logits: np.ndarray, label: np.ndarray, fold: np.ndarray = FOLD) -> list[Member]:
    """Members as of two finished runs, each with the calibration that it chose by itself."""
    members = []
    for name, column in zip("ab", logits.T, strict=True):
        rows = held_out(column, label, fold, shift=1.5)
        report = calibrate(rows).report
        kinds = {fold: calibrator.kind for fold, calibrator in report.by_fold.items()}
        members.append(Member(name, rows, report.calibrator, kinds, "logloss"))
    return members


def ensemble(members: Sequence[Member], methods: Sequence[StackMethod] = STACK_METHODS) -> StackedRows:
    return cross_fit_ensemble(members, methods, "logloss", "logloss")


def test_a_row_has_no_say_in_its_own_prediction_of_calibrated_members() -> None:
    """Its label is turned before anything is fitted: calibrations, stacks, the method, the ensemble's calibration."""
    logits, label = two_views()
    row = int(np.flatnonzero((label == 0) & (FOLD == "1"))[0])
    turned = label.copy()
    turned[row] = 1
    before, after = (ensemble(calibrated_members(logits, labels)) for labels in (label, turned))
    mine, others = FOLD == "1", FOLD != "1"
    for found in ("raw", "natural"):
        a, b = (of.raw if found == "raw" else of.calibrated.natural_by_seed[:, 0] for of in (before, after))
        assert np.array_equal(a[mine], b[mine]), found
        assert not np.array_equal(a[others], b[others]), found


def test_members_that_are_calibrated_by_other_folds_alone_would_leak() -> None:
    """The twin: a stack on the members' reported logits knows the row by way of the other rows' calibrators."""
    logits, label = two_views()
    row = int(np.flatnonzero((label == 0) & (FOLD == "1"))[0])
    turned = label.copy()
    turned[row] = 1
    scores = []
    for labels in (label, turned):
        reported = [calibrate(member.rows).natural_by_seed[:, 0] for member in calibrated_members(logits, labels)]
        members = uncalibrated("ab", np.stack(reported, axis=1), labels, FOLD)
        scores.append(cross_fit_members(members, ("logistic",))["logistic"])
    assert not np.array_equal(scores[0][FOLD == "1"], scores[1][FOLD == "1"])


def test_each_fold_has_the_method_that_the_other_folds_choose() -> None:
    """In fold 2 the second member is noise: its rows speak for weights, those of the others for both members."""
    logits, label = two_views()
    noise = np.random.default_rng(1).normal(size=N)
    logits[:, 1] = np.where(FOLD == "2", 6 * noise, logits[:, 1])
    found = ensemble(uncalibrated("ab", logits, label, FOLD), ("logit_mean", "weights"))
    turned = np.where(FOLD == "2", 1 - label, label)
    again = ensemble(uncalibrated("ab", logits, turned, FOLD), ("logit_mean", "weights"))
    assert found.method_by_fold["2"] == again.method_by_fold["2"]
    for name in "012":
        inside = name == FOLD
        method = found.method_by_fold[name]
        assert np.array_equal(found.raw[inside], found.by_method[method][inside])
        rest = uncalibrated("ab", logits[~inside], label[~inside], FOLD[~inside])
        by_method = cross_fit_members(rest, ("logit_mean", "weights"))
        losses = {key: rest[0].rows.measure(natural).logloss or np.inf for key, natural in by_method.items()}
        assert method == min(losses, key=lambda key: losses[key])


def test_the_reported_predictions_are_calibrated() -> None:
    logits, label = two_views()
    found = ensemble(calibrated_members(logits, label))
    rows = held_out(logits[:, 0], label, FOLD, shift=1.5)
    raw, reported = rows.measure(found.raw), rows.measure(found.calibrated.natural_by_seed[:, 0])
    uncalibrated_mean = rows.measure(logits.mean(axis=1))
    assert reported.logloss < uncalibrated_mean.logloss - 0.01
    assert reported.logloss == pytest.approx(raw.logloss, abs=0.002)  # the members are calibrated already


def test_the_stack_for_new_rows_reads_the_calibrators_for_new_rows() -> None:
    logits, label = two_views()
    members = calibrated_members(logits, label)
    stack = fit_stack_to_all(members, "logit_mean")
    assert stack.is_on_calibrated
    inputs = [member.calibrator.natural_logit(column) for member, column in zip(members, logits.T, strict=True)]
    expected = held_out(np.mean(inputs, axis=0), label)
    found = stack.natural_logit(np.stack(inputs, axis=1))
    assert measure(label, expected.logits.with_natural(found)) == expected.measure(np.mean(inputs, axis=0))


@pytest.mark.parametrize("n_folds", [2, 3])
def test_two_folds_are_enough(n_folds: int) -> None:
    logits, label = two_views()
    fold = (np.arange(N) % n_folds).astype(str)
    found = ensemble(calibrated_members(logits, label, fold), ("logit_mean", "logistic"))
    assert set(found.method_by_fold) == set(np.unique(fold))
    assert np.isfinite(found.calibrated.natural_by_seed).all()


def test_a_fold_without_a_recorded_kind_chooses_one_on_the_other_folds() -> None:
    logits, label = two_views()
    recorded = calibrated_members(logits, label)
    unknown = [replace(member, calibrator=Calibrator(), kind_by_fold={}) for member in recorded]
    first, second = (cross_fit_members(members, ("logit_mean",))["logit_mean"] for members in (recorded, unknown))
    assert np.array_equal(first, second)
