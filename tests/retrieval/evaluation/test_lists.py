"""Novelty and diversity by hand and by a loop over pairs."""

from itertools import combinations

import numpy as np
import pytest

from retrieval.evaluation import lists
from retrieval.evaluation.lists import diversity, novelty


def test_novelty_by_hand() -> None:
    assert novelty(np.array([[0, 1], [2, 3]]), np.array([8, 4, 3, 0])) == pytest.approx(
        (1 + 2 + 2 * np.log2(16 / 1) - np.log2(3)) / 4
    )


def test_diversity_by_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_AT_ONCE", 2)
    rng = np.random.default_rng(0)
    vectors, top = rng.normal(size=(9, 3)), np.stack([rng.permutation(9)[:4] for _ in range(5)])
    distances = [
        1 - vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])
        for row in top
        for a, b in combinations(row, 2)
    ]
    assert diversity(top, vectors) == pytest.approx(np.mean(distances))
    assert diversity(np.array([[0, 0]]), vectors) == pytest.approx(0)
