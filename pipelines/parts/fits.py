"""Fits of a ranking model, one for each split and seed: trains, scores the evaluation rows, and saves both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.common.config import RankConfig
from ranking.models import build_trainer
from ranking.trees.gbdt import GBDTTrainer
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.runs.folder import RunFolder
from recsys.runs.layout import fit_name
from recsys.runs.metrics import EpochSummary, FitSummary, TrainSummary
from recsys.runs.predictions import Predictions
from recsys.system.memory import peak_rss_gib, reset_peak_rss
from recsys.system.world import World
from recsys.training.log import Log
from recsys.training.state import FitReport, OnEpoch, ignore_epoch
from recsys.training.trainer import Trainer


@dataclass(frozen=True)
class Fit:
    """One fit of a run: a split and a seed."""

    split: str
    number: int
    """Of the seed, from 0."""

    @property
    def name(self) -> str:
        """The name of the fit's checkpoint, log and summary."""
        return fit_name(self.split, self.number)

    def settings(self, settings: RankConfig) -> RankConfig:
        """The settings of a run with the seed of this fit."""
        trainer = settings.trainer
        return replace(settings, trainer=trainer.model_copy(update={"seed": trainer.seed + self.number}))


def fits_of(settings: RankConfig, splits: Sequence[str]) -> list[Fit]:
    """The fits of a run: all seeds of each split."""
    return [Fit(split, number) for split in splits for number in range(settings.trainer.seeds)]


def fit_split(
    run: RunFolder,
    settings: RankConfig,
    split: Split,
    world: World,
    on_epoch: OnEpoch = ignore_epoch,
    scores_monitored: bool = False,
    fit: Fit | None = None,
) -> None:
    """Fits a model to one split, scores its evaluation rows, and saves the model and the predictions.

    Args:
        run: the run folder.
        settings: the model and its training.
        split: the split.
        world: the processes.
        on_epoch: called after each epoch.
        scores_monitored: whether the monitored rows are scored too, for the fit's own calibration.
        fit: the seed; None takes the first.
    """
    reset_peak_rss()
    fit = Fit(split.name, 0) if fit is None else fit
    log = Log(run.tensorboard(fit.name) if world.is_main else None)
    trainer = build(run, settings, split, fit, world, log)
    report = trainer.fit(on_epoch)
    log.close()
    if isinstance(trainer, Trainer) and split.validation_rows is None and not scores_monitored:
        trainer.refit_linear_part()
    predictions = {name: score(trainer, split, name, rows) for name, rows in split.evaluation_rows.items()}
    monitored, monitored_rows = None, trainer.monitored_rows if scores_monitored else None
    if monitored_rows is not None:
        is_valid = monitored_rows is split.validation_rows
        monitored = predictions["valid"] if is_valid else score(trainer, split, "monitored", monitored_rows)
    if world.is_main:
        summary = FitSummary(**fit_figures(report, world))
        run.save_fit(fit.name, list(predictions.values()), summary, monitored)
    trainer.clean_up()


def build(
    run: RunFolder, settings: RankConfig, split: Split, fit: Fit, world: World, log: Log
) -> Trainer | GBDTTrainer:
    """Builds the trainer of a fit, which saves its weights in the run folder."""
    settings = fit.settings(settings)
    return build_trainer(
        settings.model,
        settings.trainer,
        split,
        split.validation_rows,
        run.weights(fit.name),
        log,
        world,
        fit.name,
    )


def score(trainer: Trainer | GBDTTrainer, split: Split, name: str, rows: Rows) -> Predictions:
    """Predictions of rows by the trained model."""
    model_logit, row_numbers = trainer.predict(rows, f"scoring {name}"), rows.numbers()
    store, day = split.store, split.store.days(row_numbers)
    return Predictions.of_fold(
        name,
        row_numbers,
        store.labels(row_numbers),
        trainer.link.logits(model_logit),
        store.weights(row_numbers),
        store.users(row_numbers),
        day if day is not None and (day >= 0).any() else None,
        split.has_known_user(row_numbers),
    )


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
        "n_skipped": progress.n_skipped,
        "micro_batches": progress.micro_batches,
        "best_epoch": progress.best_epoch,
        "link": report.link,
        "epochs": tuple(
            EpochSummary(loss=epoch.loss, monitored=epoch.monitored, linear_share=epoch.linear_share)
            for epoch in progress.epochs
        ),
    }


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
