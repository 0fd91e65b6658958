"""Compares two rankings of the catalog on the same requests: the difference of recall@K, with a bootstrap interval.

Shapes: n requests, C clusters, R replicates; 2 rankings, first the reference.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel

from recsys.evaluation.bootstrap.intervals import difference_bounds
from recsys.evaluation.comparison import ENOUGH_CLUSTERS, Difference

_AT_ONCE = 1 << 22


class RecallComparison(BaseModel):
    """The difference of recall@K of two rankings on the same requests, and what its interval is drawn over."""

    recall_at: int
    difference: Difference
    by: Literal["request", "user"]
    n_clusters: int

    @property
    def basis(self) -> str:
        """The clusters as text."""
        return f"{self.n_clusters:,} {self.by}s"

    @property
    def note(self) -> str | None:
        """A warning that the interval is rough; None if there are enough clusters."""
        return f"rough interval, from {self.basis}" if self.n_clusters < ENOUGH_CLUSTERS else None


def compare_recall(
    first_rank: np.ndarray,
    second_rank: np.ndarray,
    k: int,
    user: np.ndarray | None = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> RecallComparison:
    """Computes recall@k of the second ranking - that of the first, with an interval.

    The bootstrap draws users if they are known, else requests: each gets a Poisson(1) weight, the same for both
    rankings, so that the difference of a request's hits is drawn.

    Args:
        first_rank: [n] ranks of the requests' items, from 1, in the reference ranking.
        second_rank: [n] ranks in the evaluated ranking.
        k: number of items at the top that count.
        user: [n] users of the requests, -1 for a request of its own; None if users are unknown.
        n_replicates: R.
        level: confidence level.
        seed: seed of the weights.
    """
    hit_2n = np.stack([first_rank <= k, second_rank <= k]).astype(np.float64)
    cluster = _clusters(user, hit_2n.shape[1])
    n_requests_C = np.bincount(cluster).astype(np.float64)
    hits_C2 = np.stack([np.bincount(cluster, weights=hit) for hit in hit_2n], axis=1)
    n_clusters, rng, parts = len(n_requests_C), np.random.default_rng(seed), []
    at_once = max(1, _AT_ONCE // n_clusters)
    for start in range(0, n_replicates, at_once):
        weight_RC = rng.poisson(1.0, (min(at_once, n_replicates - start), n_clusters))
        n_drawn_R1 = (weight_RC @ n_requests_C)[:, None]
        parts.append(np.where(n_drawn_R1 > 0, weight_RC @ hits_C2, np.nan) / np.where(n_drawn_R1 > 0, n_drawn_R1, 1.0))
    recall = hit_2n.mean(axis=1)
    low, high, p_value = difference_bounds(np.concatenate(parts)[:, :, None], recall[:, None], 1, n_clusters, level)
    difference = Difference(
        first=recall[0],
        second=recall[1],
        difference=recall[1] - recall[0],
        low=low[0],
        high=high[0],
        p_value=p_value[0],
    )
    return RecallComparison(
        recall_at=k, difference=difference, by="request" if user is None else "user", n_clusters=n_clusters
    )


def _clusters(user: np.ndarray | None, n: int) -> np.ndarray:
    """Returns [n] int64 cluster numbers from 0; each request without a user is a cluster of its own."""
    if user is None:
        return np.arange(n)
    numbered = np.where(user >= 0, user.astype(np.int64), -1 - np.arange(n))
    return np.unique(numbered, return_inverse=True)[1]
