"""The ranking models by name."""

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from ranking.din import DIN, DINConfig
from ranking.ft_transformer import FTTransformer, FTTransformerConfig
from ranking.gbdt import GBDTConfig, GBDTTrainer, GBDTTrainerConfig
from ranking.xdeepfm import XDeepFM, XDeepFMConfig
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.schema.resolved import Schema
from recsys.system.world import World
from recsys.training.config import TrainerConfig
from recsys.training.log import Log
from recsys.training.trainer import Trainer

DeepModelName = Literal["dcnv2", "xdeepfm", "ft_transformer", "din"]
ModelName = Literal[DeepModelName, "gbdt"]
DeepModelConfig = DCNv2Config | XDeepFMConfig | FTTransformerConfig | DINConfig
ModelConfig = DeepModelConfig | GBDTConfig
DEEP_MODELS: tuple[DeepModelName, ...] = get_args(DeepModelName)


def config_class(name: ModelName) -> type[ModelConfig]:
    """The config of a model."""
    match name:
        case "dcnv2":
            return DCNv2Config
        case "xdeepfm":
            return XDeepFMConfig
        case "ft_transformer":
            return FTTransformerConfig
        case "din":
            return DINConfig
        case "gbdt":
            return GBDTConfig


def trainer_class(name: ModelName) -> type[TrainerConfig | GBDTTrainerConfig]:
    """The config of a model's training."""
    return GBDTTrainerConfig if name == "gbdt" else TrainerConfig


def build_model(config: DeepModelConfig, schema: Schema) -> nn.Module:
    """A deep model with fresh weights."""
    match config:
        case DCNv2Config():
            return DCNv2(config, schema)
        case XDeepFMConfig():
            return XDeepFM(config, schema)
        case FTTransformerConfig():
            return FTTransformer(config, schema)
        case DINConfig():
            return DIN(config, schema)


def build_trainer(
    config: ModelConfig,
    trainer: TrainerConfig | GBDTTrainerConfig,
    split: Split,
    monitor: Rows | None,
    weights: Path,
    log: Log,
    world: World,
) -> Trainer | GBDTTrainer:
    """What fits a model with fresh weights to a split, deep or not.

    Raises:
        InputError: when trees are to be grown by several processes.
    """
    if isinstance(config, GBDTConfig):
        assert isinstance(trainer, GBDTTrainerConfig)
        if world.size > 1:
            raise InputError("gbdt grows its trees in one process, on all of its cores: start it without torchrun")
        return GBDTTrainer(config, split, monitor, trainer, weights, log, split.name)
    assert isinstance(trainer, TrainerConfig)
    torch.manual_seed(trainer.seed)
    return Trainer(build_model(config, split.schema), split, monitor, trainer, weights, log, world, split.name)
