"""The metrics of a retrieval run, and their printed table."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from recsys.config import Values
from recsys.evaluation.shown import format_interval, format_metric, interval_sd
from recsys.runs.metrics import TowersFitSummary
from recsys.system.progress import console
from retrieval.evaluation.baselines import NON_PERSONAL
from retrieval.evaluation.comparison import RecallComparison, compare_recall
from retrieval.evaluation.ranks import KS, N_HEAD, Ranking, ks_within, measure_ranking, measure_ranks
from retrieval.index import N_RECALLED

_COLUMNS = (*(f"recall@{k}" for k in KS), "ndcg@10", "mrr", "coverage@100")
_SIDE_BY_SIDE = ("recall@10", "ndcg@10")
_OTHER = {"seen": "without seen items", "none": "with seen items"}
_CLOSED_AT = (10, 100)
_COMPARED_AT = 10
HISTORY_BASELINES = ("transitions", "item_knn", "ease", "ease_recent")
BASELINES = (*NON_PERSONAL, *HISTORY_BASELINES)
"""The rankings that the towers have to beat."""

Figures = dict[str, float]
"""Metrics by name: recall@K, ndcg@K, coverage@K and mrr; empty without requests."""


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

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    kind: str
    parameters: dict[str, int]
    ann_recall: float = Field(validation_alias=f"ann_recall@{N_RECALLED}")
    """recall@100 against exact search."""
    queries_per_s: float
    bytes: int


class RecallGain(RecallComparison):
    """The towers compared with the strongest ranking that ignores the user."""

    over: str
    """The name of this ranking: that with the highest recall at the same K."""


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
    closed: dict[str, float | None] | None = None
    """By metric, the towers' improvement over the strongest ranking that ignores the user, as a share of that of the
    true preferences."""
    index: IndexMetrics
    train: TowersFitSummary
    data: RetrievalData

    def dump(self) -> Values:
        """Returns the content of metrics.json."""
        values = self.model_dump(mode="json", exclude_none=True)
        values["index"][f"ann_recall@{N_RECALLED}"] = values["index"].pop("ann_recall")
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
    *,
    other_exclusion: ExclusionMetrics | None,
    reranked: Mapping[str, Figures],
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
        other_exclusion: metrics with the items of histories if the rankings exclude them, and vice versa.
        reranked: metrics of reranked candidates.
        index: metrics of the index.
        train: summary of the towers' training.
        data: the data set and its counts.
    """
    metrics = {name: measure_ranking(ranking, n_items) for name, ranking in rankings.items()}
    closed = None
    if "truth" in metrics:
        closed = {
            key: closed_share(metrics["two_tower"], metrics[strongest(metrics, key)], metrics["truth"], key)
            for key in (f"recall@{k}" for k in ks_within(n_items))
        }
    return RetrievalMetrics(
        **metrics,
        **reranked,
        tail=_measure_subset(rankings, target >= N_HEAD, ks_within(n_items)),  # the catalog is sorted by popularity
        segments={
            name: {
                label: _measure_subset(rankings, np.asarray(pc.equal(labels, pa.scalar(label))), ks_within(n_items))
                for label in sorted(pc.unique(labels).to_pylist())
            }
            for name, labels in segments.items()
        },
        gains=tuple(_recall_gain(rankings, metrics, k, user) for k in _CLOSED_AT if k in ks_within(n_items)),
        closed=closed,
        other_exclusion=other_exclusion,
        index=index,
        train=train,
        data=data,
    )


def strongest(figures: Mapping[str, Figures], metric: str) -> str:
    """Returns the ranking with the highest metric among those that ignore the user."""
    return max((name for name in NON_PERSONAL if name in figures), key=lambda name: figures[name][metric])


def _recall_gain(
    rankings: Mapping[str, Ranking], figures: Mapping[str, Figures], k: int, user: np.ndarray | None
) -> RecallGain:
    over = strongest(figures, f"recall@{k}")
    compared = compare_recall(rankings[over].rank, rankings["two_tower"].rank, k, user)
    return RecallGain(over=over, **dict(compared))


def _measure_subset(rankings: Mapping[str, Ranking], is_member: np.ndarray, ks: Sequence[int]) -> SubsetMetrics:
    metrics = {name: measure_ranks(ranking.rank[is_member], ks) for name, ranking in rankings.items()}
    return SubsetMetrics(n_requests=int(is_member.sum()), **metrics)


def verdict(metrics: RetrievalMetrics) -> str | None:
    """Returns one line if the towers are not above the strongest baseline, with what to try; None if they are."""
    k = max((k for k in ks_within(metrics.data.n_items) if k <= _COMPARED_AT), default=None)
    assert metrics.two_tower is not None
    baselines = {name: figures for name in BASELINES if (figures := getattr(metrics, name)) is not None}
    if k is None or not baselines:
        return None
    metric = f"recall@{k}"
    strongest = max(baselines, key=lambda name: baselines[name][metric])
    ours, theirs = metrics.two_tower[metric], baselines[strongest][metric]
    if ours > theirs:
        return None
    cures = ["more epochs (trainer.epochs)", "a higher trainer.learning_rate", "more columns in schema.towers"]
    if strongest in HISTORY_BASELINES:
        cures.insert(0, "model.pooling=causal, which reads the order of the history")
    return (
        f"two_tower's {metric} of {ours:.4f} is not above {theirs:.4f} of the baseline {strongest}: "
        f"use the baseline, or try {', '.join(cures)}"
    )


def closed_share(figures: Figures, baseline: Figures, bound: Figures, metric: str) -> float | None:
    """Returns the improvement over a baseline as a share of the bound's; None if the bound is not above it."""
    gap = bound[metric] - baseline[metric]
    return (figures[metric] - baseline[metric]) / gap if gap > 0 else None


def print_retrieval(metrics: RetrievalMetrics, title: str) -> None:
    """Prints the metrics as a table."""
    data, index, tail = metrics.data, metrics.index, metrics.tail
    table = Table(title=f"{title}: {data.n_requests:,} requests, {data.n_items:,} items", title_justify="left")
    columns = [name for name in _COLUMNS if any(name in figures for figures in metrics.rankings.values())]
    other = metrics.other_exclusion
    both = {} if other is None else {f"{key} {_OTHER[other.exclude]}": key for key in _SIDE_BY_SIDE if key in columns}
    for column in ("ranking", *columns, *both):
        table.add_column(column, justify="left" if column == "ranking" else "right")
    styles = {"two_tower": "bold", "truth": "green"}
    for name, figures in metrics.rankings.items():
        others = {} if other is None else other.rankings.get(name, {})
        table.add_row(name, *_cells(figures, columns), *_cells(others, [*both.values()]), style=styles.get(name))
    for name, figures in tail.rankings.items():
        if figures:
            table.add_row(f"tail: {name}", *_cells(figures, columns), *["-"] * len(both), style="dim")
    console.print(table)
    if tail.n_requests:
        console.print(f"tail: the {tail.n_requests:,} requests whose item is not among the {N_HEAD} most popular")
    if (warning := verdict(metrics)) is not None:
        console.print(warning, style="yellow")
    for gain in metrics.gains:
        d = gain.difference
        interval = f"{format_metric(d.difference, interval_sd(d.low, d.high), '+')} ({format_interval(d.low, d.high)})"
        notes = "; ".join(text for text in (gain.basis, gain.note) if text)
        console.print(f"recall@{gain.recall_at} over {gain.over}, the strongest popularity: {interval}, {notes}")
    if metrics.closed is not None:
        shares = [f"K={k} {share:.0%}" for k in _CLOSED_AT if (share := metrics.closed.get(f"recall@{k}"))]
        console.print(
            f"share of the recall gap from the strongest popularity to true preferences closed: {', '.join(shares)}"
        )
    console.print(
        f"index {index.kind} {index.parameters}: recall@{N_RECALLED} against exact search {index.ann_recall:.4f}, "
        f"{index.queries_per_s:,.0f} queries/s, {index.bytes:,} bytes"
    )
    console.print(f"trained on {metrics.train.n_rows_trained:,} rows at {metrics.train.rows_per_s:,.0f} rows/s")


def _cells(figures: Figures, columns: Sequence[str]) -> list[str]:
    return [f"{figures[key]:.4f}" if key in figures else "-" for key in columns]
