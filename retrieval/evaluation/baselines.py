"""Baseline rankings that ignore the user: kinds of popularity, and chance.

Shapes: I items of the catalog; b requests of a block.
"""

import numpy as np

from retrieval.catalog import Catalog
from retrieval.evaluation.ranks import Scores

NON_PERSONAL = ("popularity", "popular_positives", "recent", "recent_impressions")
"""The baselines that ignore the user, besides chance."""


class Popularity:
    """Ranks items by [I] counts, equally for all requests."""

    def __init__(self, counts: np.ndarray) -> None:
        self._scores = counts.astype(np.float32)

    def __call__(self, requests: np.ndarray) -> np.ndarray:
        """Returns [b, I] scores of [b] request indices."""
        return np.tile(self._scores, (len(requests), 1))


class Random:
    """Ranks items in random order."""

    def __init__(self, n_items: int, seed: int) -> None:
        self._n_items, self._seed = n_items, seed

    def __call__(self, requests: np.ndarray) -> np.ndarray:
        """Returns [b, I] scores of [b] request indices."""
        return np.random.default_rng([self._seed, int(requests[0])]).random((len(requests), self._n_items), np.float32)


def popularity_baselines(catalog: Catalog, is_clicked_only: bool, half_life_days: float | None) -> dict[str, Scores]:
    """Builds the kinds of popularity that the data allows, by name.

    Args:
        catalog: the items, with their counts among the fitting rows.
        is_clicked_only: whether only clicks are positives; else positives and rows are the same.
        half_life_days: the half-life of the catalog's recent counts; None if it was built without one.
    """
    scores: dict[str, Scores] = {"popularity": Popularity(catalog.n_impressions)}
    if is_clicked_only:
        scores["popular_positives"] = Popularity(catalog.n_positives)
    if catalog.trending is not None:
        scores["recent"] = Popularity(catalog.trending)
        if is_clicked_only and half_life_days is not None:
            scores["recent_impressions"] = Popularity(catalog.recent)
    return scores
