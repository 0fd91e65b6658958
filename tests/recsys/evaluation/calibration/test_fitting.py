import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from recsys.evaluation.calibration.calibrator import CALIBRATIONS, CalibrationKind, Calibrator, RunCalibration
from recsys.evaluation.calibration.fitting import fit_calibrator
from recsys.evaluation.logits import log_pos_weight_of, probability
from tests.helpers.calibration import overconfident


class GivenLogits(ClassifierMixin, BaseEstimator):
    """A classifier whose only feature is its logit."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "GivenLogits":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] > 0).astype(int)


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


@pytest.mark.parametrize("rate", [None, 0.1])
def test_platt_agrees_with_logistic_regression(rate: float | None) -> None:
    """With weights of negatives too, by which the rows stand for a full log."""
    logit, label, _ = overconfident(8000)
    weight = None if rate is None else np.where(label == 1, 1.0, 1 / rate)
    found = fit_calibrator("platt", 0.5 * logit + 1, label, weight)
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit((0.5 * logit + 1)[:, None], label, weight)
    assert found.slope == pytest.approx(other.coef_[0, 0], rel=1e-4)
    assert found.intercept == pytest.approx(other.intercept_[0], abs=1e-4)
    if rate is None:  # the truth is (logit + 3) / 2 - 3 with logit = 2 (0.5 logit + 1) - 2
        assert (found.slope, found.intercept) == pytest.approx((1, -2.5), abs=0.1)


def test_beta_agrees_with_logistic_regression_on_its_two_inputs() -> None:
    logit, label, _ = overconfident(8000)
    found = fit_calibrator("beta", logit, label)
    s = probability(logit + found.balance)
    inputs = np.column_stack([np.log(s), -np.log(1 - s)])
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(inputs, label)
    assert (other.coef_ > 0).all()  # so that the bounds hold
    assert found.exponents == pytest.approx(tuple(other.coef_[0]), abs=2e-3)
    assert found.natural_logit(logit) == pytest.approx(other.decision_function(inputs), abs=5e-3)


def test_beta_of_the_identity_by_hand() -> None:
    """With a = b = 1 and c = - balance, beta calibration is the identity: ln s - ln (1 - s) is the logit."""
    logit = np.array([-5.0, 0.0, 2.0])
    identity = Calibrator(kind="beta", balance=1.5, exponents=(1.0, 1.0), intercept=-1.5)
    assert identity.natural_logit(logit) == pytest.approx(logit, abs=1e-6)
    # a = 2, b = 0, balance 0, c = 1: 2 ln s + 1; at logit 0, s = 1 / 2
    assert Calibrator(kind="beta", exponents=(2.0, 0.0), intercept=1.0).natural_logit(np.zeros(1)) == pytest.approx(
        2 * np.log(0.5) + 1
    )


def test_a_negative_exponent_of_beta_is_zero_and_the_others_are_fitted_again() -> None:
    rng = np.random.default_rng(3)
    logit = rng.normal(0, 2, 20_000)
    label = (rng.random(20_000) < probability(np.minimum(logit, 0.5 - 0.3 * logit))).astype(np.int8)
    found = fit_calibrator("beta", logit, label)
    assert found.exponents[0] > 0.5
    assert found.exponents[1] == 0
    assert (np.diff(found.natural_logit(np.sort(logit))) > 0).all()


def test_a_model_worse_than_chance_keeps_its_order() -> None:
    logit, label, _ = overconfident(5000)
    found = fit_calibrator("platt", -logit, label)
    assert found.slope == pytest.approx(np.exp(-3))
    assert probability(found.natural_logit(-logit)).mean() == pytest.approx(label.mean(), rel=0.02)


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


def test_calibrators_of_earlier_files_are_those_of_every_fit() -> None:
    earlier = RunCalibration.model_validate({"kind": "temperature", "temperature": 2.0, "balance": 1.0})
    assert earlier.of_fit("fold_0") == Calibrator(kind="temperature", temperature=2.0, balance=1.0)
    own = RunCalibration(by_fit={"forward_1": earlier.calibrator})
    assert own.of_fit("forward_1").kind == "temperature"
    assert own.of_fit("forward_2").kind == "none"
