"""How well rankings of a catalog retrieve the items that were clicked."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys.data.rows import AllRows

KS = (1, 10, 50, 100, 200, 500)
N_HEAD = 100
"""Items that are no tail."""
_SCORES_AT_ONCE = 1 << 22

Scores = Callable[[np.ndarray], np.ndarray]
"""Of [b] places of requests, the [b, A] scores of all items."""


@dataclass(frozen=True)
class Ranking:
    """Where each request's item stands among all."""

    rank: np.ndarray
    """[n] int64, from 1."""
    top: np.ndarray
    """[n, K] int32: the K best items of each request, best first."""


def rank_all(scores: Scores, target: np.ndarray, n_items: int) -> Ranking:
    """Ranks all items for each request; of equal scores the item that stands first in the catalog goes first.

    Args:
        scores: of blocks of requests.
        target: [n] each request's item, a place in the catalog.
        n_items: A.
    """
    n_top = min(max(KS), n_items)
    ranks, tops = [], []
    size = max(1, _SCORES_AT_ONCE // n_items)
    for requests in AllRows(len(target)).blocks(size):
        block = scores(requests).astype(np.float32, copy=False)
        wanted = target[requests]
        score = block[np.arange(len(requests)), wanted]
        is_before = block > score[:, None]
        is_before |= (block == score[:, None]) & (np.arange(n_items) < wanted[:, None])
        ranks.append(1 + is_before.sum(axis=1))
        best = (
            np.argpartition(-block, n_top - 1, axis=1)[:, :n_top]
            if n_top < n_items
            else np.tile(np.arange(n_items), (len(requests), 1))
        )
        best.sort(axis=1)
        order = np.argsort(-np.take_along_axis(block, best, axis=1), axis=1, kind="stable")
        tops.append(np.take_along_axis(best, order, axis=1).astype(np.int32))
    return Ranking(np.concatenate(ranks), np.concatenate(tops))


def measure_ranks(rank: np.ndarray) -> dict[str, float]:
    """recall@K, NDCG@K and MRR of requests with one hit each, whose ranks these are; empty for none."""
    if len(rank) == 0:
        return {}
    gain = 1 / np.log2(1.0 + rank)
    found = {f"recall@{k}": float(np.mean(rank <= k)) for k in KS}
    found |= {f"ndcg@{k}": float(np.mean(np.where(rank <= k, gain, 0.0))) for k in KS}
    return found | {"mrr": float(np.mean(1.0 / rank))}


def measure_ranking(ranking: Ranking, n_items: int) -> dict[str, float]:
    """`measure_ranks`, and coverage@K: the share of the catalog that is among the K best of any request."""
    found = measure_ranks(ranking.rank)
    for k in KS:
        found[f"coverage@{k}"] = len(np.unique(ranking.top[:, :k])) / n_items
    return found


def ranks_among(request: np.ndarray, entry: np.ndarray, score: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[n] ranks of the requests' items among their candidates by falling score; infinite where they are none of them.

    Args:
        request: [m] the request of each candidate, 0 .. n - 1.
        entry: [m] places in the catalog.
        score: [m].
        target: [n] each request's item, a place in the catalog.
    """
    order = np.lexsort((-score, request))
    place = np.empty(len(order), np.int64)
    firsts = np.searchsorted(request[order], request[order], side="left")
    place[order] = 1 + np.arange(len(order)) - firsts
    ranks = np.full(len(target), np.inf)
    is_hit = entry == target[request]
    ranks[request[is_hit]] = place[is_hit]
    return ranks
