"""Trains user and ad towers, indexes all ads and measures how many clicked ones are retrieved.

python -m pipelines.retrieval
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.table import Table

from pipelines.cli import TOSS_CONFIG, ConfigOption, Overrides, run_pipeline
from pipelines.config import RetrievalConfig, load_retrieval_config
from pipelines.data import find_prepared
from pipelines.rank import RUNS, describe_fit
from recsys.allocator import keep_freed_memory
from recsys.dataset import PreparedDataset, Split
from recsys.errors import InputError
from recsys.experiment import RunFolder
from recsys.progress import console
from recsys.rows import Rows
from recsys.training.checkpoint import ResumePoint
from recsys.training.log import Log
from recsys.world import World, join_world
from retrieval.catalogue import Catalogue, build_catalogue
from retrieval.evaluate import KS, N_HEAD, Ranking, Scores, measure_ranking, measure_ranks, rank_all
from retrieval.fit import Towers, build_retrieval_trainer, hits_among, load_towers
from retrieval.index import (
    N_RECALLED,
    AdIndex,
    build_index,
    exact_search,
    queries_per_s,
    recall_of,
)
from retrieval.plots import plot_recall, plot_segments
from retrieval.truth import true_preferences
from retrieval.vectors import InnerProducts

CANDIDATES_FILE = "candidates.parquet"
_SHOWN = ("recall@1", "recall@10", "recall@50", "recall@100", "recall@500", "ndcg@10", "mrr", "coverage@100")


def retrieval(
    config: ConfigOption = TOSS_CONFIG,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A prepared data set, or a folder of raw files. Left out: the data that the config names, or a small "
            "generated set."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Left out: a name under runs/ made from the settings.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="holdout: train on all days but the last; full: on all training rows, judged on the data's own test "
            "split; fold_0 ...: on all folds but one. Left out: the data's own split where it has one, else holdout."
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train two towers and retrieve ads.

    Settings of the config's retrieval section are changed by KEY=VALUE, such as model.output_dim=32 trainer.epochs=3.
    A killed run goes on where it was when the same command is given again; a finished one shows its table.
    """
    settings = load_retrieval_config(config, overrides or [])
    keep_freed_memory()
    world = join_world()
    with world.main_first():
        dataset = find_prepared(settings.data, data)
    name = choose_split(dataset, split)
    resolved = describe(settings, dataset, name)
    folder = out or default_folder(resolved)
    with world.main_first():
        run = RunFolder(folder, resolved, world.is_main)
    if not world.agree(run.is_done):
        execute(run, settings, dataset, name, world)
    if world.is_main:
        print_retrieval(run.metrics(), f"{folder}")


def choose_split(dataset: PreparedDataset, split: str | None) -> str:
    """The split that `--split` stands for.

    Raises:
        InputError: for a split that the data set does not have.
    """
    if split is None:
        split = "full" if dataset.given_splits else "holdout"
    if split not in dataset.split_names:
        raise InputError(f"--split {split}: {dataset.folder} has {', '.join(dataset.split_names)}: pass one of them")
    if split == "full" and not dataset.given_splits:
        raise InputError(f"--split full: {dataset.folder} has no valid or test rows with labels: pass another split")
    return split


def describe(settings: RetrievalConfig, dataset: PreparedDataset, split: str) -> dict[str, Any]:
    """The resolved config, as the run folder keeps it."""
    return {
        "data": {"name": dataset.name, "fingerprint": dataset.manifest.fingerprint},
        "split": split,
        "retrieval": settings.retrieval.model_dump(mode="json"),
    }


def default_folder(resolved: dict[str, Any]) -> Path:
    """The same settings on the same data always give the same name."""
    mark = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:8]
    return RUNS / f"{resolved['data']['name']}-retrieval-{mark}"


def execute(run: RunFolder, settings: RetrievalConfig, dataset: PreparedDataset, split_name: str, world: World) -> None:
    """Fits towers and writes the run folder."""
    split, own = dataset.split(split_name), settings.retrieval
    judged, monitor = judged_rows(split)
    others = [judged, *([monitor] if monitor else [])]
    catalogue = build_catalogue(split, others, own.hits == "clicked", own.half_life_days)
    requests = hits_among(split, judged, own.hits)
    if len(requests) == 0:
        raise InputError(f"split {split_name!r} has no hit among the rows it is judged on: nothing can be measured")
    towers = fit_towers(run, settings, split, split.fit_rows, catalogue, monitor, world, split_name)
    user, ads = towers.request_vectors(requests), towers.ad_vectors(catalogue)
    if not world.is_main:
        return

    target = catalogue.entries(split, requests(np.arange(len(requests))))
    scores: dict[str, Scores] = {
        "two_tower": InnerProducts(user, ads),
        "popularity": Popularity(catalogue.n_shown),
        "random": Random(len(catalogue), own.trainer.seed),
    }
    if (truth := true_preferences(dataset, requests, catalogue)) is not None:
        scores["truth"] = truth
    if own.half_life_days is not None:
        scores["recent"] = Popularity(catalogue.recent)
    rankings = {name: rank_all(score, target, len(catalogue)) for name, score in scores.items()}
    metrics = summarize(rankings, target, split, requests, catalogue)
    index, metrics["index"] = index_ads(settings, user, ads)
    index.save(run.file("."), towers.identity)
    metrics["index"]["bytes"] = run.file("index.faiss").stat().st_size
    metrics["train"] = run.load_fit(split_name)[1]
    metrics["data"] = {"folder": str(dataset.folder.resolve()), "n_ads": len(catalogue), "n_requests": len(requests)}
    write_candidates(run.file(CANDIDATES_FILE), split, requests, catalogue, index, user, own.candidates, towers.scale)
    panels = {"all clicks" if own.hits == "clicked" else "all requests": {k: metrics[k] for k in rankings}}
    panels[f"ads outside the {N_HEAD} most popular"] = {k: metrics["tail"][k] for k in rankings}
    plot_recall(panels, run.file("recall.png"))
    if metrics["segments"]:
        plot_segments(metrics["segments"], "recall@100", run.file("segments.png"))
    run.close(metrics)


def judged_rows(split: Split) -> tuple[Rows, Rows | None]:
    """The rows that are reported, and those that may stop training."""
    if split.name != "full":
        return split.held_out_rows, None
    given = split.dataset.given_splits
    return split.dataset.given_rows(given[-1]), split.dataset.given_rows("valid") if len(given) == 2 else None


def fit_towers(
    run: RunFolder,
    settings: RetrievalConfig,
    split: Split,
    rows: Rows,
    catalogue: Catalogue,
    monitor: Rows | None,
    world: World,
    name: str,
) -> Towers:
    """Towers fitted to rows, now or by an earlier start of this run."""
    own, weights = settings.retrieval, run.weights(name)
    if not world.agree(run.has_fit(name)):
        log = Log(run.tensorboard(name) if world.is_main else None)
        trainer = build_retrieval_trainer(
            own.model, own.trainer, own.hits, split, rows, catalogue, monitor, weights, log, world, name
        )
        report = trainer.fit()
        log.close()
        if world.is_main:
            described = describe_fit(report, world)
            described["rows_per_s"] = described["n_rows_trained"] / described["seconds"]
            run.save_fit(name, [], described)
        world.agree(None)
        trainer.clean_up()
    else:
        console.print(f"{name}  was finished before")
        ResumePoint(weights, world).clear()
    return load_towers(own.model, own.trainer, split, catalogue, weights, world)


class Popularity:
    """Ranks ads by [A] counts, whoever asks."""

    def __init__(self, counts: np.ndarray) -> None:
        self._scores = counts.astype(np.float32)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """[b] places of requests to [b, A]."""
        return np.tile(self._scores, (len(places), 1))


class Random:
    """Ranks ads by chance."""

    def __init__(self, n_ads: int, seed: int) -> None:
        self._n_ads, self._seed = n_ads, seed

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """[b] places of requests to [b, A]."""
        return np.random.default_rng([self._seed, int(places[0])]).random((len(places), self._n_ads), np.float32)


def summarize(
    rankings: dict[str, Ranking], target: np.ndarray, split: Split, requests: Rows, catalogue: Catalogue
) -> dict[str, Any]:
    """The figures of all rankings: overall, by segment, and of the clicks on ads that are not popular."""
    metrics: dict[str, Any] = {name: measure_ranking(ranking, len(catalogue)) for name, ranking in rankings.items()}
    is_tail = target >= N_HEAD  # the catalogue stands in the order of popularity
    metrics["tail"] = {"n_requests": int(is_tail.sum())}
    metrics["tail"] |= {name: measure_ranks(ranking.rank[is_tail]) for name, ranking in rankings.items()}
    metrics["segments"] = {}
    for name, labels in split.dataset.segments(requests(np.arange(len(requests)))).items():
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


def index_ads(settings: RetrievalConfig, user: np.ndarray, ads: np.ndarray) -> tuple[AdIndex, dict[str, Any]]:
    """An index of all ads, and how it compares with exact search."""
    index = build_index(ads, settings.retrieval.index, settings.retrieval.trainer.seed, user)
    exact = exact_search(ads, user, N_RECALLED)
    return index, {
        "kind": index.kind,
        "parameters": index.parameters,
        f"ann_recall@{N_RECALLED}": recall_of(index, user, exact),
        "queries_per_s": queries_per_s(index, user, exact.shape[1]),
    }


def write_candidates(
    path: Path,
    split: Split,
    requests: Rows,
    catalogue: Catalogue,
    index: AdIndex,
    user: np.ndarray,
    n_candidates: int,
    scale: float,
) -> None:
    """candidates.parquet: row_id, rank (from 1), item, score (the towers' logit) of each request's best ads."""
    scores, places = index.search(user, min(n_candidates, len(catalogue)))
    n, k = places.shape
    is_found = places.reshape(-1) >= 0
    ids = pc.cast(split.dataset.row_ids(requests(np.arange(n))), pa.string())
    table = pa.table(
        {
            "row_id": ids.take(pa.array(np.repeat(np.arange(n), k)[is_found])),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n)[is_found],
            "item": catalogue.names.take(pa.array(places.reshape(-1)[is_found])),
            "score": (scale * scores).reshape(-1)[is_found],
        }
    )
    pq.write_table(table, path, compression="zstd")


def print_retrieval(metrics: dict[str, Any], title: str) -> None:
    """Shows metrics.json as a table."""
    counts = metrics["data"]
    table = Table(title=f"{title}: {counts['n_requests']:,} requests, {counts['n_ads']:,} ads", title_justify="left")
    for column in ("ranking", *_SHOWN):
        table.add_column(column, justify="left" if column == "ranking" else "right")
    styles = {"two_tower": "bold", "reranked": "bold", "truth": "green"}
    names = [name for name in ("random", "popularity", "recent", "two_tower", "reranked", "truth") if name in metrics]
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


if __name__ == "__main__":
    run_pipeline(retrieval)
