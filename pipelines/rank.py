"""Trains a ranking model and evaluates it out-of-fold, on the last day, or on the data's own test split.

python -m pipelines.rank --model dcnv2
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import TOSS_CONFIG, ConfigOption, DataOption, Overrides, run_pipeline
from pipelines.common.config import RankConfig, load_rank_config
from pipelines.common.data import choose_config, find_prepared, recorded_data
from pipelines.common.own_code import check_own_code
from pipelines.common.splits import choose_splits
from pipelines.parts.fits import fit_split, fits_of, train_summary
from pipelines.parts.parallel import FitJob, fit_in_processes, n_parallel_fits
from pipelines.parts.ranking_defaults import plan_of_training, resolve_settings
from pipelines.parts.sharding_plan import print_sharding_plan
from pipelines.parts.tree_counts import share_tree_count
from ranking.baselines import measure_baselines
from ranking.models import model_names, short_name
from ranking.trees.config import GBDTConfig
from recsys.config import Values
from recsys.data.dataset import PreparedDataset
from recsys.data.groups import FOLD, FULL
from recsys.errors import InputError
from recsys.evaluation.calibration.gain import loss_of
from recsys.runs.calibration import calibrate_on_monitored, calibrate_run, print_calibration
from recsys.runs.config import EVALUATION_SECTION, RUN_SECTION, identity
from recsys.runs.folder import RunFolder
from recsys.runs.layout import METRICS_FILE
from recsys.runs.metrics import DataSummary, FitSummary
from recsys.runs.predictions import join, join_seeds
from recsys.runs.score_feature import with_scores
from recsys.runs.summary import print_summary, summarize
from recsys.schema.leaks import warning_of_label_histories
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import console
from recsys.system.world import World, join_world
from recsys.training.checkpoint import ResumePoint
from recsys.training.early_stopping import few_clicks_warning, split_monitored_rows
from recsys.training.state import OnEpoch, ignore_epoch

RUNS = Path("runs")


def rank(
    model: Annotated[
        str | None,
        typer.Option(help=f"Model to train: {', '.join(model_names())}. Default: model.name of the config."),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write. Default: runs/DATA-MODEL-HASH, a hash of the settings.")
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            help="all: one model per fold, evaluated on that fold; 0,2: only these folds; forward: one model per "
            "forward window, trained on all rows before it; holdout: train on all days but the last and evaluate on "
            "the last; tuning: evaluate on the tuning part, which no fold evaluates; full: train on all training rows. "
            "Default: full if the data has its own valid or test split, else all."
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
) -> Path | None:
    """Train and evaluate a ranking model.

    KEY=VALUE arguments override the config, such as model.embedding_dim=32
    trainer.epochs=3. Running the same command again resumes an interrupted run,
    or prints the results of a finished one.
    """
    config = choose_config(config, data, TOSS_CONFIG)
    settings = load_rank_config(config, model, overrides or [])
    settings.check_roles()
    if show_sharding:
        if score_feature is not None:
            raise InputError(
                "--show-sharding plans embedding tables, and --score-feature adds none: pass only one of the two"
            )
        print_sharding_plan(settings, data, world_size, hbm_gib)
        return None
    return train(settings, config, data, out, folds, score_feature).folder / METRICS_FILE


def train(
    settings: RankConfig,
    config: Path,
    data: Path | None,
    out: Path | None,
    folds: str | None,
    score_feature: Path | None = None,
    command: str | None = None,
) -> RunFolder:
    """Trains and evaluates a model, and prints its metrics; a finished run of the same settings is only printed.

    Args:
        settings: the data, the model and its training.
        config: the file of the settings, for error messages.
        data: as in `find_prepared`.
        out: the run folder to write; None names it by a hash of the settings.
        folds: as in `choose_splits`.
        score_feature: a finished retrieval run.
        command: what started the run, for its config.yaml; None takes the command line of this process.

    Raises:
        InputError: for settings that the data does not allow, before the first fit.
    """
    keep_freed_memory()
    world = join_world()
    with world.main_first():
        dataset = find_prepared(settings.data, data or recorded_data(settings.run), settings.sections)
    splits = choose_splits(dataset, folds, settings.run.splits)
    warn_of_leaks(dataset, splits)
    if score_feature is None and settings.run.score_feature is not None:
        score_feature = Path(settings.run.score_feature.run)
        if not score_feature.is_dir():
            raise InputError(
                f"{score_feature}, the retrieval run of {config}, is missing: pass its new place with --score-feature"
            )
    settings = resolve_settings(settings, dataset, splits, world)
    resolved = describe(settings, dataset, splits)
    if score_feature is not None:
        scored = with_scores(dataset, score_feature, splits)
        dataset, resolved[RUN_SECTION]["score_feature"] = scored.dataset, scored.feature.model_dump()
    if command is not None:
        resolved[RUN_SECTION]["command"] = command
    folder = out or default_folder(resolved, short_name(settings.model.name))
    with world.main_first():
        run = RunFolder(folder, resolved, world.is_main)
    if not world.broadcast(run.is_done):
        data_name = f"{dataset.name} ({dataset.folder})"
        seeds = f"{settings.trainer.seeds} seeds x " if settings.trainer.seeds > 1 else ""
        console.print(f"{settings.model.name} on {data_name}, {seeds}splits: {', '.join(splits)}")
        console.print(plan_of_training(settings, dataset.split(splits[0], settings.features)))
        with run.removed_if_refused():
            execute(run, settings, dataset, splits, world, is_command=command is None)
    if world.is_main:
        print_summary(run.metrics(), f"{settings.model.name} on {dataset.name}")
        print_calibration(run.metrics())
        console.print(f"run folder: {run.folder}")
    return run


def warn_of_leaks(dataset: PreparedDataset, splits: Sequence[str]) -> None:
    """Prints a warning if models of folds are fitted to labels of their evaluation rows."""
    manifest = dataset.manifest
    warning = warning_of_label_histories(manifest.schema_, manifest.has_folds_by_user)
    if warning is not None and any(name.startswith(FOLD) for name in splits):
        console.print(f"warning: {warning}", style="bold yellow")


def describe(settings: RankConfig, dataset: PreparedDataset, splits: list[str]) -> Values:
    """The resolved config of the run folder, which `--config` accepts."""
    return {
        **settings.data.dump(),
        "features": settings.features.model_dump(mode="json"),
        "model": settings.model.model_dump(mode="json"),
        "trainer": settings.trainer.model_dump(mode="json"),
        EVALUATION_SECTION: settings.evaluation.model_dump(mode="json"),
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
    is_command: bool = True,
) -> None:
    """Fits a model to each split with each seed, and writes the run folder.

    Fits at once need processes, which import the main module again: without being asked for, only a command has them.

    Raises:
        InputError: before the first fit, if the rows of a split cannot be fitted to or monitored.
    """
    # folds are calibrated on each other, any other fit on the rows that its early stopping monitored
    is_cross_fitted = len(splits) > 1 and all(name.startswith("fold_") for name in splits)
    fits = fits_of(settings, splits)
    check_own_code(settings.trainer, settings.evaluation)
    watched = []
    for fit in fits:
        split, trainer = dataset.split(fit.split, settings.features), fit.settings(settings).trainer
        rows = split_monitored_rows(split, split.validation_rows, trainer.early_stopping, trainer.seed)
        watched.append((split, rows[1]))
    if warning := few_clicks_warning(watched):
        console.print(warning, style="yellow")
    # a sweep listens to the epochs of its fits, to stop them
    n_parallel = n_parallel_fits(settings, len(fits), world, is_command) if on_epoch is ignore_epoch else 1
    jobs = []
    for fit in fits:
        if world.broadcast(run.has_fit(fit.name)):
            console.print(f"{fit.name}  is already trained")
            ResumePoint(run.weights(fit.name), world).clear()
        elif n_parallel > 1:
            jobs.append(FitJob(run, settings, dataset, fit, not is_cross_fitted))
        else:
            split = dataset.split(fit.split, settings.features)
            fit_split(run, settings, split, world, on_epoch, not is_cross_fitted, fit)
    if jobs:
        fit_in_processes(jobs, n_parallel)
    if not world.is_main:
        return
    if isinstance(settings.model, GBDTConfig):
        share_tree_count(run, settings, dataset, splits, world)

    summaries = {fit.name: run.load_summary(fit.name, FitSummary) for fit in fits}
    names = {split: [fit.name for fit in fits if fit.split == split] for split in splits}
    predictions = [
        join_seeds(seeds)
        for split in splits
        for seeds in zip(*(run.load_predictions(name) for name in names[split]), strict=True)
    ]
    reported = predictions[-1:] if splits == [FULL] else predictions
    unreported = predictions[: len(predictions) - len(reported)]
    fitted = [dataset.split(name, settings.features) for name in splits]
    loss = loss_of(settings.named_metrics[0])
    calibration = (
        calibrate_run(run, reported, loss) if is_cross_fitted else calibrate_on_monitored(run, names, reported, loss)
    )
    reported = calibration.reported
    monitored = calibration.monitored
    others = [monitored if monitored is not None and part.name == monitored.name else part for part in unreported]
    own_metrics = settings.evaluation.own_metrics
    metrics = summarize(reported, others, dataset, train_summary(summaries, world), own_metrics).model_copy(
        update={
            "data": DataSummary(folder=str(dataset.folder.resolve())),
            "named_metrics": settings.named_metrics,
            "calibration": calibration.summary,
            "baselines": measure_baselines(fitted, reported),
        }
    )
    run.finish(metrics, reported, dataset.store.row_ids(join(reported).row))


if __name__ == "__main__":
    run_pipeline(rank)
