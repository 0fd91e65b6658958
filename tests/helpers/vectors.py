"""Vectors to search by inner product, and a brute-force search."""

import numpy as np


def vectors(n: int, seed: int = 0, d: int = 16, n_centers: int = 50) -> np.ndarray:
    """[n, d] unit vectors around random centers."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(n_centers, d))
    points = centers[rng.integers(0, n_centers, n)] + 0.3 * rng.normal(size=(n, d))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def brute_force(items: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-(queries.astype(np.float64) @ items.T.astype(np.float64)), axis=1, kind="stable")[:, :k]


ITEMS, QUERIES = vectors(3000), vectors(40, seed=1)
