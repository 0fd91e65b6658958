"""The metrics of a retrieval run, and the table that shows them."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, model_validator
from rich.table import Table

from recsys.config import Values
from recsys.runs.metrics import TowersFitSummary
from recsys.system.progress import console
from retrieval.evaluation.ranks import KS, N_HEAD, Ranking, measure_ranking, measure_ranks
from retrieval.index import N_RECALLED

_COLUMNS = (*(f"recall@{k}" for k in KS), "ndcg@10", "mrr", "coverage@100")
_CLOSED_AT = (10, 100)

Figures = dict[str, float]
"""recall@K, ndcg@K, coverage@K and mrr; empty where there was no request."""


class RankingMetrics(BaseModel):
    """The figures of each ranking of the catalog, for the same requests."""

    model_config = ConfigDict(frozen=True)

    random: Figures | None = None
    popularity: Figures | None = None
    recent: Figures | None = None
    """Popularity with earlier days weighing less."""
    two_tower: Figures | None = None
    reranked: Figures | None = None
    reranked_jointly: Figures | None = None
    truth: Figures | None = None
    """The generator's true preferences, where they are known."""

    @property
    def rankings(self) -> dict[str, Figures]:
        """The figures by ranking, in the order of every table."""
        named = {name: getattr(self, name) for name in RankingMetrics.model_fields}
        return {name: figures for name, figures in named.items() if figures is not None}


class SubsetMetrics(RankingMetrics):
    """The same for some of the requests."""

    n_requests: int


class IndexMetrics(BaseModel):
    """How the index compares with exact search."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    kind: str
    parameters: dict[str, int]
    ann_recall: float
    """Of the 100 best by exact search."""
    queries_per_s: float
    bytes: int

    @model_validator(mode="before")
    @classmethod
    def _read_key_with_k(cls, values: Values) -> Values:
        key = f"ann_recall@{N_RECALLED}"
        return {("ann_recall" if name == key else name): value for name, value in values.items()}


class RetrievalData(BaseModel):
    """What was retrieved from what."""

    model_config = ConfigDict(frozen=True)

    folder: str
    n_items: int
    n_requests: int

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_name(cls, values: Values) -> Values:
        return {("n_items" if name == "n_items" else name): value for name, value in values.items()}


class RetrievalMetrics(RankingMetrics):
    """metrics.json of a retrieval run."""

    tail: SubsetMetrics
    """Of the requests whose item is not among the most popular."""
    segments: dict[str, dict[str, SubsetMetrics]]
    """By segmentation and label."""
    closed: dict[str, float | None] | None = None
    """The share of the distance from popularity to the true preferences that the towers cover."""
    index: IndexMetrics
    train: TowersFitSummary
    data: RetrievalData

    def dump(self) -> Values:
        """The content of metrics.json."""
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
    *,
    reranked: Mapping[str, Figures],
    index: IndexMetrics,
    train: TowersFitSummary,
    data: RetrievalData,
) -> RetrievalMetrics:
    """The metrics of all rankings: overall, by segment, and of the requests whose item is not popular.

    Args:
        rankings: by name, of the whole catalog for each request.
        target: [n] the item of each request, by its entry in the catalog.
        segments: by segmentation, the [n] labels of the requests.
        n_items: of the catalog.
        reranked: figures of candidates in another order.
        index: of the items.
        train: of the towers.
        data: what was retrieved.
    """
    figures = {name: measure_ranking(ranking, n_items) for name, ranking in rankings.items()}
    closed = None
    if "truth" in figures:
        closed = {
            f"recall@{k}": closed_share(figures["two_tower"], figures["popularity"], figures["truth"], f"recall@{k}")
            for k in KS
        }
    return RetrievalMetrics(
        **figures,
        **reranked,
        tail=_measure_subset(rankings, target >= N_HEAD),  # the catalog is ordered by popularity
        segments={
            name: {
                label: _measure_subset(rankings, np.asarray(pc.equal(labels, pa.scalar(label))))
                for label in sorted(pc.unique(labels).to_pylist())
            }
            for name, labels in segments.items()
        },
        closed=closed,
        index=index,
        train=train,
        data=data,
    )


def _measure_subset(rankings: Mapping[str, Ranking], is_inside: np.ndarray) -> SubsetMetrics:
    figures = {name: measure_ranks(ranking.rank[is_inside]) for name, ranking in rankings.items()}
    return SubsetMetrics(n_requests=int(is_inside.sum()), **figures)


def closed_share(figures: Figures, popularity: Figures, bound: Figures, metric: str) -> float | None:
    """The share of the distance from popularity to the bound that is covered; None where there is none."""
    distance = bound[metric] - popularity[metric]
    return (figures[metric] - popularity[metric]) / distance if distance > 0 else None


def print_retrieval(metrics: RetrievalMetrics, title: str) -> None:
    """Prints metrics.json as a table."""
    data, index, tail = metrics.data, metrics.index, metrics.tail
    table = Table(title=f"{title}: {data.n_requests:,} requests, {data.n_items:,} items", title_justify="left")
    for column in ("ranking", *_COLUMNS):
        table.add_column(column, justify="left" if column == "ranking" else "right")
    styles = {"two_tower": "bold", "truth": "green"}
    for name, figures in metrics.rankings.items():
        table.add_row(name, *_cells(figures), style=styles.get(name))
    for name, figures in tail.rankings.items():
        if figures:
            table.add_row(f"tail: {name}", *_cells(figures), style="dim")
    console.print(table)
    console.print(f"tail: the {tail.n_requests:,} requests whose item is outside the {N_HEAD} most popular")
    if metrics.closed is not None:
        shares = [f"K={k} {share:.0%}" for k in _CLOSED_AT if (share := metrics.closed[f"recall@{k}"])]
        console.print(f"of the distance from popularity to the true preferences, closed at {', '.join(shares)}")
    console.print(
        f"index {index.kind} {index.parameters}: recall@{N_RECALLED} against exact search {index.ann_recall:.4f}, "
        f"{index.queries_per_s:,.0f} queries/s, {index.bytes:,} bytes"
    )
    console.print(f"trained {metrics.train.n_rows_trained:,} rows at {metrics.train.rows_per_s:,.0f} rows/s")


def _cells(figures: Figures) -> list[str]:
    return [f"{figures[key]:.4f}" if key in figures else "-" for key in _COLUMNS]
