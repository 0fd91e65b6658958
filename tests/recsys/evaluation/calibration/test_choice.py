from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from recsys.evaluation.calibration.calibrator import CALIBRATIONS, CalibrationKind
from recsys.evaluation.calibration.choice import calibrate, calibrate_one_fit, cross_calibrate, fit_to_rows
from recsys.evaluation.calibration.gain import CalibrationLoss
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.logits import probability
from tests.helpers.calibration import held_out, overconfident

LOSSES: tuple[CalibrationLoss, ...] = ("logloss", "wll")


@pytest.mark.parametrize("kind", [kind for kind in CALIBRATIONS if kind != "none"])
def test_no_row_is_calibrated_by_its_own_fold(kind: CalibrationKind) -> None:
    logit, label, fold = overconfident(8000)
    mine = fold == "1"
    turned = np.where(mine, 1 - label, label)
    before, after = (cross_calibrate(kind, held_out(logit, y, fold, shift=3.0)) for y in (label, turned))
    assert np.array_equal(before[mine], after[mine])
    assert not np.array_equal(before[~mine], after[~mine])


@pytest.mark.parametrize("n_folds", [2, 4])
def test_a_row_has_no_say_in_its_own_prediction_not_even_in_the_choice_of_the_kind(n_folds: int) -> None:
    """One label is turned, of the row whose label matters most; a choice on all rows would change."""
    logit, label, _ = overconfident(3000)
    fold = (np.arange(3000) % n_folds).astype(str)
    row = int(np.flatnonzero(label == 0)[np.argmin(logit[label == 0])])
    rows = held_out(logit, label, fold, shift=3.0)
    turned = replace(rows, label=np.where(np.arange(3000) == row, 1 - label, label))
    before, after = calibrate(rows), calibrate(turned)
    assert before.natural_by_seed[row] == after.natural_by_seed[row]
    others = fold != fold[row]
    assert not np.array_equal(before.natural_by_seed[others], after.natural_by_seed[others])
    name = fold[row]
    assert before.report.by_fold[name] == after.report.by_fold[name]


def test_a_choice_on_all_rows_would_know_the_row() -> None:
    """The twin of the test above: turned labels of a fold change the kind for new rows, but not that of the fold."""
    logit, label, fold = overconfident(4000)
    truth = (logit + 3) / 2 - 3
    rows = held_out(np.where(fold == "0", logit, truth), label, fold, shift=3.0)
    turned = replace(rows, label=np.where(fold == "0", 1 - label, label))
    before, after = calibrate(rows), calibrate(turned)
    assert before.report.chosen != after.report.chosen
    assert before.report.by_fold["0"] == after.report.by_fold["0"]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_lowest_loss_among_gains_above_zero_is_chosen(loss: CalibrationLoss) -> None:
    logit, label, fold = overconfident()
    rows = held_out(logit, label, fold)
    calibrated = calibrate(rows, loss)
    report = calibrated.report
    values = {kind: figures.value(loss) or np.inf for kind, figures in report.figures.items()}
    assert report.chosen == min(values, key=lambda kind: values[kind]) != "none"
    assert report.calibrator == fit_to_rows(report.chosen, rows)
    for kind, gain in report.gains.items():
        assert gain.value == pytest.approx(values["none"] - values[kind])
        assert gain.low > 0
    assert set(report.by_fold) == {"0", "1", "2", "3"}
    assert report.figures[report.chosen].ece < 0.5 * (report.figures["none"].ece or 0)
    assert np.array_equal(calibrated.by_kind["none"], logit)


def test_true_logits_stay_as_they_are() -> None:
    logit, label, fold = overconfident()
    rows = held_out((logit + 3) / 2 - 3, label, fold)
    calibrated = calibrate(rows)
    assert calibrated.report.chosen == "none"
    assert np.array_equal(calibrated.natural_by_seed, rows.raw_by_seed)


def test_noise_is_no_reason_to_calibrate_even_where_a_kind_has_the_lowest_loss() -> None:
    """The logits are the true ones: another kind has the lowest loss by chance in some of 20 samples."""
    kept = lowest = 0
    for seed in range(20):
        logit, label, fold = overconfident(1500, seed)
        report = calibrate(held_out((logit + 3) / 2 - 3, label, fold)).report
        kept += report.chosen == "none"
        lowest += min(report.figures.values(), key=lambda figures: figures.logloss or 0) == report.figures["none"]
    assert kept >= 19 > lowest


def test_seeds_share_a_calibrator_and_are_averaged_after_it() -> None:
    logit, label, fold = overconfident(6000)
    rng = np.random.default_rng(1)
    by_seed = logit[:, None] + rng.normal(0, 0.3, (6000, 3))
    rows = held_out(by_seed, label, fold)
    calibrated = calibrate(rows)
    assert calibrated.natural_by_seed.shape == (6000, 3)
    inside = fold == "2"
    calibrator = calibrated.report.by_fold["2"]
    assert np.array_equal(calibrated.natural_by_seed[inside], calibrator.natural_logit(by_seed[inside]))
    pooled = held_out(by_seed[~inside].T.ravel(), np.tile(label[~inside], 3))
    assert calibrator == fit_to_rows(calibrator.kind, pooled)
    expected = rows.measure(cross_calibrate("platt", rows).mean(axis=1))
    assert calibrated.report.figures["platt"] == expected


def with_n_positive(n_positive: int, n_negative: int) -> HeldOutRows:
    logit, label, _ = overconfident(60_000)
    rows = np.concatenate([np.flatnonzero(label == 1)[:n_positive], np.flatnonzero(label == 0)[:n_negative]])
    return held_out(logit[rows], label[rows], shift=3.0)


FEW = ("none", "temperature", "platt")


@pytest.mark.parametrize(
    ("n_positive", "n_negative", "kinds"),
    [
        (0, 500, None),
        (19, 500, None),
        (500, 19, None),
        (26, 500, FEW),
        (99, 5000, FEW),
        (5000, 99, FEW),
        (100, 5000, CALIBRATIONS),
    ],
)
def test_kinds_depend_on_the_number_of_rows_of_the_rarer_class(
    n_positive: int, n_negative: int, kinds: tuple[CalibrationKind, ...] | None
) -> None:
    calibrated = calibrate_one_fit(with_n_positive(n_positive, n_negative))
    assert (tuple(calibrated.report.figures) if calibrated is not None else None) == kinds


def test_one_overconfident_fit_is_calibrated_for_new_rows() -> None:
    rows = with_n_positive(90, 1800)
    calibrated = calibrate_one_fit(rows)
    assert calibrated is not None
    report = calibrated.report
    assert report.chosen in ("temperature", "platt")
    logit, new_label, _ = overconfident(20_000, seed=1)
    raw, new = probability(logit), probability(report.calibrator.natural_logit(logit))
    assert log_loss(new_label, new) < log_loss(new_label, raw) - 0.005
    again = calibrate_one_fit(rows)
    assert again is not None
    assert again.report == report


def test_parts_of_one_fit_keep_the_rows_of_a_user_together() -> None:
    logit, label, _ = overconfident(3000)
    user = np.arange(3000) // 10
    parts = replace(held_out(logit, label), user=user).in_parts()
    assert len(np.unique(parts.fold)) == 5
    assert all(len(np.unique(parts.fold[user == name])) == 1 for name in range(300))
    alone = held_out(logit, label).in_parts()
    assert any(len(np.unique(alone.fold[user == name])) > 1 for name in range(300))
