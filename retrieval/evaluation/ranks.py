"""Rankings of the catalog, and their metrics recall@K, NDCG@K, MRR and coverage@K.

Shapes: I items of the catalog, K best items of a request; n requests, b requests of a block, m candidates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.rows import AllRows

KS = (1, 10, 50, 100, 200, 500)
N_HEAD = 100
"""The most popular items; all other items are the tail."""
_SCORES_AT_ONCE = 1 << 22

Scores = Callable[[np.ndarray], np.ndarray]
"""Returns the [b, I] scores of all items for [b] request indices."""


@dataclass(frozen=True)
class Ranking:
    """The rank of each request's target item among all items, and each request's best items."""

    rank: np.ndarray
    """[n] int64 ranks of the target items, from 1."""
    top: np.ndarray
    """[n, K] int32: the K best items of each request, best first."""


@dataclass(frozen=True)
class CandidateRanks:
    """[n] ranks of the requests' items among their candidates, infinite for items that are none."""

    retrieved: np.ndarray
    """In the order in which they were retrieved."""
    reranked: dict[str, np.ndarray]
    """By the score that orders them."""


def rank_all(scores: Scores, target: np.ndarray, n_items: int) -> Ranking:
    """Ranks all items for each request; equal scores are ranked in catalog order.

    Args:
        scores: computes the scores of a block of requests.
        target: [n] catalog indices of the requests' items.
        n_items: I.
    """
    n_top = min(max(KS), n_items)
    ranks, tops = [], []
    for requests, block in _score_blocks(scores, target, n_items):
        ranks.append(_ranks_in(block, target[requests]))
        top = (
            np.argpartition(-block, n_top - 1, axis=1)[:, :n_top]
            if n_top < n_items
            else np.tile(np.arange(n_items), (len(requests), 1))
        )
        top.sort(axis=1)
        order = np.argsort(-np.take_along_axis(block, top, axis=1), axis=1, kind="stable")
        tops.append(np.take_along_axis(top, order, axis=1).astype(np.int32))
    return Ranking(np.concatenate(ranks), np.concatenate(tops))


def rank_targets(scores: Scores, target: np.ndarray, n_items: int) -> np.ndarray:
    """Returns the [n] ranks of `rank_all`, without the best items."""
    return np.concatenate(
        [_ranks_in(block, target[requests]) for requests, block in _score_blocks(scores, target, n_items)]
    )


def _score_blocks(scores: Scores, target: np.ndarray, n_items: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields request indices and their [b, I] float32 scores."""
    for requests in AllRows(len(target)).blocks(max(1, _SCORES_AT_ONCE // n_items)):
        yield requests, scores(requests).astype(np.float32, copy=False)


def _ranks_in(block: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the [b] ranks of the targets among [b, I] scores."""
    target_score = block[np.arange(len(block)), target][:, None]
    is_before = block > target_score
    is_before |= (block == target_score) & (np.arange(block.shape[1]) < target[:, None])
    return np.asarray(1 + is_before.sum(axis=1))


def ks_within(n_items: int) -> tuple[int, ...]:
    """Returns the K below the size of the catalog: the recall of all items says nothing."""
    return tuple(k for k in KS if k < n_items)


def measure_ranks(rank: np.ndarray, ks: Sequence[int] = KS) -> dict[str, float]:
    """Returns recall@K, NDCG@K and MRR of requests with one target item each, from its ranks; empty for no request."""
    if len(rank) == 0:
        return {}
    metrics = {f"recall@{k}": float(np.mean(rank <= k)) for k in ks}
    metrics |= {f"ndcg@{k}": float(np.mean(gains_at(rank, k))) for k in ks}
    return metrics | {"mrr": float(np.mean(1.0 / rank))}


def gains_at(rank: np.ndarray, k: int) -> np.ndarray:
    """[n] NDCG@k of requests with one target item each, from its ranks."""
    return np.where(rank <= k, 1 / np.log2(1.0 + rank), 0.0)


def measure_ranking(ranking: Ranking, n_items: int) -> dict[str, float]:
    """Returns `measure_ranks` and coverage@K, the share of the catalog that is among the K best of any request."""
    ks = ks_within(n_items)
    metrics = measure_ranks(ranking.rank, ks)
    for k in ks:
        metrics[f"coverage@{k}"] = len(np.unique(ranking.top[:, :k])) / n_items
    return metrics


def ranks_among(request: np.ndarray, entry: np.ndarray, score: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns [n] ranks of the requests' items among their candidates by falling score; infinite if not a candidate.

    Args:
        request: [m] request indices of the candidates, 0 .. n - 1.
        entry: [m] catalog indices of the candidates.
        score: [m] scores of the candidates.
        target: [n] catalog indices of the requests' items.
    """
    order = np.lexsort((-score, request))
    candidate_rank = np.empty(len(order), np.int64)
    firsts = np.searchsorted(request[order], request[order], side="left")
    candidate_rank[order] = 1 + np.arange(len(order)) - firsts
    ranks = np.full(len(target), np.inf)
    is_hit = entry == target[request]
    ranks[request[is_hit]] = candidate_rank[is_hit]
    return ranks
