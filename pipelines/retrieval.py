"""Trains a user tower and an item tower, indexes all items, and evaluates the recall of clicked items.

python -m pipelines.retrieval

Shapes: B rows of requests, I items of the catalog, D embedding width.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from pipelines.common.cli import TOSS_RETRIEVAL_CONFIG, DataOption, ModelClass, Overrides, run_pipeline
from pipelines.common.config import RetrievalConfig, load_retrieval_config
from pipelines.common.data import choose_config, find_prepared, recorded_data
from pipelines.common.splits import choose_towers_split
from pipelines.parts.reranking import check_reranker, rerank
from pipelines.parts.retrieval_defaults import describe_training, with_defaults
from pipelines.parts.tower_fits import check_score_parts, evaluation_rows, exclusion_of, fit_towers, score_rows
from pipelines.rank import default_folder, describe_data
from ranking.own_model import name_model
from recsys.config import Values
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.runs.config import RUN_SECTION
from recsys.runs.folder import RunFolder
from recsys.runs.layout import METRICS_FILE
from recsys.runs.metrics import TowersFitSummary
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import console
from recsys.system.world import World, join_world
from retrieval.candidates import CANDIDATES_FILE, RANKS_FILE, write_candidates, write_ranks
from retrieval.catalog import Catalog, build_catalog
from retrieval.evaluation.all_baselines import history_rankings
from retrieval.evaluation.baselines import Random, popularity_baselines
from retrieval.evaluation.exclusion import Exclusion, WithoutExcluded
from retrieval.evaluation.history_baselines import Histories, item_histories
from retrieval.evaluation.plots import plot_recall, plot_segments
from retrieval.evaluation.ranks import N_HEAD, Scores, ks_within, measure_ranks, rank_all, rank_targets
from retrieval.evaluation.summary import (
    ExclusionMetrics,
    IndexMetrics,
    RetrievalData,
    RetrievalMetrics,
    summarize,
)
from retrieval.evaluation.table import print_retrieval
from retrieval.evaluation.truth import true_preferences
from retrieval.fit import positives_among
from retrieval.index import (
    INDEX_FILE,
    N_RECALLED,
    ItemIndex,
    build_index,
    choose_kind,
    exact_search,
    queries_per_s,
    recall_of,
)
from retrieval.vectors import InnerProducts

RECALL_PLOT, SEGMENTS_PLOT = "recall.png", "segments.png"


def retrieval(
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the data schema and the settings. Default: the config that a prepared --data was "
            "prepared with, else configs/toss_retrieval.yaml."
        ),
    ] = None,
    data: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder to write. Default: runs/DATA-retrieval-HASH, a hash of the settings."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="holdout: train on all days but the last and evaluate on the last; full: train on all training rows "
            "and evaluate on the data's own test split; fold_0, fold_1, ...: evaluate on this fold and train on the "
            "others. Default: full if the data has its own valid or test split, else holdout if it has days, else "
            "fold_0."
        ),
    ] = None,
    reranker: Annotated[
        Path | None,
        typer.Option(help="Finished ranking run or ensemble, fitted on the same split, that reranks the candidates."),
    ] = None,
    model_class: ModelClass = None,
    overrides: Overrides = None,
) -> Path:
    """Train a two-tower model and retrieve items.

    KEY=VALUE arguments override the config's retrieval section, such as
    model.output_dim=32 trainer.epochs=3. Running the same command again resumes
    an interrupted run, or prints the results of a finished one.
    """
    config = choose_config(config, data, TOSS_RETRIEVAL_CONFIG)
    settings = load_retrieval_config(config, overrides or [])
    settings.check_roles()
    for path in model_class or ():
        name_model(path)
    keep_freed_memory()
    world = join_world()
    with world.main_first():
        dataset = find_prepared(settings.data, data or recorded_data(settings.run), settings.sections)
    name = choose_towers_split(dataset, split or next(iter(settings.run.splits), None))
    if reranker is None and settings.run.reranker is not None:
        reranker = Path(settings.run.reranker)
        if not reranker.is_dir():
            raise InputError(f"{reranker}, the --reranker of {config}, is missing: pass its new place with --reranker")
    chosen = dataset.split(name)
    settings = with_defaults(settings, chosen, world.device.type)
    resolved = describe(settings, dataset, name)
    if reranker is not None:
        resolved[RUN_SECTION]["reranker"] = str(reranker.resolve())
    folder = out or default_folder(resolved, "retrieval")
    with world.main_first():
        run = RunFolder(folder, resolved, world.is_main)
    if not world.broadcast(run.is_done):
        console.print(f"retrieval on {dataset.name} ({dataset.folder}), split: {name}")
        with run.removed_if_refused():
            execute(run, settings, dataset, name, world, reranker)
    if world.is_main:
        print_retrieval(run.metrics_as(RetrievalMetrics), f"retrieval on {dataset.name}")
        console.print(f"run folder: {run.folder}")
    return run.folder / METRICS_FILE


def describe(settings: RetrievalConfig, dataset: PreparedDataset, split: str) -> Values:
    """The resolved config of the run folder, which `--config` accepts."""
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
        run: the run folder.
        settings: the data and retrieval settings.
        dataset: the prepared data set.
        split_name: the split to fit on and to evaluate on.
        world: the processes.
        reranker: a finished ranking run of the same split; None skips reranking.

    Raises:
        InputError: when the split has no positives, the index settings do not fit the number of items, or the reranker
            may have been trained on the evaluation rows.
    """
    if reranker is not None:
        check_reranker(reranker, split_name, dataset, world)
    split, config = dataset.split(split_name), settings.retrieval
    reported, monitor = evaluation_rows(split)
    held_out = [reported, *([monitor] if monitor else [])]
    catalog = build_catalog(split, split.fit_rows, held_out, config.positives == "clicked", config.half_life_days)
    requests = positives_among(split, reported, config.positives)
    if len(requests) == 0:
        raise InputError(f"split {split_name!r} has no positives among its evaluation rows: pass another --split")
    choose_kind(config.index, len(catalog), config.model.width)  # its errors come before the training
    check_score_parts(config, dataset, split)
    console.print(describe_training(config, split))
    exclusion = exclusion_of(config, dataset, split, catalog)
    towers = fit_towers(run, settings, split, split.fit_rows, catalog, monitor, world, split_name, exclusion)
    query_BD, item_ID = towers.request_vectors(requests), towers.item_vectors(catalog)
    if config.score_parts is not None:
        score_rows(run, settings, dataset, split, held_out, monitor, world)
    if not world.is_main:
        return

    target = catalog.entries(split, requests.numbers())
    scores: dict[str, Scores] = {
        "two_tower": InnerProducts(query_BD, item_ID),
        "random": Random(len(catalog), config.trainer.seed),
        **popularity_baselines(catalog, config.positives == "clicked", config.half_life_days),
    }
    if (truth := true_preferences(dataset, requests, catalog)) is not None:
        scores["truth"] = truth
    histories = Histories(split, catalog) if item_histories(split.schema) else None
    if histories is not None:
        fit_positives = positives_among(split, split.fit_rows, config.positives)
        scores |= history_rankings(histories, split, fit_positives, requests, catalog, config.trainer.seed)
    ranked = {name: without(score, exclusion, requests) for name, score in scores.items()}
    rankings = {name: rank_all(score, target, len(catalog)) for name, score in ranked.items()}
    other = None
    if histories is not None:
        others = {name: without(score, None if exclusion else histories, requests) for name, score in scores.items()}
        figures = {
            name: measure_ranks(rank_targets(s, target, len(catalog)), ks_within(len(catalog)))
            for name, s in others.items()
        }
        other = ExclusionMetrics(exclude="none" if exclusion else "seen", **figures)
    write_ranks(run.file(RANKS_FILE), split, requests, rankings)
    index = build_index(item_ID, config.index, config.trainer.seed, query_BD)
    index.save(run.file("."), towers.identity)
    write_candidates(
        run.file(CANDIDATES_FILE), split, requests, catalog, index, query_BD, config.candidates, towers.scale, exclusion
    )
    candidates = None
    if reranker is not None:
        candidates = rerank(run, reranker, dataset, split, requests, catalog, target, world)
    metrics = summarize(
        rankings,
        target,
        dataset.segments(requests.numbers()) | known_and_new(split, requests, catalog, target),
        len(catalog),
        dataset.store.users(requests.numbers()),
        catalog.n_positives,
        item_ID[:, :-1],  # without the popularity
        other_exclusion=other,
        candidates=candidates,
        index=index_metrics(index, query_BD, item_ID, run.file(INDEX_FILE).stat().st_size),
        train=run.load_summary(split_name, TowersFitSummary),
        data=RetrievalData(folder=str(dataset.folder.resolve()), n_items=len(catalog), n_requests=len(requests)),
    )
    plot(run, metrics, list(rankings), "all clicks" if config.positives == "clicked" else "all requests")
    run.finish_with_metrics(metrics.dump())


def known_and_new(split: Split, requests: Rows, catalog: Catalog, target: np.ndarray) -> dict[str, pa.Array]:
    """Labels requests by whether their item, and their user, has a fitting row; leaves out what all have in common."""
    is_known = {"item": catalog.n_impressions[target] > 0}
    if (known_user := split.has_known_user(requests.numbers())) is not None:
        is_known["user"] = known_user
    return {
        f"known or new {name}": pa.array(np.where(known, "known", "new"))
        for name, known in is_known.items()
        if known.any() and not known.all()
    }


def without(scores: Scores, exclusion: Exclusion | None, requests: Rows) -> Scores:
    """The scores with excluded items last."""
    return scores if exclusion is None else WithoutExcluded(scores, exclusion, requests)


def plot(run: RunFolder, metrics: RetrievalMetrics, names: list[str], title: str) -> None:
    """Plots recall over K, and recall by segment."""
    tail = f"items outside the {N_HEAD} most popular"
    panels = {title: metrics.rankings, tail: metrics.tail.rankings}
    plot_recall({key: {name: values[name] for name in names} for key, values in panels.items()}, run.file(RECALL_PLOT))
    if metrics.segments:
        by_label = {
            f"{segmentation}: {label}": segment.rankings
            for segmentation, segments in metrics.segments.items()
            for label, segment in segments.items()
        }
        k = max((k for k in ks_within(metrics.data.n_items) if k <= N_HEAD), default=None)
        plot_segments(by_label, "mrr" if k is None else f"recall@{k}", run.file(SEGMENTS_PLOT))


def index_metrics(index: ItemIndex, query_BD: np.ndarray, item_ID: np.ndarray, n_bytes: int) -> IndexMetrics:
    """Recall and speed of an index of all items, compared with exact search."""
    recall_at = max(1, min(N_RECALLED, len(item_ID) - 1))  # the recall of all items says nothing
    exact = exact_search(item_ID, query_BD, recall_at)
    return IndexMetrics(
        kind=index.kind,
        parameters=index.parameters,
        recall_at=recall_at,
        ann_recall=recall_of(index, query_BD, exact),
        queries_per_s=queries_per_s(index, query_BD, exact.shape[1]),
        bytes=n_bytes,
    )


if __name__ == "__main__":
    run_pipeline(retrieval)
