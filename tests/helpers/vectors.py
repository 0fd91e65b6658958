"""Vectors to search by inner product, and the search without an index."""

import numpy as np


def vectors(n: int, seed: int = 0, d: int = 16, n_centres: int = 50) -> np.ndarray:
    """[n, d] unit vectors around some centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_centres, d))
    found = centres[rng.integers(0, n_centres, n)] + 0.3 * rng.normal(size=(n, d))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def brute_force(items: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-(queries.astype(np.float64) @ items.T.astype(np.float64)), axis=1, kind="stable")[:, :k]


ITEMS, QUERIES = vectors(3000), vectors(40, seed=1)
