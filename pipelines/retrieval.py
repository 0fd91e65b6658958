"""Trains user and item towers, indexes all items and measures how many clicked ones are retrieved.

python -m pipelines.retrieval
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipelines.common.cli import TOSS_RETRIEVAL_CONFIG, Overrides, run_pipeline
from pipelines.common.config import RetrievalConfig, load_retrieval_config
from pipelines.common.data import find_prepared, recorded_data
from pipelines.rank import default_folder, describe_data, fit_figures
from pipelines.reranking import check_reranker, rerank
from recsys.config import Values
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.runs.config import RUN_SECTION
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import TowersFitSummary
from recsys.runs.score_feature import SCORES_FILE, write_scores
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import console
from recsys.system.world import World, join_world
from recsys.training.checkpoint import ResumePoint
from recsys.training.log import Log
from retrieval.candidates import CANDIDATES_FILE, write_candidates
from retrieval.catalog import Catalog, build_catalog
from retrieval.evaluation.baselines import Popularity, Random
from retrieval.evaluation.plots import plot_recall, plot_segments
from retrieval.evaluation.ranks import N_HEAD, Scores, rank_all
from retrieval.evaluation.summary import IndexMetrics, RetrievalData, RetrievalMetrics, print_retrieval, summarize
from retrieval.evaluation.truth import true_preferences
from retrieval.fit import Towers, build_retrieval_trainer, load_towers, positives_among
from retrieval.index import INDEX_FILE, N_RECALLED, ItemIndex, build_index, exact_search, queries_per_s, recall_of
from retrieval.vectors import InnerProducts

RECALL_PLOT, SEGMENTS_PLOT = "recall.png", "segments.png"


def retrieval(
    config: Annotated[
        Path,
        typer.Option(
            help="YAML config: the data's schema and the settings for it.", show_default="configs/toss_retrieval.yaml"
        ),
    ] = TOSS_RETRIEVAL_CONFIG,
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
    reranker: Annotated[
        Path | None,
        typer.Option(help="A finished ranking run or ensemble, fitted on the same split, that reranks what was found."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train two towers and retrieve items.

    Settings of the config's retrieval section are changed by KEY=VALUE, such as model.output_dim=32 trainer.epochs=3.
    A killed run goes on where it was when the same command is given again; a finished one shows its table.
    """
    settings = load_retrieval_config(config, overrides or [])
    keep_freed_memory()
    world = join_world()
    with world.main_first():
        dataset = find_prepared(settings.data, data or recorded_data(settings.run))
    name = choose_split(dataset, split or next(iter(settings.run.splits), None))
    if reranker is None and settings.run.reranker is not None:
        reranker = Path(settings.run.reranker)
    resolved = describe(settings, dataset, name)
    if reranker is not None:
        resolved[RUN_SECTION]["reranker"] = str(reranker.resolve())
    folder = out or default_folder(resolved, "retrieval")
    with world.main_first():
        run = RunFolder(folder, resolved, world.is_main)
    if not world.broadcast(run.is_done):
        console.print(f"[bold]retrieval[/bold] on {dataset.name} ({dataset.folder}): {name}")
        execute(run, settings, dataset, name, world, reranker)
    if world.is_main:
        print_retrieval(run.metrics_as(RetrievalMetrics), f"retrieval on {dataset.name}")
        console.print(f"run folder: {run.folder}")


def choose_split(dataset: PreparedDataset, split: str | None) -> str:
    """The split that `--split` stands for.

    Raises:
        InputError: for a split that the data set does not have.
    """
    if split is None:
        split = "full" if dataset.predefined_splits else "holdout"
    if split not in dataset.split_names:
        raise InputError(f"--split {split}: {dataset.folder} has {', '.join(dataset.split_names)}: pass one of them")
    if split == "full" and not dataset.predefined_splits:
        raise InputError(f"--split full: {dataset.folder} has no valid or test rows with labels: pass another split")
    return split


def describe(settings: RetrievalConfig, dataset: PreparedDataset, split: str) -> Values:
    """The resolved config, as the run folder keeps it: a config that `--config` takes."""
    return {
        **settings.data.dump(),
        "retrieval": settings.retrieval.model_dump(mode="json"),
        RUN_SECTION: describe_data(dataset) | {"splits": [split]},
    }


def execute(
    run: RunFolder,
    settings: RetrievalConfig,
    dataset: PreparedDataset,
    split_name: str,
    world: World,
    reranker: Path | None = None,
) -> None:
    """Fits towers and writes the run folder.

    Args:
        run: the folder.
        settings: how to retrieve.
        dataset: the rows.
        split_name: fitted on and judged by.
        world: the processes.
        reranker: a finished ranking run of the same split; None reranks nothing.

    Raises:
        InputError: when nothing can be learned or measured, or the reranker may have seen what is judged.
    """
    if reranker is not None:
        check_reranker(reranker, split_name, world)
    split, own = dataset.split(split_name), settings.retrieval
    judged, monitor = evaluation_rows(split)
    others = [judged, *([monitor] if monitor else [])]
    catalog = build_catalog(split, split.fit_rows, others, own.positives == "clicked", own.half_life_days)
    requests = positives_among(split, judged, own.positives)
    if len(requests) == 0:
        raise InputError(f"split {split_name!r} has no hit among the rows it is judged on: nothing can be measured")
    towers = fit_towers(run, settings, split, split.fit_rows, catalog, monitor, world, split_name)
    user, items = towers.request_vectors(requests), towers.item_vectors(catalog)
    if own.score_parts is not None:
        score_rows(run, settings, dataset, split, others, monitor, world)
    if not world.is_main:
        return

    target = catalog.entries(split, requests.numbers())
    scores: dict[str, Scores] = {
        "two_tower": InnerProducts(user, items),
        "popularity": Popularity(catalog.n_impressions),
        "random": Random(len(catalog), own.trainer.seed),
    }
    if (truth := true_preferences(dataset, requests, catalog)) is not None:
        scores["truth"] = truth
    if own.half_life_days is not None:
        scores["recent"] = Popularity(catalog.recent)
    rankings = {name: rank_all(score, target, len(catalog)) for name, score in scores.items()}
    index = build_index(items, own.index, own.trainer.seed, user)
    index.save(run.file("."), towers.identity)
    write_candidates(run.file(CANDIDATES_FILE), split, requests, catalog, index, user, own.candidates, towers.scale)
    reranked = rerank(run, reranker, split, requests, catalog, target, world) if reranker is not None else {}
    metrics = summarize(
        rankings,
        target,
        dataset.segments(requests.numbers()),
        len(catalog),
        reranked=reranked,
        index=index_metrics(index, user, items, run.file(INDEX_FILE).stat().st_size),
        train=run.load_summary(split_name, TowersFitSummary),
        data=RetrievalData(folder=str(dataset.folder.resolve()), n_items=len(catalog), n_requests=len(requests)),
    )
    plot(run, metrics, list(rankings), "all clicks" if own.positives == "clicked" else "all requests")
    run.close(metrics.dump())


def plot(run: RunFolder, metrics: RetrievalMetrics, names: list[str], title: str) -> None:
    """Draws recall over K, and recall by segment."""
    tail = f"items outside the {N_HEAD} most popular"
    panels = {title: metrics.rankings, tail: metrics.tail.rankings}
    plot_recall({key: {name: found[name] for name in names} for key, found in panels.items()}, run.file(RECALL_PLOT))
    if metrics.segments:
        by_label = {
            f"{segmentation}: {label}": found.rankings
            for segmentation, labels in metrics.segments.items()
            for label, found in labels.items()
        }
        plot_segments(by_label, "recall@100", run.file(SEGMENTS_PLOT))


def evaluation_rows(split: Split) -> tuple[Rows, Rows | None]:
    """The rows that are reported, and those that may stop training."""
    *others, reported = split.evaluation_rows.values()
    return reported, others[0] if others else None


def fit_towers(
    run: RunFolder,
    settings: RetrievalConfig,
    split: Split,
    rows: Rows,
    catalog: Catalog,
    monitor: Rows | None,
    world: World,
    name: str,
) -> Towers:
    """Towers fitted to rows, now or by an earlier start of this run."""
    own, weights = settings.retrieval, run.weights(name)
    if not world.broadcast(run.has_fit(name)):
        log = Log(run.tensorboard(name) if world.is_main else None)
        trainer = build_retrieval_trainer(
            own.model, own.trainer, own.positives, split, rows, catalog, monitor, weights, log, world, name
        )
        report = trainer.fit()
        log.close()
        if world.is_main:
            figures = fit_figures(report, world)
            speed = figures["n_rows_trained"] / figures["seconds"]
            run.save_fit(name, [], TowersFitSummary(**figures, rows_per_s=speed))
        world.broadcast(None)
        trainer.clean_up()
    else:
        console.print(f"{name}  was finished before")
        ResumePoint(weights, world).clear()
    return load_towers(own.model, own.trainer, split, catalog, weights, world)


def score_rows(
    run: RunFolder,
    settings: RetrievalConfig,
    dataset: PreparedDataset,
    split: Split,
    judged: Sequence[Rows],
    monitor: Rows | None,
    world: World,
) -> None:
    """scores.parquet: each fitting row's own pair scored by towers that have not seen it, judged rows by their mean."""
    own = settings.retrieval
    assert own.score_parts is not None
    found: list[tuple[Rows, np.ndarray]] = []
    of_judged = [np.zeros(len(rows), np.float32) for rows in judged]
    for part in range(own.score_parts):
        mine, rest = dataset.fit_rows_in_part(split.name, part, own.score_parts)
        if len(mine) == 0:
            raise InputError(
                f"score_parts={own.score_parts} is more than the data set has folds: lower it, or set null"
            )
        catalog = build_catalog(split, rest, [mine, *judged], own.positives == "clicked", own.half_life_days)
        towers = fit_towers(run, settings, split, rest, catalog, monitor, world, f"{split.name}_without_{part}")
        found.append((mine, towers.logits(mine, "scoring")))
        for sums, rows in zip(of_judged, judged, strict=True):
            sums += towers.logits(rows, "scoring") / own.score_parts
    if world.is_main:
        found += zip(judged, of_judged, strict=True)
        numbers = np.concatenate([rows.numbers() for rows, _ in found])
        write_scores(run.file(SCORES_FILE), dataset, numbers, np.concatenate([s for _, s in found]))


def index_metrics(index: ItemIndex, user: np.ndarray, items: np.ndarray, n_bytes: int) -> IndexMetrics:
    """How an index of all items compares with exact search."""
    exact = exact_search(items, user, N_RECALLED)
    return IndexMetrics(
        kind=index.kind,
        parameters=index.parameters,
        ann_recall=recall_of(index, user, exact),
        queries_per_s=queries_per_s(index, user, exact.shape[1]),
        bytes=n_bytes,
    )


if __name__ == "__main__":
    run_pipeline(retrieval)
