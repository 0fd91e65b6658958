from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from recsys.evaluation.calibration.gain import calibration_gain, loss_of
from recsys.evaluation.logits import probability
from recsys.evaluation.metrics import log_loss_terms, weighted_log_loss
from tests.helpers.calibration import held_out, overconfident


def test_gain_and_standard_error_by_hand() -> None:
    logit, label = np.array([0.0, 1.0, -1.0, 2.0]), np.array([0, 1, 0, 1])
    rows, calibrated = held_out(logit, label, shift=1.0), np.array([[-1.0], [1.0], [-1.0], [1.0]])
    difference = log_loss_terms(label, logit) - log_loss_terms(label, calibrated[:, 0])
    gain = calibration_gain(rows, calibrated, "logloss")
    assert gain.value == pytest.approx(difference.mean())
    assert gain.standard_error == pytest.approx(difference.std(ddof=1) / 2)  # sd / sqrt(4)
    assert gain.n_clusters == 4
    assert (gain.low, gain.high) == pytest.approx(
        (gain.value - 1.96 * gain.standard_error, gain.value + 1.96 * gain.standard_error)
    )
    wll = calibration_gain(rows, calibrated, "wll")
    expected = weighted_log_loss(label, logit + 1) - weighted_log_loss(label, calibrated[:, 0] + 1)
    assert wll.value == pytest.approx(expected)


def test_a_user_is_one_cluster_and_rows_without_user_are_their_own() -> None:
    logit, label, _ = overconfident(400)
    rows, calibrated = held_out(logit, label), (logit[:, None] + 3) / 2 - 3
    difference = log_loss_terms(label, logit) - log_loss_terms(label, calibrated[:, 0])
    user = np.where(np.arange(400) < 390, np.arange(400) // 10, -1)
    gain = calibration_gain(replace(rows, user=user), calibrated, "logloss")
    assert gain.n_clusters == 39 + 10
    centered = difference - difference.mean()
    sums = np.append(centered[:390].reshape(39, 10).sum(axis=1), centered[390:])
    assert gain.standard_error == pytest.approx(np.sqrt((sums**2).sum() * 49 / 48) / 400)


def test_intervals_by_user_are_wider_where_users_differ() -> None:
    """Each user's rows are copies: the standard error grows by the root of their number, as if there were one."""
    logit, label, _ = overconfident(300)
    one, copies = held_out(logit, label), held_out(np.repeat(logit, 9), np.repeat(label, 9))
    calibrated = (logit[:, None] + 3) / 2 - 3
    of_one = calibration_gain(one, calibrated, "logloss")
    by_row = calibration_gain(copies, np.repeat(calibrated, 9, axis=0), "logloss")
    by_user = calibration_gain(
        replace(copies, user=np.repeat(np.arange(300), 9)), np.repeat(calibrated, 9, axis=0), "logloss"
    )
    assert by_user.standard_error == pytest.approx(of_one.standard_error)
    assert by_row.standard_error == pytest.approx(of_one.standard_error / 3, rel=0.01)


def test_intervals_by_user_cover_a_gain_of_zero_where_those_by_row_do_not() -> None:
    """60 users of 50 rows with an effect of their own: a shift that changes nothing on average is found by rows."""
    user, n_outside, gains = np.repeat(np.arange(60), 50), {"row": 0, "user": 0}, []
    rng = np.random.default_rng(0)
    for _ in range(100):
        logit = rng.normal(-1, 1, 3000)
        p = probability(logit) * np.repeat(rng.choice([0.4, 1.6], 60), 50)
        label = (rng.random(3000) < np.minimum(p, 1)).astype(np.int8)
        rows = held_out(logit + 0.2, label, shift=1.0)
        gain = calibration_gain(rows, logit[:, None] - 0.2, "logloss")
        gains.append((gain, calibration_gain(replace(rows, user=user), logit[:, None] - 0.2, "logloss")))
    truth = float(np.mean([gain.value for gain, _ in gains]))
    for by_row, by_user in gains:
        n_outside["row"] += not by_row.low <= truth <= by_row.high
        n_outside["user"] += not by_user.low <= truth <= by_user.high
    assert n_outside["user"] <= 10
    assert n_outside["row"] >= 20


def test_weights_and_sampled_negatives_count_as_in_the_metrics() -> None:
    logit, label, _ = overconfident(500)
    weight = np.random.default_rng(0).exponential(size=500)
    weight[:50] = 0
    calibrated = (logit[:, None] + 3) / 2 - 3
    rows = held_out(logit, label, weight=weight, log_sampling_rate=np.log(0.2))
    full = weight * np.where(label == 1, 1, 5)
    expected = log_loss(label, probability(logit), sample_weight=full) - log_loss(
        label, probability(calibrated[:, 0]), sample_weight=full
    )
    gain = calibration_gain(rows, calibrated, "logloss")
    assert gain.value == pytest.approx(expected)
    assert gain.n_clusters == 450


def test_the_loss_follows_the_metric_that_runs_are_chosen_by() -> None:
    assert [loss_of(metric) for metric in ("toss_score", "wll", "logloss", "ap", "roc_auc")] == [
        "wll",
        "wll",
        "logloss",
        "logloss",
        "logloss",
    ]
