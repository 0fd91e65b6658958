"""Baseline rankings, which do not depend on the user.

Shapes: I items of the catalog; b requests of a block.
"""

import numpy as np


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
