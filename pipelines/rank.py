"""Trains a ranking model and evaluates it out-of-fold, on the last day, or on the data's own test split.

python -m pipelines.rank --model dcnv2
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pipelines.common.cli import TOSS_CONFIG, ConfigOption, DataOption, Overrides, run_pipeline
from pipelines.common.config import RankConfig, load_rank_config
from pipelines.common.data import find_prepared, recorded_data
from pipelines.sharding_plan import print_sharding_plan
from ranking.models import build_trainer, model_names
from recsys.config import Values
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import FULL, Split
from recsys.errors import InputError
from recsys.runs.calibration import calibrate_run, print_calibration
from recsys.runs.config import RUN_SECTION, identity
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import DataSummary, EpochSummary, FitSummary, TrainSummary
from recsys.runs.predictions import Predictions, join
from recsys.runs.score_feature import with_scores
from recsys.runs.summary import print_summary, summarize
from recsys.system.allocator import keep_freed_memory
from recsys.system.memory import peak_rss_gib, reset_peak_rss
from recsys.system.progress import console
from recsys.system.world import World, join_world
from recsys.training.checkpoint import ResumePoint
from recsys.training.early_stopping import split_monitored_rows
from recsys.training.log import Log
from recsys.training.state import FitReport, OnEpoch, ignore_epoch

RUNS = Path("runs")


def rank(
    model: Annotated[
        str | None,
        typer.Option(help=f"Model to train: {', '.join(model_names())}. Default: model.name of the config."),
    ] = None,
    config: ConfigOption = TOSS_CONFIG,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write. Default: runs/DATA-MODEL-HASH, a hash of the settings.")
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            help="all: one model per fold, evaluated on that fold; 0,2: only these folds; holdout: train on all days "
            "but the last and evaluate on the last; full: train on all training rows. Default: full if the data has "
            "its own valid or test split, else all."
        ),
    ] = None,
    score_feature: Annotated[
        Path | None,
        typer.Option(help="Finished retrieval run, whose score of each row is added as a feature."),
    ] = None,
    show_sharding: Annotated[
        bool, typer.Option("--show-sharding", help="Print how embedding tables would be sharded over GPUs, and exit.")
    ] = False,
    world_size: Annotated[
        int, typer.Option(min=1, max=65_536, help="Number of GPUs.", rich_help_panel="Options of --show-sharding")
    ] = 8,
    hbm_gib: Annotated[
        float,
        typer.Option(min=0.001, max=1e6, help="Memory of a GPU in GiB.", rich_help_panel="Options of --show-sharding"),
    ] = 80.0,
    overrides: Overrides = None,
) -> None:
    """Train and evaluate a ranking model.

    KEY=VALUE arguments override the config, such as model.embedding_dim=32
    trainer.epochs=3. Running the same command again resumes an interrupted run,
    or prints the results of a finished one.
    """
    settings = load_rank_config(config, model, overrides or [])
    if show_sharding:
        if score_feature is not None:
            raise InputError(
                "--show-sharding plans embedding tables, and --score-feature adds none: pass only one of the two"
            )
        print_sharding_plan(settings, data, world_size, hbm_gib)
        return
    keep_freed_memory()
    world = join_world()
    with world.main_first():
        dataset = find_prepared(settings.data, data or recorded_data(settings.run))
    splits = choose_splits(dataset, folds, settings.run.splits)
    if score_feature is None and settings.run.score_feature is not None:
        score_feature = Path(settings.run.score_feature.run)
        if not score_feature.is_dir():
            raise InputError(
                f"{score_feature}, the retrieval run of {config}, is missing: pass its new place with --score-feature"
            )
    resolved = describe(settings, dataset, splits)
    if score_feature is not None:
        scored = with_scores(dataset, score_feature, splits)
        dataset, resolved[RUN_SECTION]["score_feature"] = scored.dataset, scored.feature.model_dump()
    folder = out or default_folder(resolved, settings.model.name)
    with world.main_first():
        run = RunFolder(folder, resolved, world.is_main)
    if not world.broadcast(run.is_done):
        data_name = f"{dataset.name} ({dataset.folder})"
        console.print(f"{settings.model.name} on {data_name}, splits: {', '.join(splits)}")
        execute(run, settings, dataset, splits, world)
    if world.is_main:
        print_summary(run.metrics(), f"{settings.model.name} on {dataset.name}")
        print_calibration(run.metrics().calibration)
        console.print(f"run folder: {run.folder}")


def choose_splits(dataset: PreparedDataset, folds: str | None, recorded: Sequence[str] = ()) -> list[str]:
    """The splits that models are fitted to.

    Args:
        dataset: the prepared data set.
        folds: the value of `--folds`; None takes the recorded splits, else the data set's default.
        recorded: splits in the config of a finished run.

    Raises:
        InputError: for folds that the data set does not have.
    """
    fold_names = [name for name in dataset.split_names if name.startswith("fold_")]
    if folds is None:
        return list(recorded) or (["full"] if dataset.predefined_splits else fold_names)
    if folds == "all":
        chosen = fold_names
    elif folds in ("holdout", "full"):
        chosen = [folds]
    else:
        chosen = [f"fold_{fold.strip()}" for fold in folds.split(",")]
    if not chosen or (missing := [name for name in chosen if name not in dataset.split_names]):
        raise InputError(
            f"--folds {folds}: {dataset.folder} has no {missing[0] if chosen else 'folds'}; "
            f"it has {', '.join(dataset.split_names)}: pass all, holdout, full, or fold numbers such as 0,1"
        )
    return list(dict.fromkeys(chosen))


def describe(settings: RankConfig, dataset: PreparedDataset, splits: list[str]) -> Values:
    """The resolved config of the run folder, which `--config` accepts."""
    return {
        **settings.data.dump(),
        "features": settings.features.model_dump(mode="json"),
        "model": settings.model.model_dump(mode="json"),
        "trainer": settings.trainer.model_dump(mode="json"),
        RUN_SECTION: describe_data(dataset) | {"splits": splits},
    }


def describe_data(dataset: PreparedDataset) -> Values:
    """The data part of the section `run`: folder and fingerprint."""
    return {"data": {"folder": str(dataset.folder.resolve()), "fingerprint": dataset.manifest.fingerprint}}


def default_folder(resolved: Values, name: str) -> Path:
    """The default run folder; the same settings on the same data give the same folder."""
    digest = hashlib.sha256(json.dumps(identity(resolved), sort_keys=True).encode()).hexdigest()[:8]
    return RUNS / f"{resolved['name']}-{name}-{digest}"


def execute(
    run: RunFolder,
    settings: RankConfig,
    dataset: PreparedDataset,
    splits: list[str],
    world: World,
    on_epoch: OnEpoch = ignore_epoch,
) -> None:
    """Fits a model to each split and writes the run folder.

    Raises:
        InputError: before the first fit, if the rows of a split cannot be fitted to or monitored.
    """
    stopping, seed = settings.trainer.early_stopping, settings.trainer.seed
    for name in splits if len(splits) > 1 else ():  # the fit itself checks a single split
        split = dataset.split(name, settings.features)
        split_monitored_rows(split, validation_rows(split), stopping, seed)
    for name in splits:
        if world.broadcast(run.has_fit(name)):
            console.print(f"{name}  is already trained")
            ResumePoint(run.weights(name), world).clear()
        else:
            fit_split(run, settings, dataset.split(name, settings.features), world, on_epoch)
    if not world.is_main:
        return

    summaries = {name: run.load_summary(name, FitSummary) for name in splits}
    predictions = [fold for name in splits for fold in run.load_predictions(name)]
    reported = predictions[-1:] if splits == [FULL] else predictions
    unreported = predictions[: len(predictions) - len(reported)]
    metrics = summarize(reported, unreported, dataset, train_summary(summaries, world)).model_copy(
        update={
            "data": DataSummary(folder=str(dataset.folder.resolve())),
            "calibration": calibrate_run(run, reported),
        }
    )
    run.finish(metrics, reported, dataset.store.row_ids(join(reported).row))


def train_summary(fits: dict[str, FitSummary], world: World) -> TrainSummary:
    """Speed and peak memory over all fits."""
    seconds = sum(fit.seconds for fit in fits.values())
    return TrainSummary(
        rows_per_s=sum(fit.n_rows_trained for fit in fits.values()) / seconds,
        seconds=seconds,
        waited_s=sum(fit.waited_s for fit in fits.values()),
        peak_rss_gib=max(fit.peak_rss_gib for fit in fits.values()),
        peak_gpu_gib=max(fit.peak_gpu_gib for fit in fits.values()),
        n_processes=world.size,
        precision="fp32" if any(fit.precision == "fp32" for fit in fits.values()) else "bf16",
        fits=fits,
    )


def fit_split(
    run: RunFolder, settings: RankConfig, split: Split, world: World, on_epoch: OnEpoch = ignore_epoch
) -> None:
    """Fits a model to one split, scores its evaluation rows, and saves the model and the predictions."""
    reset_peak_rss()
    log = Log(run.tensorboard(split.name) if world.is_main else None)
    weights = run.weights(split.name)
    trainer = build_trainer(settings.model, settings.trainer, split, validation_rows(split), weights, log, world)
    report = trainer.fit(on_epoch)
    log.close()
    predictions = []
    for name, rows in split.evaluation_rows.items():
        model_logit = trainer.predict(rows, f"scoring {name}")
        row_numbers = rows.numbers()
        logits = report.link.logits(model_logit)
        label = split.store.labels(row_numbers)
        weight = split.store.weights(row_numbers)
        predictions.append(Predictions.of_fold(name, row_numbers, label, model_logit, logits, weight))
    if world.is_main:
        run.save_fit(split.name, predictions, FitSummary(**fit_figures(report, world)))
    trainer.clean_up()


def validation_rows(split: Split) -> Rows | None:
    """The data's own rows for early stopping; None if it has none, or if they are the rows that are reported."""
    return split.evaluation_rows["valid"] if len(split.evaluation_rows) == 2 else None


def fit_figures(report: FitReport, world: World) -> dict[str, Any]:
    """The values of a `FitSummary`."""
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
        "link": report.link,
        "epochs": tuple(EpochSummary(loss=epoch.loss, monitored=epoch.monitored) for epoch in progress.epochs),
    }


if __name__ == "__main__":
    run_pipeline(rank)
