"""The search for pairs on rows whose effects are known."""

import numpy as np
import pytest

from recsys.evaluation.logits import probability
from recsys.prepare.encodings.pair_search import find_pairs

N = 20_000


def drawn(effect_of_pair: float, effect_of_single: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of four features, of which 1 and 3 have an effect together that neither has alone; labels; halves."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, [5, 8, 30, 6], size=(N, 4))
    together = np.where((codes[:, 1] + codes[:, 3]) % 2 == 0, 1.0, -1.0)
    logit = -1.5 + effect_of_pair * together + effect_of_single * (codes[:, 0] - 2 + (codes[:, 2] % 3 - 1))
    return codes, (rng.random(N) < probability(logit)).astype(np.int64), rng.random(N) < 0.5


def test_the_planted_pair_is_found_and_no_other() -> None:
    codes, label, half = drawn(0.4, effect_of_single=0.5)
    (pair,) = find_pairs(codes, label, half, n_best=10)
    assert (pair.first, pair.second) == (1, 3)
    assert find_pairs(codes, label, half, n_best=0) == []
    # the gain of an effect that is known is half its square times the information of a row; a cell of 10,000 / 48 rows
    # has a third of the information of the prior, so that a quarter of the effect, and 45 % of the gain, is left
    information = label.mean() * (1 - label.mean())
    assert 0.3 < pair.gain / (0.5 * 0.4**2 * information) < 0.5


@pytest.mark.parametrize("effect_of_single", [0.0, 0.8])
def test_effects_of_single_features_are_no_pairs(effect_of_single: float) -> None:
    codes, label, half = drawn(0.0, effect_of_single)
    assert find_pairs(codes, label, half, n_best=10) == []


def test_a_feature_that_tells_another_makes_no_pair() -> None:
    codes, label, half = drawn(0.4)
    codes = np.column_stack([codes[:, 1] * 6 + codes[:, 3], codes[:, 1]])
    assert find_pairs(codes, label, half, n_best=10) == []


def test_the_fitted_half_has_no_say_in_its_own_gain() -> None:
    """Each half tells of the other: labels without an effect in one half leave no pair."""
    codes, label, half = drawn(0.4)
    noise = np.where(half, np.random.default_rng(0).permutation(label), label)
    assert find_pairs(codes, noise, half, n_best=10) == []
