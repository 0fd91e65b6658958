"""The search for pairs on rows whose effects are known."""

import numpy as np
import pytest

from recsys.evaluation.logits import probability
from recsys.prepare.encodings.pair_search import find_pairs, is_enough, single_rates

N = 20_000


def drawn(effect_of_pair: float, effect_of_single: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of four features, of which 1 and 3 have an effect together that neither has alone; labels; inner folds."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, [5, 8, 30, 6], size=(N, 4))
    together = np.where((codes[:, 1] + codes[:, 3]) % 2 == 0, 1.0, -1.0)
    logit = -1.5 + effect_of_pair * together + effect_of_single * (codes[:, 0] - 2 + (codes[:, 2] % 3 - 1))
    return codes, (rng.random(N) < probability(logit)).astype(np.int64), rng.integers(0, 3, N)


def test_the_planted_pair_is_found_and_no_other() -> None:
    codes, label, fold = drawn(0.4, effect_of_single=0.5)
    (pair,) = find_pairs(codes, label, fold, n_best=10)
    assert (pair.first, pair.second) == (1, 3)
    assert find_pairs(codes, label, fold, n_best=0) == []
    # the gain of a pair whose effect were known is the information about it; shrinkage and noise cost some of it
    p = label.mean()
    assert 0.5 * 0.4**2 * p * (1 - p) * 0.5 < pair.gain < 0.5 * 0.4**2 * p * (1 - p) * 1.2


@pytest.mark.parametrize("effect_of_single", [0.0, 0.8])
def test_effects_of_single_features_are_no_pairs(effect_of_single: float) -> None:
    codes, label, fold = drawn(0.0, effect_of_single)
    assert find_pairs(codes, label, fold, n_best=10) == []


def test_a_feature_that_tells_another_makes_no_pair() -> None:
    codes, label, fold = drawn(0.4)
    codes = np.column_stack([codes[:, 1] * 6 + codes[:, 3], codes[:, 1]])
    assert find_pairs(codes, label, fold, n_best=10) == []


def test_a_row_has_no_say_in_its_own_rates() -> None:
    codes, label, fold = drawn(0.0, 0.5)
    turned = np.where(fold == 1, 1 - label, label)
    before, after = single_rates(codes, label, fold), single_rates(codes, turned, fold)
    assert np.array_equal(before[fold == 1], after[fold == 1])
    assert not np.array_equal(before[fold == 0], after[fold == 0])


def test_both_classes_must_be_outside_every_fold() -> None:
    label, fold = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    assert is_enough(label, fold, 2)
    assert not is_enough(label, fold, 3)
    assert not is_enough(label, np.zeros(6), 1)
