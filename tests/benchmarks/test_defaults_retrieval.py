import numpy as np
import pytest

from benchmarks.defaults.retrieval import CASES, CONFIGS, Case, cluster_error, columns_only, measure


def test_the_error_of_independent_values_is_that_of_the_mean() -> None:
    values = np.array([0.0, 1, 1, 0, 1])
    assert cluster_error(values, np.arange(5)) == pytest.approx(values.std(ddof=1) / 5**0.5)


def test_copies_of_a_user_add_nothing() -> None:
    values = np.array([0.0, 1, 1, 0, 1])
    error = cluster_error(np.repeat(values, 4), np.repeat(np.arange(5), 4))
    assert error == pytest.approx(values.std(ddof=1) / 5**0.5)


def test_the_difference_is_paired() -> None:
    ranks = {"two_tower": np.array([1, 10, 11, 4]), "popularity": np.array([30, 10, 11, 4])}
    recall = measure(ranks, np.arange(4))
    assert recall.mean == {"two_tower": 0.75, "popularity": 0.5}
    assert recall.strongest == "popularity"
    assert recall.error_of_difference == pytest.approx(np.std([1, 0, 0, 0], ddof=1) / 2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_configs_have_no_settings_of_training(case: Case) -> None:
    values = columns_only(CONFIGS / case.config)
    assert set(values) <= {"name", "files", "schema", "prepare", "retrieval"}
    assert values.get("retrieval", {}) in ({}, {"positives": "all"})
