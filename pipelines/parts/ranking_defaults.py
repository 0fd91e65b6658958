"""Replaces settings that are `auto` by those for the size of the data, and describes the training that follows."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.common.config import RankConfig
from ranking.models import resolve
from ranking.trees.config import GBDTConfig
from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.evaluation.shown import counted
from recsys.system.world import World
from recsys.training.config import TrainerConfig


def resolve_settings(settings: RankConfig, dataset: PreparedDataset, splits: Sequence[str], world: World) -> RankConfig:
    """Replaces the settings that are `auto` by those for the size of the first split; folds are of about one size."""
    size = dataset.split(splits[0], settings.features).size(world.device.type)
    model, trainer = resolve(settings.model, settings.trainer, size)
    return replace(settings, model=model, trainer=trainer)


def plan_of_training(settings: RankConfig, split: Split) -> str:
    """Sizes of the training in words: "batch 256, 10 epochs of 18 steps, learning rate 0.001"."""
    model, trainer = settings.model, settings.trainer
    if isinstance(model, GBDTConfig):
        return f"up to {model.n_trees:,} trees of {model.num_leaves} leaves, learning rate {model.learning_rate:g}"
    assert isinstance(trainer, TrainerConfig)
    stopping = trainer.early_stopping
    n_rows = len(split.fit_rows)
    if stopping is not None and split.validation_rows is None:
        n_rows -= round(stopping.validation_fraction * n_rows)
    n_steps = -(-n_rows // trainer.batch_size)
    stops = "" if stopping is None else f", stops by {' and '.join(stopping.weights)}"
    return (
        f"batch {trainer.batch_size:,}, {counted(trainer.epochs, 'epoch')} of {counted(n_steps, 'step')}, "
        f"learning rate {trainer.learning_rate:g}{stops}"
    )
