"""What lists of the best items are like, besides being right: novelty and diversity.

Shapes: n requests, K best items of each, I items of the catalog, D width of a vector.
"""

import numpy as np

_AT_ONCE = 8192


def novelty(top: np.ndarray, n_positives: np.ndarray) -> float:
    """Returns the mean of -log2 of an item's share of the positives, over the items of all lists.

    An item without positives counts as if it had one.

    Source: Vargas and Castells, "Rank and relevance in novelty and diversity metrics", RecSys 2011, section 3.1.

    Args:
        top: [n, K] catalog indices.
        n_positives: [I] positives of each item among the fitting rows.
    """
    counts = np.maximum(1, n_positives)
    information = -np.log2(counts / counts.sum())
    return float(information[top].mean())


def diversity(top: np.ndarray, item_vectors: np.ndarray) -> float:
    """Returns the mean distance 1 - cos of the vectors of two items of a list, over all pairs and lists.

    The sum of the cosines of all pairs of unit vectors is the squared length of the vectors' sum.

    Source: Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005.

    Args:
        top: [n, K] catalog indices, K at least 2.
        item_vectors: [I, D].
    """
    length = np.linalg.norm(item_vectors, axis=1, keepdims=True)
    units, k, total = item_vectors / np.maximum(length, 1e-12), top.shape[1], 0.0
    for start in range(0, len(top), _AT_ONCE):
        sums = units[top[start : start + _AT_ONCE]].sum(axis=1, dtype=np.float64)
        total += float(((sums**2).sum(axis=1) - k).sum() / (k * (k - 1)))
    return 1 - total / len(top)
