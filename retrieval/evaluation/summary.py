"""The figures of a retrieval run, and the table that shows them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from recsys.system.progress import console
from retrieval.evaluation.ranks import KS, N_HEAD, Ranking, measure_ranking, measure_ranks
from retrieval.index import N_RECALLED

_SHOWN = (*(f"recall@{k}" for k in KS), "ndcg@10", "mrr", "coverage@100")


def summarize(
    rankings: dict[str, Ranking], target: np.ndarray, segments: dict[str, pa.Array], n_items: int
) -> dict[str, Any]:
    """The figures of all rankings: overall, by segment, and of the clicks on ads that are not popular."""
    metrics: dict[str, Any] = {name: measure_ranking(ranking, n_items) for name, ranking in rankings.items()}
    is_tail = target >= N_HEAD  # the catalogue stands in the order of popularity
    metrics["tail"] = {"n_requests": int(is_tail.sum())}
    metrics["tail"] |= {name: measure_ranks(ranking.rank[is_tail]) for name, ranking in rankings.items()}
    metrics["segments"] = {}
    for name, labels in segments.items():
        found = metrics["segments"][name] = {}
        for label in sorted(pc.unique(labels).to_pylist()):
            mine = np.asarray(pc.equal(labels, pa.scalar(label)))
            figures: dict[str, Any] = {key: measure_ranks(ranking.rank[mine]) for key, ranking in rankings.items()}
            found[label] = {"n_requests": int(mine.sum())} | figures
    if "truth" in rankings:
        metrics["closed"] = {
            f"recall@{k}": closed(metrics["two_tower"], metrics["popularity"], metrics["truth"], f"recall@{k}")
            for k in KS
        }
    return metrics


def closed(ours: dict[str, float], popularity: dict[str, float], bound: dict[str, float], metric: str) -> float | None:
    """The share of the distance from popularity to the bound that is covered; None where there is none."""
    distance = bound[metric] - popularity[metric]
    return (ours[metric] - popularity[metric]) / distance if distance > 0 else None


def print_retrieval(metrics: dict[str, Any], title: str) -> None:
    """Shows metrics.json as a table."""
    counts = metrics["data"]
    table = Table(title=f"{title}: {counts['n_requests']:,} requests, {counts['n_ads']:,} ads", title_justify="left")
    for column in ("ranking", *_SHOWN):
        table.add_column(column, justify="left" if column == "ranking" else "right")
    styles = {"two_tower": "bold", "truth": "green"}
    order = ("random", "popularity", "recent", "two_tower", "reranked", "reranked_jointly", "truth")
    names = [name for name in order if name in metrics]
    for name in names:
        figures = metrics[name]
        table.add_row(
            name, *[f"{figures[key]:.4f}" if key in figures else "-" for key in _SHOWN], style=styles.get(name)
        )
    for name in names:
        figures = metrics["tail"].get(name)
        if figures:
            table.add_row(
                f"tail: {name}", *[f"{figures[key]:.4f}" if key in figures else "-" for key in _SHOWN], style="dim"
            )
    console.print(table)
    tail = metrics["tail"]
    console.print(f"tail: the {tail['n_requests']:,} requests whose ad is outside the {N_HEAD} most popular")
    if "closed" in metrics:
        shares = [
            f"K={k} {metrics['closed'][f'recall@{k}']:.0%}" for k in (10, 100) if metrics["closed"][f"recall@{k}"]
        ]
        console.print(f"of the distance from popularity to the true preferences, closed at {', '.join(shares)}")
    index = metrics["index"]
    console.print(
        f"index {index['kind']} {index['parameters']}: recall@{N_RECALLED} against exact search "
        f"{index[f'ann_recall@{N_RECALLED}']:.4f}, {index['queries_per_s']:,.0f} queries/s, {index['bytes']:,} bytes"
    )
    train = metrics["train"]
    console.print(f"trained {train['n_rows_trained']:,} rows at {train['rows_per_s']:,.0f} rows/s")
