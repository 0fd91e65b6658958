"""Ranking metrics against cases worked out by hand."""

import math

import numpy as np
import pytest

from retrieval.evaluation.ranks import ks_within, measure_ranking, measure_ranks, rank_all, rank_targets, ranks_among

SCORES = np.array([[0.1, 0.9, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2]], np.float32)


def test_ranks_by_hand() -> None:
    ranking = rank_all(lambda places: SCORES[places], np.array([3, 1]), 4)
    assert ranking.rank.tolist() == [3, 2]  # ties: the earlier item ranks first
    assert ranking.top.tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]


def test_ranks_go_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, target = rng.random((50, 700)).astype(np.float32), rng.integers(0, 700, 50)
    whole = rank_all(lambda places: scores[places], target, 700)
    monkeypatch.setattr("retrieval.evaluation.ranks._SCORES_AT_ONCE", 7 * 700)
    parts = rank_all(lambda places: scores[places], target, 700)
    reference = 1 + (scores > scores[np.arange(50), target][:, None]).sum(axis=1)
    assert np.array_equal(whole.rank, reference)
    assert np.array_equal(parts.rank, reference)
    assert np.array_equal(parts.top, np.argsort(-scores, axis=1, kind="stable")[:, :500])


def test_metrics_by_hand() -> None:
    found = measure_ranks(np.array([1, 3, 12, 600]))
    assert found["recall@1"] == 0.25
    assert found["recall@10"] == 0.5
    assert found["recall@500"] == 0.75
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(4)) / 4)
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 12 + 1 / 600) / 4)
    assert measure_ranks(np.zeros(0)) == {}


def test_coverage_counts_items_that_are_in_any_list() -> None:
    ranking = rank_all(lambda places: SCORES[places], np.array([3, 1]), 4)
    assert measure_ranking(ranking, 4)["coverage@1"] == 0.5
    assert measure_ranking(ranking, 11)["coverage@10"] == 4 / 11


def test_no_k_reaches_the_size_of_the_catalog() -> None:
    """recall@K of K items would be 1 for any ranking."""
    ranking = rank_all(lambda places: SCORES[places], np.array([3, 1]), 4)
    assert set(measure_ranking(ranking, 4)) == {"recall@1", "ndcg@1", "coverage@1", "mrr"}
    assert ks_within(50) == (1, 10)
    assert ks_within(51) == (1, 10, 50)
    assert ks_within(1) == ()


def test_ranks_among_candidates() -> None:
    request = np.array([1, 0, 0, 1, 2])
    entry = np.array([7, 5, 6, 8, 9])
    score = np.array([0.1, 0.3, 0.9, 0.5, 1.0])
    assert ranks_among(request, entry, score, np.array([5, 8, 4])).tolist() == [2, 1, math.inf]
    assert measure_ranks(np.array([2, 1, math.inf]))["recall@10"] == pytest.approx(2 / 3)


def test_ranks_without_the_best_items_are_the_same() -> None:
    scores = np.random.default_rng(0).integers(0, 5, (50, 30)).astype(np.float32)
    target = np.random.default_rng(1).integers(0, 30, 50)
    ranking = rank_all(lambda places: scores[places], target, 30)
    assert np.array_equal(rank_targets(lambda places: scores[places], target, 30), ranking.rank)
