"""Intervals of differences by hand and against SciPy."""

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_ind

from recsys.evaluation.bootstrap.intervals import difference_bounds


def replicates_of(exact: np.ndarray, sd: float, n: int = 20_000) -> np.ndarray:
    """[n, fits, 1] replicates of one metric, in which every fit has noise of its own."""
    return exact[:, None] + np.random.default_rng(0).normal(scale=sd, size=(n, len(exact), 1))


def test_two_fits_have_the_spread_of_the_replicates() -> None:
    exact = np.array([0.3, 0.5])
    low, high, _ = difference_bounds(replicates_of(exact, 0.1), exact[:, None], 1, 10**9, level=0.95)
    assert (low[0], high[0]) == pytest.approx((0.2 - 1.96 * 0.1 * 2**0.5, 0.2 + 1.96 * 0.1 * 2**0.5), abs=0.005)
    low, high, _ = difference_bounds(replicates_of(exact, 0.1), exact[:, None], 1, 6, level=0.9)
    assert high[0] - 0.2 == pytest.approx(t.ppf(0.95, 5) * 0.1 * 2**0.5 * (6 / 5) ** 0.5, rel=0.02)


def test_seeds_alone_are_welchs_interval() -> None:
    first, second = np.array([0.30, 0.34, 0.29]), np.array([0.41, 0.52, 0.44, 0.40])
    exact = np.concatenate([first, second])
    replicates = np.broadcast_to(exact[:, None], (50, 7, 1))  # rows tell nothing
    low, high, _ = difference_bounds(replicates, exact[:, None], 3, 1000, level=0.95)
    expected = ttest_ind(second, first, equal_var=False).confidence_interval()
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))


def test_noise_of_the_rows_in_fits_is_counted_once() -> None:
    """Fits that differ by the noise of these rows alone: s^2 / S has it, and so have the replicates."""
    rng, half_widths = np.random.default_rng(1), []
    for _ in range(300):
        exact = rng.normal(size=6)
        replicates = exact[:, None] + rng.normal(size=(200, 6, 1))
        low, high, _ = difference_bounds(replicates, exact[:, None], 3, 1000, level=0.95)
        half_widths.append((high[0] - low[0]) / 2)
        assert low[0] <= exact[3:].mean() - exact[:3].mean() <= high[0]
    variance_of_difference = 2 / 3
    assert np.median(half_widths) == pytest.approx(t.ppf(0.975, 4) * variance_of_difference**0.5, rel=0.25)


def test_rows_and_seeds_add_up() -> None:
    """Rows move all fits of the second model alike; seeds of both differ."""
    exact = np.array([0.0, 0.02, 0.04, 0.5, 0.52, 0.54])
    replicates = np.broadcast_to(exact[:, None], (20_000, 6, 1)).copy()
    replicates[:, 3:] += np.random.default_rng(0).normal(scale=0.1, size=(20_000, 1, 1))
    low, high, _ = difference_bounds(replicates, exact[:, None], 3, 10**9, level=0.95)
    seeds = 2 * 0.02**2 / 3
    n_free = (0.1**2 + seeds) ** 2 / (2 * (0.02**2 / 3) ** 2 / 2)
    assert high[0] - low[0] == pytest.approx(2 * t.ppf(0.975, n_free) * (0.1**2 + seeds) ** 0.5, rel=0.02)
    assert high[0] - low[0] > 2 * norm.ppf(0.975) * 0.1


def test_undefined_samples_are_left_out(recwarn: pytest.WarningsRecorder) -> None:
    exact = np.array([0.3, 0.5])
    replicates = replicates_of(exact, 0.1, n=1000)
    expected = difference_bounds(replicates[:600], exact[:, None], 1, 100, level=0.95)
    replicates[600:] = np.nan
    assert difference_bounds(replicates, exact[:, None], 1, 100, level=0.95) == expected
    low, high, _ = difference_bounds(replicates[599:], exact[:, None], 1, 100, level=0.95)
    assert np.isnan([low, high]).all()
    assert len(recwarn) == 0


@pytest.mark.parametrize(("row_noise", "rows_sd", "second_seed_sd"), [(0, 0, 1), (1, 0, 0.1), (3, 0, 1), (0.5, 1, 1)])
def test_coverage_over_seeds_and_rows(row_noise: float, rows_sd: float, second_seed_sd: float) -> None:
    """Equal models with three normal fits each; single fits of them are called different far too often."""
    rng, n, model = np.random.default_rng(0), 2000, np.repeat([0, 1], 3)
    seed_sd = np.where(model == 0, 1.0, second_seed_sd)[:, None]
    exact = seed_sd * rng.normal(size=(6, n)) + row_noise * rng.normal(size=(6, n))
    exact += rows_sd * rng.normal(size=(2, n))[model]
    replicates = exact + row_noise * rng.normal(size=(100, 6, n)) + rows_sd * rng.normal(size=(100, 2, n))[:, model]
    low, high, _ = difference_bounds(replicates, exact, 3, 1000, level=0.95)
    assert 0.93 <= np.mean((low <= 0) & (high >= 0)) <= 0.98
    if row_noise < 3:  # seeds matter beside the rows
        low, high, _ = difference_bounds(replicates[:, [0, 3]], exact[[0, 3]], 1, 1000, level=0.95)
        assert np.mean((low <= 0) & (high >= 0)) < 0.93
