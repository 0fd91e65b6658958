"""Recall of two rankings on the same requests: by hand, and coverage when a user's requests resemble each other."""

import numpy as np
import pytest

from retrieval.evaluation.comparison import compare_means, compare_recall


def test_a_difference_by_hand() -> None:
    """Of 4 requests the first ranking has 2 within 10, the second 3; two requests change, one in each direction."""
    first, second = np.array([1, 10, 11, 40]), np.array([11, 1, 2, 10])
    found = compare_recall(first, second, 10)
    assert (found.difference.first, found.difference.second, found.difference.difference) == (0.5, 0.75, 0.25)
    assert (found.by, found.n_clusters, found.basis) == ("request", 4, "4 requests")
    assert found.note == "rough interval, from 4 requests"
    by_user = compare_recall(first, second, 10, user=np.array([0, 0, -1, -1]))
    assert by_user.basis == "3 users"


def test_equal_rankings_do_not_differ() -> None:
    rank = np.arange(1, 200)
    found = compare_recall(rank, rank, 10)
    assert (found.difference.difference, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.difference.p_value == 1
    assert found.note is None


def test_the_standard_error_is_that_of_paired_hits() -> None:
    """By the formula sqrt(sum (d - mean)^2) / n for independent requests."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(1, 30, 4000), rng.integers(1, 25, 4000)
    change = (second <= 10).astype(float) - (first <= 10)
    expected = 1.96 * np.sqrt(np.sum((change - change.mean()) ** 2)) / len(change)
    found = compare_recall(first, second, 10, n_replicates=4000).difference
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.05)
    assert found.p_value is not None
    assert (found.p_value <= 0.05) == (found.low > 0 or found.high < 0)


def test_users_are_drawn_whole() -> None:
    """20 requests a user that all hit or all miss: drawn by request, the interval leaves zero out for equal rankings
    far more often than 5 %; drawn by user, it does not."""
    rng, n_users, false_alarms = np.random.default_rng(1), 60, {"user": 0, "request": 0}
    user = np.repeat(np.arange(n_users), 20)
    for _ in range(100):
        first, second = (np.where(np.repeat(rng.random(n_users) < 0.5, 20), 1, 99) for _ in range(2))
        for by, cluster in (("user", user), ("request", None)):
            found = compare_recall(first, second, 10, cluster, n_replicates=200).difference
            false_alarms[by] += found.low > 0 or found.high < 0
    assert false_alarms["user"] <= 12
    assert false_alarms["request"] > 40


def test_the_difference_of_means_by_hand() -> None:
    """Two users, one of two requests: the mean is over requests, and the bootstrap draws both of a user together."""
    found = compare_means(np.array([0.5, 0.0, 1.0]), np.array([1.0, 0.5, 0.0]), user=np.array([4, 4, -1]))
    assert (found.difference.first, found.difference.second) == pytest.approx((0.5, 0.5))
    assert (found.by, found.n_clusters) == ("user", 2)
    assert found.difference.low < 0 < found.difference.high
