"""A small model that trains within seconds, its weights, and a simulated kill of its training."""

from pathlib import Path

import torch
from torch import nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from recsys.data.dataset import PreparedDataset
from recsys.system.world import join_world
from recsys.training.config import TrainerConfig
from recsys.training.log import Log
from recsys.training.state import FitReport
from recsys.training.trainer import Trainer

QUICK = TrainerConfig(epochs=4, batch_size=100, learning_rate=0.01, precision="fp32")


def quick(**changes: object) -> TrainerConfig:
    return TrainerConfig.model_validate(QUICK.model_dump() | changes)


def trainer_of(
    dataset: PreparedDataset, split: str, config: TrainerConfig, folder: Path, model: nn.Module | None = None
) -> Trainer:
    torch.manual_seed(0)
    training_split = dataset.split(split)
    model = model or DCNv2(DCNv2Config(embedding_dim=4, hidden_dims=(16,)), training_split.schema)
    return Trainer(model, training_split, None, config, folder / "weights", Log(), join_world(), "test")


def fit(dataset: PreparedDataset, split: str, config: TrainerConfig, folder: Path) -> tuple[Trainer, FitReport]:
    trainer = trainer_of(dataset, split, config, folder)
    return trainer, trainer.fit()


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in trainer.model.named_parameters()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


class Killed(BaseException):
    """Simulates SIGKILL: code under test does not catch it."""


def kill_at(trainer: Trainer, step: int) -> None:
    """Makes the trainer raise Killed during the update of step number `step`."""
    update = trainer._updater.optimizers.step

    def update_or_raise() -> None:
        if trainer._progress.step == step:
            raise Killed
        update()

    trainer._updater.optimizers.step = update_or_raise  # type: ignore[method-assign]
