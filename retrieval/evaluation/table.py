"""The printed table of a retrieval run."""

import math
from collections.abc import Sequence

from rich.table import Table

from recsys.evaluation.shown import format_interval, format_metric, interval_sd
from recsys.system.progress import console
from retrieval.evaluation.comparison import RequestComparison
from retrieval.evaluation.ranks import KS, N_HEAD, ks_within
from retrieval.evaluation.summary import BASELINES, CLOSED_AT, HISTORY_BASELINES, Figures, RetrievalMetrics

_COLUMNS = (*(f"recall@{k}" for k in KS), "ndcg@10", "mrr", "coverage@100")
_SIDE_BY_SIDE = ("recall@10", "ndcg@10")
_OTHER = {"seen": "without seen items", "none": "with seen items"}
_COMPARED_AT = 10


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


def print_retrieval(metrics: RetrievalMetrics, title: str) -> None:
    """Prints the metrics as a table."""
    data, index, tail = metrics.data, metrics.index, metrics.tail
    table = Table(title=f"{title}: {data.n_requests:,} requests, {data.n_items:,} items", title_justify="left")
    columns = [name for name in _COLUMNS if any(name in figures for figures in metrics.rankings.values())]
    other = metrics.other_exclusion
    both = {} if other is None else {f"{key} {_OTHER[other.exclude]}": key for key in _SIDE_BY_SIDE if key in columns}
    for column in ("ranking", *columns, *both):
        table.add_column(column, justify="left" if column == "ranking" else "right")
    sd = _standard_errors(metrics)
    styles = {"two_tower": "bold", "truth": "green"}
    for name, figures in metrics.rankings.items():
        others = {} if other is None else other.rankings.get(name, {})
        cells = [*_cells(figures, columns, sd), *_cells(others, [*both.values()], sd)]
        table.add_row(name, *cells, style=styles.get(name))
    for name, figures in tail.rankings.items():
        if figures:
            table.add_row(f"tail: {name}", *_cells(figures, columns, sd), *["-"] * len(both), style="dim")
    console.print(table)
    if tail.n_requests:
        console.print(f"tail: the {tail.n_requests:,} requests whose item is not among the {N_HEAD} most popular")
    if (warning := verdict(metrics)) is not None:
        console.print(warning, style="yellow")
    for kind, gains in (("popularity", metrics.gains), ("baseline", metrics.gains_over_best)):
        for gain in gains:
            console.print(f"recall@{gain.recall_at} over {gain.over}, the strongest {kind}: {_interval(gain)}")
    for reranking in metrics.gains_of_reranking:
        console.print(f"{reranking.metric} of {reranking.ranking} over the towers' order: {_interval(reranking)}")
    if metrics.closed is not None:
        shares = [f"K={k} {share:.0%}" for k in CLOSED_AT if (share := metrics.closed.get(f"recall@{k}"))]
        console.print(
            f"share of the recall gap from the strongest popularity to true preferences closed: {', '.join(shares)}"
        )
    settings = " ".join((index.kind, *(f"{name}={value}" for name, value in index.parameters.items())))
    console.print(
        f"index {settings}: recall@{index.recall_at} against exact search {index.ann_recall:.4f}, "
        f"{index.queries_per_s:,.0f} queries/s, {index.bytes:,} bytes"
    )
    console.print(f"trained on {metrics.train.n_rows_trained:,} rows at {metrics.train.rows_per_s:,.0f} rows/s")


def _interval(gain: RequestComparison) -> str:
    """Returns a gain with its interval, and what that is drawn over."""
    d = gain.difference
    interval = f"{format_metric(d.difference, interval_sd(d.low, d.high), '+')} ({format_interval(d.low, d.high)})"
    return f"{interval}, {'; '.join(text for text in (gain.basis, gain.note) if text)}"


def _standard_errors(metrics: RetrievalMetrics) -> Figures:
    """By metric: the standard error of a share of the requests, for the ranking whose share is nearest to one half.

    Means of numbers from 0 to 1, such as NDCG, have at most that of a share (Bhatia and Davis, "A better bound on the
    variance", American Mathematical Monthly 2000). Coverage is no mean over requests.
    """
    variance: Figures = {}
    for figures in metrics.rankings.values():
        for name, share in figures.items():
            if name in _COLUMNS and not name.startswith("coverage"):
                variance[name] = max(variance.get(name, 0.0), share * (1 - share))
    return {name: math.sqrt(value / metrics.data.n_requests) for name, value in variance.items()}


def _cells(figures: Figures, columns: Sequence[str], sd: Figures) -> list[str]:
    return [format_metric(figures.get(key), sd.get(key)) for key in columns]
