import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from recsys.evaluation.logits import LogitLink, Logits, logit_of, probability
from recsys.evaluation.metrics import (
    expected_calibration_error,
    grouped_auc,
    measure,
    normalized_entropy,
    toss_score,
    weighted_log_loss,
)

LABEL = np.array([0, 1, 0, 1, 1, 0])
P = np.array([0.1, 0.8, 0.3, 0.3, 0.6, 0.2])


def alike(z: np.ndarray) -> Logits:
    """Logits with a class weight of 1, so that q equals p."""
    return Logits.of_one_fit(z, 0.0)


def test_metrics_by_hand() -> None:
    z = logit_of(P)
    found = measure(LABEL, alike(z))
    # In descending p: 1 1 (1,0 tied) 0 0. AP = 1/3 * 1 + 1/3 * 1 + 1/3 * 3/4.
    assert found.ap == pytest.approx((1 + 1 + 0.75) / 3)
    # Eight of nine pairs are ordered and one is tied.
    assert found.roc_auc == pytest.approx(8.5 / 9)
    # Trapezoids of the precision-recall curve: flat at 1 up to recall 2/3, then down to 3/4.
    assert found.pr_auc == pytest.approx(2 / 3 + (1 + 0.75) / 2 / 3)
    positive = -np.log([0.8, 0.3, 0.6]).mean()
    negative = -np.log([0.9, 0.7, 0.8]).mean()
    assert found.wll == pytest.approx((positive + negative) / 2)
    assert found.logloss == pytest.approx((positive + negative) / 2)
    assert found.toss_score == pytest.approx(found.ap / 2 + 0.5 / (1 + found.wll))


def test_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    z = np.round(rng.normal(size=5000), 2)  # with ties
    label = (rng.random(5000) < probability(z)).astype(int)
    found = measure(label, alike(z))
    assert found.ap == pytest.approx(average_precision_score(label, z), abs=1e-12)
    assert found.roc_auc == pytest.approx(roc_auc_score(label, z), abs=1e-12)
    assert found.logloss == pytest.approx(log_loss(label, probability(z)), abs=1e-12)


def test_metrics_do_not_depend_on_row_order() -> None:
    rng = np.random.default_rng(1)
    z = np.round(rng.normal(size=999), 1)
    label = rng.integers(0, 2, 999)
    order = rng.permutation(999)
    for name, value in measure(label, alike(z)).model_dump().items():
        assert measure(label[order], alike(z[order])).model_dump()[name] == pytest.approx(value, abs=1e-12), name


def test_constant_half_scores_3048() -> None:
    label = np.zeros(100_000)
    label[:1908] = 1  # the Toss base rate
    zero = np.zeros(100_000)
    assert measure(label, alike(zero)).toss_score == pytest.approx(0.3048, abs=5e-5)


def test_wll_is_lower_on_q_than_on_p() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(-4, 0.8, 200_000)
    label = (rng.random(len(z)) < probability(z)).astype(int)
    weight = (label == 0).sum() / label.sum()
    assert weighted_log_loss(label, z + np.log(weight)) < weighted_log_loss(label, z)


@pytest.mark.parametrize("label", [np.zeros(3), np.ones(3)])
def test_one_class_leaves_ranking_undefined(label: np.ndarray) -> None:
    found = measure(label, alike(np.zeros(3)))
    assert found.ap is None
    assert found.toss_score is None
    assert found.logloss == pytest.approx(np.log(2))


def test_no_rows() -> None:
    assert measure(np.zeros(0), alike(np.zeros(0))).n_rows == 0


def test_extreme_logits_stay_finite() -> None:
    found = measure(np.array([0, 1]), alike(np.array([800.0, -800.0])))
    assert found.logloss == pytest.approx(800)


def test_ece_by_hand() -> None:
    label = np.array([0, 0, 1, 1])
    p = np.array([0.1, 0.3, 0.6, 0.9])
    # Two bins of two rows: |(.1 + .3) - 0| and |(.6 + .9) - 2|, over four rows.
    assert expected_calibration_error(label, p, n_bins=2) == pytest.approx((0.4 + 0.5) / 4)


def test_ece_of_a_constant_is_its_distance_from_the_rate() -> None:
    assert expected_calibration_error(np.array([0, 1, 0, 0]), np.full(4, 0.5)) == pytest.approx(0.25)


def test_prior_shift_undoes_the_training_weight() -> None:
    p, w_trained, w_balanced = 0.02, 10.0, 49.0
    trained = p * w_trained / (p * w_trained + 1 - p)
    shift = LogitLink(w_trained, w_balanced)
    logit = logit_of(np.array([trained]))
    assert shift.logits(logit).p == pytest.approx(p)
    # At p = 2 % and w = 49 the balanced posterior is one half.
    assert shift.logits(logit).q == pytest.approx(0.5)


def test_score_formula() -> None:
    assert toss_score(0.08, 0.6) == pytest.approx(0.04 + 0.5 / 1.6)


def test_take_and_join_keep_both_scales() -> None:
    parts = [Logits.of_one_fit(np.array([-1.0, 0.5]), 3.0), Logits.of_one_fit(np.array([2.0]), 4.0)]
    whole = Logits.join(parts)
    assert whole.balanced.tolist() == [2.0, 3.5, 6.0]
    assert whole.take(np.array([2, 0])).balanced.tolist() == [6.0, 2.0]
    assert whole.q == pytest.approx(1 / (1 + np.exp(-whole.balanced)))
    assert whole.with_natural(np.zeros(3)).balanced.tolist() == [3.0, 3.0, 4.0]
    assert len(Logits.join([])) == 0


def test_gauc_by_hand() -> None:
    user = np.array([1, 1, 1, 1, 0, 0, 0, 2, 2, -1, -1])
    label = np.array([1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0])
    score = np.array([3.0, 1, 3, 2, 5, 6, 7, 1, 2, 1, 9])
    # User 1: pairs 3 > 1, 3 = 3, 2 > 1, 2 < 3: 2.5 of 4. User 0: 6 > 5, 6 < 7: 1 of 2. User 2 has no click, -1 is none.
    expected = (4 * 2.5 / 4 + 3 * 1 / 2) / 7
    assert grouped_auc(label, score, user) == pytest.approx(expected)
    assert measure(label, alike(score), user=user).gauc == pytest.approx(expected)


def test_gauc_agrees_with_a_loop_over_users_and_weights_with_copies() -> None:
    rng = np.random.default_rng(3)
    user, label, score = rng.integers(0, 60, 900), rng.integers(0, 2, 900), np.round(rng.normal(size=900), 1)
    label[user < 20] = 0
    weight = rng.integers(0, 4, 900)
    total = n_rows = 0.0
    for one in np.unique(user):
        rows = np.repeat(np.flatnonzero(user == one), weight[user == one])
        if 0 < label[rows].sum() < len(rows):
            total += len(rows) * roc_auc_score(label[rows], score[rows])
            n_rows += len(rows)
    assert grouped_auc(label, score, user, weight) == pytest.approx(total / n_rows)
    order = rng.permutation(900)
    assert grouped_auc(label[order], score[order], user[order], weight[order]) == pytest.approx(total / n_rows)


def test_gauc_is_undefined_without_a_user_of_both_classes() -> None:
    label, z = np.array([0, 1, 1, 0]), np.zeros(4)
    assert measure(label, alike(z)).gauc is None
    for user in ([0, 1, 1, 0], [-1, -1, -1, -1]):
        assert measure(label, alike(z), user=np.array(user)).gauc is None
    assert "gauc" not in measure(label, alike(z)).model_dump()


def test_normalized_entropy_by_hand() -> None:
    # The average rate of LABEL is 1/2, whose log loss is ln 2.
    found = measure(LABEL, alike(logit_of(P)))
    assert found.ne == pytest.approx(found.logloss / np.log(2))
    assert normalized_entropy(0.2, 0.1) == pytest.approx(0.2 / (-0.1 * np.log(0.1) - 0.9 * np.log(0.9)))


@pytest.mark.parametrize("log_sampling_rate", [0.0, np.log(0.25)])
def test_the_rate_of_the_rows_has_a_normalized_entropy_of_one(log_sampling_rate: float) -> None:
    """Of the full log's rate, if a quarter of the negatives are in the log; rows of weight 2 count twice."""
    label, weight = np.array([1, 0, 0, 0]), np.array([2.0, 1, 1, 2])
    rate = 2 / (2 + 4 / np.exp(log_sampling_rate))
    logits = Logits.of_one_fit(np.full(4, logit_of(np.array(rate))), 0.0, log_sampling_rate)
    assert measure(label, logits, weight).ne == pytest.approx(1.0)
    assert measure(np.zeros(4), logits, weight).ne is None
