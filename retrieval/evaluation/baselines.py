"""Rankings that know nothing of the user: what retrieval has to beat."""

import numpy as np


class Popularity:
    """Ranks items by [A] counts, whoever asks."""

    def __init__(self, counts: np.ndarray) -> None:
        self._scores = counts.astype(np.float32)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """[b] places of requests to [b, A]."""
        return np.tile(self._scores, (len(places), 1))


class Random:
    """Ranks items by chance."""

    def __init__(self, n_items: int, seed: int) -> None:
        self._n_items, self._seed = n_items, seed

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """[b] places of requests to [b, A]."""
        return np.random.default_rng([self._seed, int(places[0])]).random((len(places), self._n_items), np.float32)
