"""The ranking models by name. A new deep model is one file and one line of `DEEP_MODELS`: see CONTRIBUTING.md."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from ranking.din import DIN, DINConfig
from ranking.ft_transformer import FTTransformer, FTTransformerConfig
from ranking.gbdt import GBDTConfig, GBDTTrainer, GBDTTrainerConfig
from ranking.model_config import DeepModelConfig
from ranking.xdeepfm import XDeepFM, XDeepFMConfig
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.schema.resolved import Schema
from recsys.system.world import World
from recsys.training.config import TrainerConfig
from recsys.training.log import Log
from recsys.training.trainer import Trainer

GBDT = "gbdt"


@dataclass(frozen=True)
class DeepModel:
    """A deep model's config and how it is built from it."""

    config: type[DeepModelConfig]
    build: Callable[[Any, Schema], nn.Module]
    """A config of that class, and the schema of a split, to a model with fresh weights: `forward(batch) -> [B] logits`;
    its attribute `sequences` names the sequence features that it reads."""

    @property
    def name(self) -> str:
        """What `--model` calls it."""
        return str(self.config.model_fields["name"].default)


DEEP_MODELS = [
    DeepModel(DCNv2Config, DCNv2),
    DeepModel(XDeepFMConfig, XDeepFM),
    DeepModel(FTTransformerConfig, FTTransformer),
    DeepModel(DINConfig, DIN),
]


def model_names() -> tuple[str, ...]:
    """The names of all ranking models."""
    return (*(model.name for model in DEEP_MODELS), GBDT)


def check_model_name(name: str) -> str:
    """The name, if it is that of a model.

    Raises:
        ValueError: when there is no such model.
    """
    if name not in model_names():
        raise ValueError(f"there is no model {name!r}{nearest(name, model_names())}: take one of {list(model_names())}")
    return name


ModelName = Annotated[str, AfterValidator(check_model_name)]
ModelConfig = DeepModelConfig | GBDTConfig


def config_class(name: str) -> type[DeepModelConfig] | type[GBDTConfig]:
    """The config of a model.

    Raises:
        InputError: when there is no such model.
    """
    try:
        check_model_name(name)
    except ValueError as error:
        raise InputError(f"{error}") from error
    return GBDTConfig if name == GBDT else _deep_model(name).config


def trainer_class(name: str) -> type[TrainerConfig | GBDTTrainerConfig]:
    """The config of a model's training."""
    return GBDTTrainerConfig if name == GBDT else TrainerConfig


def _deep_model(name: str) -> DeepModel:
    return next(model for model in DEEP_MODELS if model.name == name)


def build_model(config: DeepModelConfig, schema: Schema) -> nn.Module:
    """A deep model with fresh weights."""
    return _deep_model(config.name).build(config, schema)


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
