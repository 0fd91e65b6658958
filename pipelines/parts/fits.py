"""Fits a ranking model to one split, scores its evaluation rows, and saves both in the run folder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipelines.common.config import RankConfig
from ranking.gbdt import GBDTTrainer, has_all_trees, remove_all_trees
from ranking.gbdt_config import GBDTTrainerConfig
from ranking.models import build_trainer
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import EpochSummary, FitSummary
from recsys.runs.predictions import Predictions
from recsys.system.memory import peak_rss_gib, reset_peak_rss
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.log import Log
from recsys.training.state import FitReport, OnEpoch, ignore_epoch
from recsys.training.trainer import Trainer


def fit_split(
    run: RunFolder,
    settings: RankConfig,
    split: Split,
    world: World,
    on_epoch: OnEpoch = ignore_epoch,
    scores_monitored: bool = False,
) -> None:
    """Fits a model to one split, scores its evaluation rows, and saves the model and the predictions.

    Args:
        run: the run folder.
        settings: the model and its training.
        split: the split.
        world: the processes.
        on_epoch: called after each epoch.
        scores_monitored: whether the monitored rows are scored too, for the fit's own calibration.
    """
    reset_peak_rss()
    log = Log(run.tensorboard(split.name) if world.is_main else None)
    weights = run.weights(split.name)
    trainer = build_trainer(settings.model, settings.trainer, split, split.validation_rows, weights, log, world)
    report = trainer.fit(on_epoch)
    log.close()
    predictions = {name: score(trainer, split, name, rows) for name, rows in split.evaluation_rows.items()}
    monitored, monitored_rows = None, trainer.monitored_rows if scores_monitored else None
    if monitored_rows is not None:
        is_valid = monitored_rows is split.validation_rows
        monitored = predictions["valid"] if is_valid else score(trainer, split, "monitored", monitored_rows)
    if world.is_main:
        summary = FitSummary(**fit_figures(report, world))
        run.save_fit(split.name, list(predictions.values()), summary, monitored)
    trainer.clean_up()


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


def share_tree_count(
    run: RunFolder, settings: RankConfig, dataset: PreparedDataset, splits: Sequence[str], world: World
) -> None:
    """Keeps in every fit the number of trees with the best mean monitored metric over the fits, and scores again.

    The curve of one fit has few monitored clicks; the mean over folds has several times as many.
    """
    if len(splits) == 1:
        remove_all_trees(run.weights(splits[0]))
        return
    summaries = {name: run.load_summary(name, FitSummary) for name in splits}
    curves = [[epoch.monitored for epoch in summary.epochs] for summary in summaries.values()]
    n_common = min(len(curve) for curve in curves)
    common = [[value for value in curve[:n_common] if value is not None] for curve in curves]
    if any(len(curve) < n_common for curve in common) or not all(has_all_trees(run.weights(name)) for name in splits):
        return
    best = int(np.argmax(np.mean(common, axis=0)))
    for name in splits:
        split = dataset.split(name, settings.features)
        trainer = build_trainer(
            settings.model, settings.trainer, split, split.validation_rows, run.weights(name), Log(None), world
        )
        assert isinstance(trainer, GBDTTrainer)
        trainer.keep_epochs(best + 1)
        predictions = [score(trainer, split, part, rows) for part, rows in split.evaluation_rows.items()]
        run.save_fit(name, predictions, summaries[name].model_copy(update={"best_epoch": best}))
    for name in splits:
        remove_all_trees(run.weights(name))
    assert isinstance(settings.trainer, GBDTTrainerConfig)
    n_trees = (best + 1) * settings.trainer.trees_per_epoch
    console.print(f"{n_trees:,} trees kept in every fit: the best mean of the monitored curves")


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
        "epochs": tuple(EpochSummary(loss=epoch.loss, monitored=epoch.monitored) for epoch in progress.epochs),
    }
