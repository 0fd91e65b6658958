"""Smoothed click rates: hand-computed values, and the prior of simulated values."""

import numpy as np
import pytest

from recsys.data.encodings.rates import MAX_STRENGTH, BetaPrior


def test_posterior_mean_by_hand() -> None:
    prior = BetaPrior(mean=0.1, strength=20)
    # (3 + 20 * .1) / (30 + 20) = .1: the rate of all rows; (0 + 2) / (80 + 20) = .02
    log_odds = prior.log_odds(np.array([0, 30, 80]), np.array([0, 3, 0]))
    base = np.log(0.1 / 0.9)
    assert log_odds == pytest.approx([0.0, 0.0, np.log(0.02 / 0.98) - base])


@pytest.mark.parametrize(("mean", "strength"), [(0.02, 200.0), (0.3, 10.0), (0.05, 50.0)])
def test_the_prior_of_simulated_values_is_found(mean: float, strength: float) -> None:
    rng = np.random.default_rng(0)
    n_rows = rng.geometric(0.005, 6_000)
    rate = rng.beta(mean * strength, (1 - mean) * strength, len(n_rows))
    prior = BetaPrior.fit(n_rows, rng.binomial(n_rows, rate))
    assert prior.mean == pytest.approx(mean, rel=0.05)
    assert prior.strength == pytest.approx(strength, rel=0.15)


def test_equal_rates_are_shrunk_to_the_mean() -> None:
    rng = np.random.default_rng(1)
    n_rows = rng.integers(1, 50, 5_000)
    n_clicks = rng.binomial(n_rows, 0.03)
    prior = BetaPrior.fit(n_rows, n_clicks)
    assert prior.strength > 1_000
    assert np.abs(prior.log_odds(n_rows, n_clicks)).max() < 0.2
    assert np.abs(np.log((n_clicks + 0.5) / (n_rows - n_clicks + 0.5)) - np.log(0.03 / 0.97)).max() > 1


@pytest.mark.parametrize("clicks", [[0, 0], [4, 6]])
def test_rows_of_one_class(clicks: list[int]) -> None:
    prior = BetaPrior.fit(np.array([4, 6]), np.array(clicks))
    assert 0 < prior.mean < 1
    assert prior.strength == MAX_STRENGTH
    assert np.isfinite(prior.log_odds(np.array([4, 6, 0]), np.array([*clicks, 0]))).all()


def test_no_rows() -> None:
    prior = BetaPrior.fit(np.zeros(3), np.zeros(3))
    assert prior.log_odds(np.zeros(3), np.zeros(3)).tolist() == [0, 0, 0]
