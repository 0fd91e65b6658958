"""Compares two rankings of the same requests: the difference of recall@K, NDCG@K or MRR, with a bootstrap interval.

Shapes: n requests, C clusters, R replicates; 2 rankings, first the reference.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel

from recsys.evaluation.bootstrap.intervals import difference_bounds
from recsys.evaluation.comparison import ENOUGH_CLUSTERS, Difference

_AT_ONCE = 1 << 22


class RequestComparison(BaseModel):
    """The difference of a metric of two rankings on the same requests, and what its interval is drawn over."""

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


class RecallComparison(RequestComparison):
    """The difference of recall@K."""

    recall_at: int


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

    Args:
        first_rank: [n] ranks of the requests' items, from 1, in the reference ranking.
        second_rank: [n] ranks in the evaluated ranking.
        k: number of items at the top that count.
        user, n_replicates, level, seed: see `compare_means`.
    """
    compared = compare_means(first_rank <= k, second_rank <= k, user, n_replicates, level, seed)
    return RecallComparison(recall_at=k, **dict(compared))


def compare_means(
    first: np.ndarray,
    second: np.ndarray,
    user: np.ndarray | None = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> RequestComparison:
    """Computes the difference second - first of the means over requests, with an interval.

    The bootstrap draws users if they are known, else requests: each gets a Poisson(1) weight, the same for both
    rankings, so that the difference of a request's values is drawn.

    Args:
        first: [n] values of the requests, such as hits or gains, in the reference ranking.
        second: [n] values in the evaluated ranking.
        user: [n] users of the requests, -1 for a request of its own; None if users are unknown.
        n_replicates: R.
        level: confidence level.
        seed: seed of the weights.
    """
    value_2n = np.stack([first, second]).astype(np.float64)
    cluster = _clusters(user, value_2n.shape[1])
    n_requests_C = np.bincount(cluster).astype(np.float64)
    sums_C2 = np.stack([np.bincount(cluster, weights=value) for value in value_2n], axis=1)
    n_clusters, rng, parts = len(n_requests_C), np.random.default_rng(seed), []
    at_once = max(1, _AT_ONCE // n_clusters)
    for start in range(0, n_replicates, at_once):
        weight_RC = rng.poisson(1.0, (min(at_once, n_replicates - start), n_clusters))
        n_drawn_R1 = (weight_RC @ n_requests_C)[:, None]
        parts.append(np.where(n_drawn_R1 > 0, weight_RC @ sums_C2, np.nan) / np.where(n_drawn_R1 > 0, n_drawn_R1, 1.0))
    mean = value_2n.mean(axis=1)
    low, high, p_value = difference_bounds(np.concatenate(parts)[:, :, None], mean[:, None], 1, n_clusters, level)
    difference = Difference(
        first=mean[0],
        second=mean[1],
        difference=mean[1] - mean[0],
        low=low[0],
        high=high[0],
        p_value=p_value[0],
    )
    return RequestComparison(difference=difference, by="request" if user is None else "user", n_clusters=n_clusters)


def _clusters(user: np.ndarray | None, n: int) -> np.ndarray:
    """Returns [n] int64 cluster numbers from 0; each request without a user is a cluster of its own."""
    if user is None:
        return np.arange(n)
    numbered = np.where(user >= 0, user.astype(np.int64), -1 - np.arange(n))
    return np.unique(numbered, return_inverse=True)[1]
