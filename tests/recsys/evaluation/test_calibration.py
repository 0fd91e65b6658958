import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from recsys.evaluation.calibration import (
    CALIBRATIONS,
    CalibrationKind,
    Calibrator,
    calibrate,
    calibrate_one_fit,
    cross_calibrate,
    fit_calibrator,
)
from recsys.evaluation.logits import Logits, log_pos_weight_of, probability


class GivenLogits(ClassifierMixin, BaseEstimator):
    """A classifier whose only feature is its logit."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "GivenLogits":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] > 0).astype(int)


def overconfident(n: int = 30_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Natural logits with twice the true standard deviation, labels, folds."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 0.7, n)
    label = (rng.random(n) < probability(truth - 3)).astype(np.int8)
    return 2 * truth - 3, label, rng.integers(0, 4, n).astype(str)


def test_temperature_agrees_with_scikit_learn() -> None:
    logit, label, _ = overconfident()
    found = fit_calibrator("temperature", logit, label)
    balance = log_pos_weight_of(label)
    weight = np.where(label == 1, np.exp(balance), 1.0)
    other = CalibratedClassifierCV(
        FrozenEstimator(GivenLogits().fit(logit[:, None], label)), method="temperature", cv=2, ensemble=False
    )
    other.fit((logit + balance)[:, None], label, sample_weight=weight)
    expected = other.predict_proba((logit + balance)[:, None])[:, 1]
    assert np.allclose(probability(found.natural_logit(logit) + balance), expected, atol=1e-4)
    assert found.temperature == pytest.approx(2, rel=0.15)


def test_isotonic_agrees_with_scikit_learn_and_one_prior_row() -> None:
    logit, label, _ = overconfident()
    found = probability(fit_calibrator("isotonic", logit, label).natural_logit(logit))
    other = IsotonicRegression(out_of_bounds="clip").fit(logit, label).predict(logit)
    steps, place, n_rows = np.unique(other, return_inverse=True, return_counts=True)
    n = n_rows[place]
    assert np.allclose(found, (other * n + label.mean()) / (n + 1), rtol=1e-3, atol=1e-6)
    assert len(steps) > 5
    assert found.min() > 0
    assert found.max() < 1


def test_centered_isotonic_interpolates_between_the_middles_of_isotonic_steps() -> None:
    logit, label, _ = overconfident()
    centered, plain = (fit_calibrator(kind, logit, label) for kind in ("centered_isotonic", "isotonic"))
    middle = np.array(centered.knots)
    assert np.allclose(probability(centered.natural_logit(middle)), probability(plain.natural_logit(middle)), rtol=1e-4)
    between = (middle[:-1] + middle[1:]) / 2
    expected = (np.array(centered.rates)[:-1] + np.array(centered.rates)[1:]) / 2
    assert np.allclose(probability(centered.natural_logit(between)), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_calibration_keeps_the_order_of_rows(kind: CalibrationKind) -> None:
    logit, label, _ = overconfident(5000)
    calibrator = Calibrator.model_validate_json(fit_calibrator(kind, logit, label).model_dump_json())
    assert np.array_equal(np.argsort(calibrator.natural_logit(logit)), np.argsort(logit))
    far = calibrator.natural_logit(np.array([-60.0, 0.0, 60.0]))
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()


def test_no_row_is_calibrated_by_its_own_fold() -> None:
    logit, label, fold = overconfident(8000)
    mine = fold == "1"
    turned = np.where(mine, 1 - label, label)
    for kind in ("temperature", "isotonic", "centered_isotonic"):
        before, after = (cross_calibrate(kind, logit, y, fold) for y in (label, turned))
        assert np.array_equal(before[mine], after[mine])
        assert not np.array_equal(before[~mine], after[~mine])


def test_lowest_wll_is_chosen_and_may_be_no_calibration() -> None:
    logit, label, fold = overconfident()
    logits = Logits.of_one_fit(logit, log_pos_weight_of(label))
    report, by_kind = calibrate(logits, label, fold)
    wll = {kind: figures.wll for kind, figures in report.figures.items()}
    assert report.chosen == min(wll, key=lambda kind: wll[kind] or np.inf) != "none"
    assert report.calibrator.kind == report.chosen
    assert report.figures[report.chosen].ece < 0.5 * (report.figures["none"].ece or 0)
    assert np.array_equal(by_kind["none"], logit)
    truth = (logit + 3) / 2 - 3
    assert calibrate(logits.with_natural(truth), label, fold)[0].chosen == "none"


def with_n_positive(n_positive: int, n_negative: int) -> tuple[Logits, np.ndarray]:
    logit, label, _ = overconfident(60_000)
    rows = np.concatenate([np.flatnonzero(label == 1)[:n_positive], np.flatnonzero(label == 0)[:n_negative]])
    return Logits.of_one_fit(logit[rows], log_pos_weight_of(label)), label[rows]


@pytest.mark.parametrize(
    ("n_positive", "n_negative", "kinds"),
    [
        (0, 500, None),
        (19, 500, None),
        (500, 19, None),
        (20, 500, ("none", "temperature")),
        (99, 5000, ("none", "temperature")),
        (5000, 99, ("none", "temperature")),
        (100, 5000, CALIBRATIONS),
    ],
)
def test_kinds_depend_on_the_number_of_rows_of_the_rarer_class(
    n_positive: int, n_negative: int, kinds: tuple[CalibrationKind, ...] | None
) -> None:
    report = calibrate_one_fit(*with_n_positive(n_positive, n_negative))
    assert (tuple(report.figures) if report is not None else None) == kinds


def test_one_overconfident_fit_is_calibrated_for_new_rows() -> None:
    logits, label = with_n_positive(60, 1200)
    report = calibrate_one_fit(logits, label)
    assert report is not None
    assert (report.chosen, report.calibrator.kind) == ("temperature", "temperature")
    logit, new_label, _ = overconfident(20_000, seed=1)
    raw, calibrated = probability(logit), probability(report.calibrator.natural_logit(logit))
    assert log_loss(new_label, calibrated) < log_loss(new_label, raw) - 0.005
    assert report == calibrate_one_fit(logits, label)


def test_noise_of_few_rows_is_no_reason_to_calibrate() -> None:
    """The logits are the true ones: where another kind has the lowest WLL by chance, it is within a standard error."""
    kept = lowest = 0
    for seed in range(20):
        logit, label, _ = overconfident(1000, seed)
        logits = Logits.of_one_fit((logit + 3) / 2 - 3, log_pos_weight_of(label))
        report = calibrate_one_fit(logits, label)
        assert report is not None
        assert report.calibrator.kind == report.chosen
        kept += report.chosen == "none"
        lowest += min(report.figures.values(), key=lambda figures: figures.wll or 0) == report.figures["none"]
    assert kept >= 18 > lowest
