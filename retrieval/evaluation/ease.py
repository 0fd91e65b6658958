"""EASE, a baseline from a user's history: a linear model between items in closed form.

Shapes: I items of the catalog, N most popular items; b rows of a block.
"""

import numpy as np
from scipy import linalg, sparse

from recsys.data.rows import ListedRows, Permutation, Rows
from recsys.data.split import Split
from retrieval.catalog import Catalog
from retrieval.evaluation.history_baselines import N_COUNTED_ROWS, Histories

N_EASE_ITEMS = 5000
"""The most popular items, which the model reads and ranks: its time grows with the cube of their number."""
EASE_L2 = 500.0
HALF_LIFE = 3.0
"""Events of a request's history over which their weight is halved, in the ranking by recent events."""
_BLOCK_ROWS = 65_536


def ease_weights(histories: Histories, catalog: Catalog, split: Split, rows: Rows, l2: float, seed: int) -> np.ndarray:
    """Fits B: a user's scores are x B, where x says which items the user has; an item has no weight for itself.

    Source: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, equation 8.

    Args:
        histories: reads the rows' histories.
        catalog: the items.
        split: provides the rows' items.
        rows: training rows, each with the items of its history and its own; of many, a sample is read.
        l2: the penalty.
        seed: chooses the sample.

    Returns:
        [N, N] float32.
    """
    n_items = min(len(catalog), N_EASE_ITEMS)
    if len(rows) > N_COUNTED_ROWS:
        sampled = Permutation(len(rows), seed)(np.arange(N_COUNTED_ROWS))
        rows = ListedRows(np.sort(rows(sampled)))
    gram = np.zeros((n_items, n_items))
    for block in rows.blocks(_BLOCK_ROWS):
        own = (np.ones(len(block), np.float32), (np.arange(len(block)), catalog.entries(split, block)))
        has_item = histories.matrix(block) + sparse.csr_matrix(own, shape=(len(block), len(catalog)))
        has_item.data[:] = 1
        popular = has_item[:, :n_items]
        gram += (popular.T @ popular).toarray()
    gram[np.diag_indices(n_items)] += l2
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights.astype(np.float32)


class Ease:
    """Ranks items by EASE; ties, and items beyond the N most popular, by popularity.

    Args:
        weights: [N, N] of `ease_weights`.
        histories: reads the requests' histories.
        requests: the rows of the requests.
        half_life: events over which the weight of an event is halved; None for equal weights.
    """

    def __init__(self, weights: np.ndarray, histories: Histories, requests: Rows, half_life: float | None) -> None:
        self._weights, self._histories, self._requests, self._half_life = weights, histories, requests, half_life

    def __call__(self, requests: np.ndarray) -> np.ndarray:
        """Returns [b, I] scores of [b] request indices."""
        n_scored = len(self._weights)
        history = self._histories.matrix(self._requests(requests), half_life=self._half_life)
        scores = np.full((len(requests), self._histories.n_items), -np.inf, np.float32)
        scores[:, :n_scored] = history[:, :n_scored] @ self._weights
        return scores
