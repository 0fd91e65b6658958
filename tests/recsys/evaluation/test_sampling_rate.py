"""Negatives that were sampled before the log came: p is that of the full log."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from recsys.evaluation.calibration.choice import calibrate
from recsys.evaluation.comparison import paired_bootstrap
from recsys.evaluation.logits import LogitLink, Logits, log_pos_weight_of, logit_of, probability
from recsys.evaluation.metrics import measure
from recsys.evaluation.stack_fitting import fit_stack
from tests.helpers.calibration import held_out

RATE = 0.1


def sample(n: int = 200_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True click probabilities and labels of a full log, and which of its rows are kept."""
    rng = np.random.default_rng(seed)
    p = probability(rng.normal(-3, 1, n))
    label = (rng.random(n) < p).astype(np.int8)
    return p, label, (label == 1) | (rng.random(n) < RATE)


def test_p_and_q_by_hand() -> None:
    """A cell with 2 clicks in 100 rows, of whose 98 negatives a tenth is kept: its odds are 2 / 9.8, times w = 4."""
    link = LogitLink(trained_weight=4.0, balancing_weight=5.0, sampling_rate=0.1)
    logits = link.logits(np.array([np.log(4.0 * 2 / 9.8)]))
    assert logits.p == pytest.approx(0.02)
    # in the full log N_neg / N_pos is 50, so q has the odds 50 * 2 / 98; in the sample 5 * 2 / 9.8 are the same
    assert logits.q == pytest.approx((100 / 98) / (1 + 100 / 98))
    whole = LogitLink(trained_weight=4.0, balancing_weight=5.0).logits(np.array([np.log(4.0 * 2 / 9.8)]))
    assert whole.p == pytest.approx(2 / 11.8)
    assert whole.q == pytest.approx(logits.q)


def test_a_link_of_natural_logits_changes_them_in_nothing() -> None:
    natural = np.linspace(-5, 1, 7)
    for rate in (1.0, 0.03):
        logits = LogitLink.of_natural(3.2, np.log(rate)).logits(natural)
        assert np.allclose(logits.natural, natural)
        assert logits.log_pos_weight == pytest.approx(3.2)
        assert logits.log_sampling_rate == pytest.approx(np.log(rate))
    assert LogitLink.of_natural(0.0) == LogitLink(1.0, 1.0)


def test_metrics_of_p_estimate_those_of_the_full_log() -> None:
    p, label, is_kept = sample()
    noisy = logit_of(p) + np.random.default_rng(1).normal(size=len(p))
    shift = log_pos_weight_of(label)
    full = measure(label, Logits.of_one_fit(noisy, shift))
    kept = label[is_kept]
    found = measure(kept, Logits.of_one_fit(noisy[is_kept], shift, np.log(RATE)))
    weight = np.where(kept == 1, 1.0, 1 / RATE)
    assert found.logloss == pytest.approx(log_loss(kept, probability(noisy[is_kept]), sample_weight=weight))
    assert found.logloss == pytest.approx(full.logloss, rel=0.03)
    assert found.ece == pytest.approx(full.ece, rel=0.1)
    assert found.wll == pytest.approx(full.wll, rel=0.03)
    assert found.roc_auc == pytest.approx(roc_auc_score(kept, noisy[is_kept]))
    assert found.ap == pytest.approx(average_precision_score(kept, noisy[is_kept]))  # that of the sample
    assert found.ap > 2 * full.ap
    assert found.n_effective is None


def test_what_is_fitted_to_the_sample_is_calibrated_in_the_full_log() -> None:
    p, label, is_kept = sample()
    shift, kept = log_pos_weight_of(label), label[is_kept]
    distorted = 1.6 * logit_of(p) + 1
    fold = np.random.default_rng(0).integers(0, 3, len(kept)).astype(str)
    report = calibrate(held_out(distorted[is_kept], kept, fold, None, shift, np.log(RATE))).report
    assert report.chosen != "none"
    found = report.calibrator.natural_logit(distorted)
    assert probability(found).mean() == pytest.approx(label.mean(), rel=0.03)
    assert measure(label, Logits.of_one_fit(found, shift)).ece < 0.05 * label.mean()
    assert measure(label, Logits.of_one_fit(distorted, shift)).ece > 0.3 * label.mean()

    logits = Logits.of_one_fit(distorted[is_kept], shift, np.log(RATE))
    stack = fit_stack("logistic", ["a"], logits.natural[:, None], kept, logits.weight_in_full_log(kept, None))
    stacked = probability(stack.natural_logit(distorted[:, None]))
    assert stacked.mean() == pytest.approx(label.mean(), rel=0.05)
    assert stack.weights[0] == pytest.approx(1 / 1.6, rel=0.05)


def test_bootstrap_of_the_log_loss_is_that_of_the_full_log() -> None:
    p, label, is_kept = sample(40_000)
    kept, rng = label[is_kept], np.random.default_rng(4)
    a, b = (logit_of(p[is_kept]) + rng.normal(size=len(kept)) * noise for noise in (1.0, 0.5))
    shift = log_pos_weight_of(label)
    first, second = (Logits.of_one_fit(x, shift, np.log(RATE)) for x in (a, b))
    found = paired_bootstrap(kept, first, second, n_replicates=200).differences["logloss"]
    expected = measure(kept, second).logloss - measure(kept, first).logloss
    assert found.difference == pytest.approx(expected)
    assert found.low < expected < found.high
    assert found.high - found.low < 0.5 * abs(expected)


def test_weights_and_rates_multiply() -> None:
    logits = Logits(np.zeros(3), np.zeros(3), np.log(0.25))
    label, weight = np.array([1, 0, 0]), np.array([3.0, 2.0, 0.0])
    assert logits.weight_in_full_log(label, weight) == pytest.approx([3, 8, 0])
    assert logits.weight_in_full_log(label, None) == pytest.approx([1, 4, 4])
    assert Logits(np.zeros(3), np.zeros(3)).weight_in_full_log(label, None) is None
    joined = Logits.join([logits, logits.take(np.array([0]))])
    assert joined.log_sampling_rate == np.log(0.25)
    assert len(joined) == 4
