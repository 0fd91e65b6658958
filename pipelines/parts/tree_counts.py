"""The number of trees that the fits of a run keep, chosen on rows that are not reported."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.common.config import RankConfig
from pipelines.parts.fits import Fit, build, fits_of, score
from ranking.trees.config import GBDTTrainerConfig
from ranking.trees.gbdt import GBDTTrainer, has_all_trees, remove_all_trees
from recsys.data.dataset import PreparedDataset
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import FitSummary
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.early_stopping import split_monitored_rows
from recsys.training.log import Log

Curve = Sequence[float | None]
"""The monitored metric after each epoch of a fit."""


def share_tree_count(
    run: RunFolder, settings: RankConfig, dataset: PreparedDataset, splits: Sequence[str], world: World
) -> None:
    """Keeps in every fit the number of trees with the best mean monitored metric over fits, and scores again.

    The curve of one fit has few monitored clicks; the mean over fits has several times as many. A split takes the mean
    over the fits that monitored none of the rows which it is evaluated on, so that these have no say in its trees.
    """
    fits = fits_of(settings, splits)
    summaries = {fit.name: run.load_summary(fit.name, FitSummary) for fit in fits}
    curves = {name: [epoch.monitored for epoch in summary.epochs] for name, summary in summaries.items()}
    can_change = len(fits) > 1 and all(has_all_trees(run.weights(fit.name)) for fit in fits)
    if can_change and all(value is not None for curve in curves.values() for value in curve):
        independent = fits_that_monitor_no_row_of(settings, dataset, splits)
        n_epochs = {split: best_epoch([curves[name] for name in independent[split]]) + 1 for split in splits}
        for fit in fits:
            keep_epochs(run, settings, dataset, fit, n_epochs[fit.split], summaries[fit.name], world)
        assert isinstance(settings.trainer, GBDTTrainerConfig)
        kept = ", ".join(f"{settings.trainer.trees_per_epoch * n:,}" for n in dict.fromkeys(n_epochs.values()))
        console.print(f"{kept} trees kept: the best means of the curves of fits that monitored other rows")
    for fit in fits:
        remove_all_trees(run.weights(fit.name))


def best_epoch(curves: Sequence[Curve]) -> int:
    """The epoch, from 0, with the highest mean over curves, of those that all curves reach."""
    n_common = min(map(len, curves))
    return int(np.argmax(np.mean([np.array(curve[:n_common], np.float64) for curve in curves], axis=0)))


def fits_that_monitor_no_row_of(
    settings: RankConfig, dataset: PreparedDataset, splits: Sequence[str]
) -> Mapping[str, list[str]]:
    """By split: the names of the fits whose early stopping monitored none of the split's evaluation rows."""
    by_name = {name: dataset.split(name, settings.features) for name in splits}
    names: dict[str, list[str]] = {name: [] for name in splits}
    for fit in fits_of(settings, splits):
        split, trainer = by_name[fit.split], fit.settings(settings).trainer
        _, monitored = split_monitored_rows(split, split.validation_rows, trainer.early_stopping, trainer.seed)
        is_monitored = np.zeros(dataset.n_rows, bool)
        if monitored is not None:
            is_monitored[monitored.numbers()] = True
        for name, other in by_name.items():
            reported = list(other.evaluation_rows.values())[-1:]  # none of a split without rows to report on
            if not any(is_monitored[rows.numbers()].any() for rows in reported):
                names[name].append(fit.name)
    return names


def keep_epochs(
    run: RunFolder,
    settings: RankConfig,
    dataset: PreparedDataset,
    fit: Fit,
    n_epochs: int,
    summary: FitSummary,
    world: World,
) -> None:
    """Keeps the trees of the first epochs of a fit, and scores its evaluation rows again."""
    split, monitored = dataset.split(fit.split, settings.features), run.load_monitored(fit.name)
    trainer = build(run, settings, split, fit, world, Log(None))
    assert isinstance(trainer, GBDTTrainer)
    trainer.keep_epochs(n_epochs)
    predictions = {name: score(trainer, split, name, rows) for name, rows in split.evaluation_rows.items()}
    if monitored is not None:
        assert trainer.monitored_rows is not None
        given = predictions.get(monitored.name)
        monitored = score(trainer, split, monitored.name, trainer.monitored_rows) if given is None else given
    run.save_fit(
        fit.name, list(predictions.values()), summary.model_copy(update={"best_epoch": n_epochs - 1}), monitored
    )
