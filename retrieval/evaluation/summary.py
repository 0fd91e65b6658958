"""The metrics of a retrieval run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys.config import Values
from recsys.runs.metrics import TowersFitSummary
from retrieval.evaluation.baselines import NON_PERSONAL
from retrieval.evaluation.comparison import RecallComparison, RequestComparison, compare_means, compare_recall
from retrieval.evaluation.lists import diversity, novelty
from retrieval.evaluation.ranks import (
    N_HEAD,
    CandidateRanks,
    Ranking,
    gains_at,
    ks_within,
    measure_ranking,
    measure_ranks,
)

CLOSED_AT = (10, 100)
_ANN_RECALL = "ann_recall@"
_GAINS_AT = (10, 50, 100)
N_LISTED = 10
"""Best items of a request of which novelty and diversity are measured."""
HISTORY_BASELINES = ("transitions", "item_knn", "ease", "ease_recent")
BASELINES = (*NON_PERSONAL, *HISTORY_BASELINES)
"""The rankings that the towers have to beat."""

Figures = dict[str, float]
"""Metrics by name: recall@K, ndcg@K, coverage@K, mrr, novelty@10 and diversity@10; empty without requests."""


class RankingMetrics(BaseModel):
    """The metrics of each ranking of the catalog, for the same requests."""

    model_config = ConfigDict(frozen=True)

    random: Figures | None = None
    popularity: Figures | None = None
    popular_positives: Figures | None = None
    """Popularity among positives, if not all rows are positives."""
    recent: Figures | None = None
    """Popularity among positives, in which earlier days have lower weights."""
    recent_impressions: Figures | None = None
    """The same among all rows, if not all rows are positives and a half-life is set."""
    transitions: Figures | None = None
    """Items that came directly after the last item of the history."""
    item_knn: Figures | None = None
    """Items that are often in one history with the most recent items."""
    ease: Figures | None = None
    """EASE, a linear model between items."""
    ease_recent: Figures | None = None
    """EASE of the events of the history, in which earlier events have lower weights."""
    two_tower: Figures | None = None
    reranked: Figures | None = None
    reranked_jointly: Figures | None = None
    truth: Figures | None = None
    """The generator's true preferences; None if the data was not generated."""

    @property
    def rankings(self) -> dict[str, Figures]:
        """The metrics by ranking, in the order of tables."""
        metrics_by_name = {name: getattr(self, name) for name in RankingMetrics.model_fields}
        return {name: metrics for name, metrics in metrics_by_name.items() if metrics is not None}


class SubsetMetrics(RankingMetrics):
    """The metrics of each ranking for a subset of the requests."""

    n_requests: int


class ExclusionMetrics(RankingMetrics):
    """The metrics of each ranking if the items of the request's history are ranked last, or if they are not."""

    exclude: Literal["seen", "none"]


class IndexMetrics(BaseModel):
    """The index compared with exact search."""

    model_config = ConfigDict(frozen=True)

    kind: str
    parameters: dict[str, int]
    recall_at: int
    """The K of `ann_recall`: 100, or fewer than all items."""
    ann_recall: float
    """recall@K against exact search; `ann_recall@K` in metrics.json."""
    queries_per_s: float
    bytes: int

    @model_validator(mode="before")
    @classmethod
    def _read_k(cls, values: Values) -> Values:
        name = next((name for name in values if name.startswith(_ANN_RECALL)), None)
        if name is None:
            return values
        others = {key: value for key, value in values.items() if key != name}
        return others | {"recall_at": name.removeprefix(_ANN_RECALL), "ann_recall": values[name]}


class RecallGain(RecallComparison):
    """The towers compared with the strongest ranking that ignores the user."""

    over: str
    """The name of this ranking: that with the highest recall at the same K."""


class RerankingGain(RequestComparison):
    """Reranked candidates compared with the order of the towers."""

    ranking: str
    """`reranked` or `reranked_jointly`."""
    metric: Literal["ndcg@10", "mrr"]
    """With one item per request, the reciprocal rank is the average precision (AP) of its list."""


class RetrievalData(BaseModel):
    """The data set, and the numbers of items and evaluated requests."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    folder: str
    n_items: int = Field(validation_alias="n_ads")  # its name in earlier versions
    n_requests: int


class RetrievalMetrics(RankingMetrics):
    """metrics.json of a retrieval run."""

    tail: SubsetMetrics
    """Metrics of the requests whose item is not among the `N_HEAD` most popular items."""
    segments: dict[str, dict[str, SubsetMetrics]]
    """Metrics by segmentation and label."""
    other_exclusion: ExclusionMetrics | None = None
    """The same requests, without the items of their histories if `exclude` keeps them, else with them; None if the
    towers read no histories of target items."""
    gains: tuple[RecallGain, ...] = ()
    """The towers' gain in recall@K over the strongest ranking that ignores the user, by K."""
    gains_over_best: tuple[RecallGain, ...] = ()
    """The towers' gain in recall@K over the strongest baseline, which may read the history, by K."""
    gains_of_reranking: tuple[RerankingGain, ...] = ()
    """What reranking gains over the order of the towers, among the same candidates."""
    closed: dict[str, float | None] | None = None
    """By metric, the towers' improvement over the strongest ranking that ignores the user, as a share of that of the
    true preferences."""
    index: IndexMetrics
    train: TowersFitSummary
    data: RetrievalData

    def dump(self) -> Values:
        """Returns the content of metrics.json."""
        values = self.model_dump(mode="json", exclude_none=True)
        index = values["index"]
        index[f"{_ANN_RECALL}{index.pop('recall_at')}"] = index.pop("ann_recall")
        values["train"] = self.train.model_dump(mode="json")
        if self.closed is not None:
            values["closed"] = self.closed
        return values


def summarize(
    rankings: Mapping[str, Ranking],
    target: np.ndarray,
    segments: Mapping[str, pa.Array],
    n_items: int,
    user: np.ndarray | None,
    n_positives: np.ndarray,
    item_vectors: np.ndarray,
    *,
    other_exclusion: ExclusionMetrics | None,
    candidates: CandidateRanks | None,
    index: IndexMetrics,
    train: TowersFitSummary,
    data: RetrievalData,
) -> RetrievalMetrics:
    """Computes the metrics of all rankings: for all requests, by segment, and for the requests of tail items.

    Args:
        rankings: rankings of the full catalog for each request, by name.
        target: [n] catalog indices of the requests' items.
        segments: [n] labels of the requests, by segmentation.
        n_items: items of the catalog.
        user: [n] users of the requests, -1 for null, whom intervals draw; None draws requests.
        n_positives: positives of each item, by which novelty is measured.
        item_vectors: the towers' vectors of the items, by which diversity is measured.
        other_exclusion: metrics with the items of histories if the rankings exclude them, and vice versa.
        candidates: ranks among reranked candidates; None if they are not reranked.
        index: metrics of the index.
        train: summary of the towers' training.
        data: the data set and its counts.
    """
    metrics = {name: measure_ranking(ranking, n_items) for name, ranking in rankings.items()}
    ks, closed = ks_within(n_items), None
    if n_items > N_LISTED:
        for name, ranking in rankings.items():
            top = ranking.top[:, :N_LISTED]
            metrics[name][f"novelty@{N_LISTED}"] = novelty(top, n_positives)
            metrics[name][f"diversity@{N_LISTED}"] = diversity(top, item_vectors)
    if "truth" in metrics:
        closed = {
            key: closed_share(metrics["two_tower"], metrics[strongest(metrics, key)], metrics["truth"], key)
            for key in (f"recall@{k}" for k in ks_within(n_items))
        }
    return RetrievalMetrics(
        **metrics,
        **({} if candidates is None else {name: measure_ranks(r, ks) for name, r in candidates.reranked.items()}),
        tail=_measure_subset(rankings, target >= N_HEAD, ks_within(n_items)),  # the catalog is sorted by popularity
        segments={
            name: {
                label: _measure_subset(rankings, np.asarray(pc.equal(labels, pa.scalar(label))), ks_within(n_items))
                for label in sorted(pc.unique(labels).to_pylist())
            }
            for name, labels in segments.items()
        },
        gains=tuple(_recall_gain(rankings, metrics, k, user, NON_PERSONAL) for k in CLOSED_AT if k in ks),
        gains_over_best=tuple(_recall_gain(rankings, metrics, k, user, BASELINES) for k in _GAINS_AT if k in ks),
        gains_of_reranking=() if candidates is None else tuple(_reranking_gains(candidates, user)),
        closed=closed,
        other_exclusion=other_exclusion,
        index=index,
        train=train,
        data=data,
    )


def strongest(figures: Mapping[str, Figures], metric: str, names: Sequence[str] = NON_PERSONAL) -> str:
    """Returns the ranking with the highest metric among the named ones, by default those that ignore the user."""
    return max((name for name in names if name in figures), key=lambda name: figures[name][metric])


def _recall_gain(
    rankings: Mapping[str, Ranking],
    figures: Mapping[str, Figures],
    k: int,
    user: np.ndarray | None,
    names: Sequence[str],
) -> RecallGain:
    over = strongest(figures, f"recall@{k}", names)
    compared = compare_recall(rankings[over].rank, rankings["two_tower"].rank, k, user)
    return RecallGain(over=over, **dict(compared))


def _reranking_gains(candidates: CandidateRanks, user: np.ndarray | None) -> Iterator[RerankingGain]:
    first = candidates.retrieved
    for name, rank in candidates.reranked.items():
        compared = compare_means(gains_at(first, N_LISTED), gains_at(rank, N_LISTED), user)
        yield RerankingGain(ranking=name, metric="ndcg@10", **dict(compared))
        yield RerankingGain(ranking=name, metric="mrr", **dict(compare_means(1 / first, 1 / rank, user)))


def _measure_subset(rankings: Mapping[str, Ranking], is_member: np.ndarray, ks: Sequence[int]) -> SubsetMetrics:
    metrics = {name: measure_ranks(ranking.rank[is_member], ks) for name, ranking in rankings.items()}
    return SubsetMetrics(n_requests=int(is_member.sum()), **metrics)


def closed_share(figures: Figures, baseline: Figures, bound: Figures, metric: str) -> float | None:
    """Returns the improvement over a baseline as a share of the bound's; None if the bound is not above it."""
    gap = bound[metric] - baseline[metric]
    return (figures[metric] - baseline[metric]) / gap if gap > 0 else None
