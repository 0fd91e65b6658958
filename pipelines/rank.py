"""Trains and evaluates a ranking model, out-of-fold, on the last day, or on the data's own test split.

python -m pipelines.rank --model dcnv2
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pipelines.common.cli import TOSS_CONFIG, ConfigOption, Overrides, run_pipeline
from pipelines.common.config import RankConfig, load_rank_config
from pipelines.common.data import find_prepared
from pipelines.sharding_plan import print_sharding_plan
from ranking.models import ModelName, build_trainer
from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.runs.calibration import calibrate_parts, print_calibration
from recsys.runs.folder import Part, RunFolder, join
from recsys.runs.score_feature import with_scores
from recsys.runs.summary import print_summary, summarize
from recsys.system.allocator import keep_freed_memory
from recsys.system.memory import forget_peak_rss, peak_rss_gib
from recsys.system.progress import console
from recsys.system.world import World, join_world
from recsys.training.checkpoint import ResumePoint
from recsys.training.log import Log
from recsys.training.state import FitReport, OnEpoch, ignore_epoch

RUNS = Path("runs")


def rank(
    model: Annotated[ModelName, typer.Option(help="Which model.")],
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
    folds: Annotated[
        str | None,
        typer.Option(
            help="all: out-of-fold over every fold; 0,2: these folds; holdout: train on all days but the last; full: "
            "train on all rows. Left out: the data's own valid and test splits where it has them, else all."
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="A finished retrieval run, whose score of each row becomes a feature of the model."),
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Print how the tables would be spread over GPUs, and train nothing.")
    ] = False,
    world_size: Annotated[int, typer.Option(min=1, help="GPUs to plan for.", rich_help_panel="Plan only")] = 8,
    hbm_gib: Annotated[
        float, typer.Option(min=0.001, help="Memory of each, in GiB.", rich_help_panel="Plan only")
    ] = 80.0,
    overrides: Overrides = None,
) -> None:
    """Train and evaluate a ranking model.

    Settings of the config are changed by KEY=VALUE, such as model.embedding_dim=32 trainer.epochs=3. A killed run
    goes on where it was when the same command is given again; a finished one shows its table.
    """
    settings = load_rank_config(config, model, overrides or [])
    if plan_only:
        if features is not None:
            raise InputError("--plan-only plans embedding tables, of which --features has none: leave one of them out")
        print_sharding_plan(settings, data, world_size, hbm_gib)
        return
    keep_freed_memory()
    world = join_world()
    with world.main_first():
        dataset = find_prepared(settings.data, data)
    splits = choose_splits(dataset, folds)
    resolved = describe(settings, dataset, splits)
    if features is not None:
        joined = with_scores(dataset, features, splits)
        dataset, resolved["scores"] = joined.dataset, joined.fingerprint
    folder = out or default_folder(resolved)
    with world.main_first():
        run = RunFolder(folder, resolved, world.is_main)
    if not world.agree(run.is_done):
        console.print(f"[bold]{model}[/bold] on {dataset.name} ({dataset.folder}): {', '.join(splits)}")
        execute(run, settings, dataset, splits, world)
    if world.is_main:
        print_summary(run.metrics(), f"{model} on {dataset.name}")
        print_calibration(run.metrics())
        console.print(f"run folder: {run.folder}")


def choose_splits(dataset: PreparedDataset, folds: str | None) -> list[str]:
    """The splits to fit a model on.

    Raises:
        InputError: for folds that the data set does not have.
    """
    numbered = [name for name in dataset.split_names if name.startswith("fold_")]
    if folds is None:
        return ["full"] if dataset.predefined_splits else numbered
    if folds == "all":
        chosen = numbered
    elif folds in ("holdout", "full"):
        chosen = [folds]
    else:
        chosen = [f"fold_{fold.strip()}" for fold in folds.split(",")]
    if not chosen or (missing := [name for name in chosen if name not in dataset.split_names]):
        raise InputError(
            f"--folds {folds}: {dataset.folder} has no {missing[0] if chosen else 'folds'}; "
            f"it has {', '.join(dataset.split_names)}: pass all, holdout, full, or numbers such as 0,1"
        )
    return list(dict.fromkeys(chosen))


def describe(settings: RankConfig, dataset: PreparedDataset, splits: list[str]) -> dict[str, Any]:
    """The resolved config, as the run folder keeps it."""
    return {
        "data": {"name": dataset.name, "fingerprint": dataset.manifest.fingerprint},
        "splits": splits,
        "features": settings.features.model_dump(mode="json"),
        "model": settings.model.model_dump(mode="json"),
        "trainer": settings.trainer.model_dump(mode="json"),
    }


def default_folder(resolved: dict[str, Any]) -> Path:
    """The same settings on the same data always give the same name."""
    mark = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:8]
    return RUNS / f"{resolved['data']['name']}-{resolved['model']['name']}-{mark}"


def execute(
    run: RunFolder,
    settings: RankConfig,
    dataset: PreparedDataset,
    splits: list[str],
    world: World,
    on_epoch: OnEpoch = ignore_epoch,
) -> None:
    """Fits a model for each split and writes the run folder."""
    for name in splits:
        if world.agree(run.has_fit(name)):
            console.print(f"{name}  was finished before")
            ResumePoint(run.weights(name), world).clear()
        else:
            fit_split(run, settings, dataset.split(name, settings.features), world, on_epoch)
    if not world.is_main:
        return

    fits = {name: run.load_fit(name) for name in splits}
    parts = [part for mine, _ in fits.values() for part in mine]
    reported = parts[-1:] if splits == ["full"] else parts
    reports = [report for _, report in fits.values()]
    seconds = sum(report["seconds"] for report in reports)
    train = {
        "rows_per_s": sum(report["n_rows_trained"] for report in reports) / seconds,
        "seconds": seconds,
        "waited_s": sum(report["waited_s"] for report in reports),
        "peak_rss_gib": max(report["peak_rss_gib"] for report in reports),
        "peak_gpu_gib": max(report["peak_gpu_gib"] for report in reports),
        "n_processes": world.size,
        "precision": "fp32" if any(report["precision"] == "fp32" for report in reports) else "bf16",
        "fits": dict(zip(splits, reports, strict=True)),
    }
    metrics = summarize(reported, [part for part in parts if part not in reported], dataset, train)
    metrics["data"] = {"folder": str(dataset.folder.resolve())}
    metrics["calibration"] = calibrate_parts(run, reported)
    run.finish(metrics, reported, dataset.store.row_ids(join(reported).rows))


def fit_split(
    run: RunFolder, settings: RankConfig, split: Split, world: World, on_epoch: OnEpoch = ignore_epoch
) -> None:
    """Fits a model on one split, scores the rows it is judged on, if there are any, and keeps both."""
    judged = split.evaluation_rows
    # Rows that stop training early are never those that are reported.
    monitor = judged["valid"] if len(judged) == 2 else None

    forget_peak_rss()
    log = Log(run.tensorboard(split.name) if world.is_main else None)
    weights = run.weights(split.name)
    trainer = build_trainer(settings.model, settings.trainer, split, monitor, weights, log, world)
    report = trainer.fit(on_epoch)
    log.close()
    parts = []
    for name, rows in judged.items():
        logit = trainer.predict(rows, f"scoring {name}")
        number = rows.numbers()
        natural, balanced = report.link.natural_logit(logit), report.link.balanced_logit(logit)
        parts.append(Part(name, number, split.store.labels(number), logit, natural, balanced))
    if world.is_main:
        run.save_fit(split.name, parts, describe_fit(report, world))
    trainer.clean_up()


def describe_fit(report: FitReport, world: World) -> dict[str, Any]:
    """What metrics.json keeps of a fit."""
    progress = report.progress
    peak_gpu = torch.cuda.max_memory_allocated(world.device) / 2**30 if world.device.type == "cuda" else 0.0
    return {
        "n_rows_trained": report.n_rows * len(progress.epochs),
        "seconds": sum(epoch.seconds for epoch in progress.epochs),
        "waited_s": sum(epoch.waited_s for epoch in progress.epochs),
        "peak_rss_gib": peak_rss_gib(),
        "peak_gpu_gib": peak_gpu,
        "precision": progress.precision,
        "fell_back_at_step": progress.fell_back_at_step,
        "micro_batches": progress.micro_batches,
        "best_epoch": progress.best_epoch,
        "link": asdict(report.link),
        "epochs": [{"loss": epoch.loss, "monitored": epoch.monitored} for epoch in progress.epochs],
    }


if __name__ == "__main__":
    run_pipeline(rank)
