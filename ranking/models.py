"""The ranking models by name. A new deep model needs one file and one line in `DEEP_MODELS`: see CONTRIBUTING.md.

A model outside this package needs no line: its name is the path of its class, see `ranking.own_model`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
from pydantic import AfterValidator
from torch import nn

from ranking.dcnv2 import DCNv2, DCNv2Config
from ranking.din import DIN, DINConfig
from ranking.finalmlp import FinalMLP, FinalMLPConfig
from ranking.ft_transformer import FTTransformer, FTTransformerConfig
from ranking.model_config import DeepModelConfig
from ranking.onetrans.model import OneTrans, OneTransConfig
from ranking.own_model import config_of, name_model, named_configs, named_model
from ranking.qnn import QNN, QNNConfig
from ranking.tabm import TabM, TabMConfig
from ranking.trees.config import GBDTConfig, GBDTTrainerConfig, TreeLibrary
from ranking.trees.gbdt import GBDTTrainer
from ranking.xdeepfm import XDeepFM, XDeepFMConfig
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.defaults import AUTO, DataSize
from recsys.errors import InputError
from recsys.own_code import SEPARATOR, is_path
from recsys.patterns import nearest
from recsys.schema.resolved import Schema
from recsys.system.world import World
from recsys.training.config import TrainerConfig
from recsys.training.log import Log
from recsys.training.trainer import Trainer
from recsys.training.update.step import explained_out_of_memory

GBDT = "gbdt"
LIBRARIES = get_args(TreeLibrary)


@dataclass(frozen=True)
class DeepModel:
    """A deep model: its config class and its constructor."""

    config: type[DeepModelConfig]
    build: Callable[[Any, Schema], nn.Module]
    """Builds a model with initial weights from a config and a split's schema. The model has
    `forward(batch) -> [B] logits` and an attribute `sequences`, the names of its sequence features."""

    @property
    def name(self) -> str:
        """The name of the model in `--model`."""
        return str(self.config.model_fields["name"].default)


DEEP_MODELS = [
    DeepModel(DCNv2Config, DCNv2),
    DeepModel(XDeepFMConfig, XDeepFM),
    DeepModel(FTTransformerConfig, FTTransformer),
    DeepModel(DINConfig, DIN),
    DeepModel(OneTransConfig, OneTrans),
    DeepModel(FinalMLPConfig, FinalMLP),
    DeepModel(QNNConfig, QNN),
    DeepModel(TabMConfig, TabM),
]


def model_names() -> tuple[str, ...]:
    """The names of all ranking models."""
    return (*(model.name for model in DEEP_MODELS), GBDT)


def known_configs() -> list[type[DeepModelConfig] | type[GBDTConfig]]:
    """The config classes of all models, and of the classes that the user named."""
    return [*map(config_class, model_names()), *named_configs()]


def short_name(name: str) -> str:
    """The name of a model as a part of a file name: that of its class for a path."""
    return name.rpartition(SEPARATOR)[2]


def check_model_name(name: str) -> str:
    """Returns the name if a model has it; imports a class that a user names by its path.

    Raises:
        ValueError: when no model has this name.
    """
    if is_path(name):
        name_model(name)
    elif name in LIBRARIES:
        raise ValueError(f"unknown model {name!r}: choose {GBDT!r} and model.library={name}")
    elif name not in model_names():
        raise ValueError(f"unknown model {name!r}{nearest(name, model_names())}: choose one of {list(model_names())}")
    return name


ModelName = Annotated[str, AfterValidator(check_model_name)]
ModelConfig = DeepModelConfig | GBDTConfig


def config_class(name: str) -> type[DeepModelConfig] | type[GBDTConfig]:
    """The config class of a model.

    Raises:
        InputError: when no model has this name, or it is the path of a class that the user did not name.
    """
    if is_path(name):
        return config_of(named_model(name))
    try:
        check_model_name(name)
    except ValueError as error:
        raise InputError(f"{error}") from error
    return GBDTConfig if name == GBDT else _deep_model(name).config


def trainer_class(name: str) -> type[TrainerConfig | GBDTTrainerConfig]:
    """The training config class of a model."""
    return GBDTTrainerConfig if name == GBDT else TrainerConfig


def _deep_model(name: str) -> DeepModel:
    if is_path(name):
        model = named_model(name)
        return DeepModel(config_of(model), model)
    return next(model for model in DEEP_MODELS if model.name == name)


def resolve(
    model: ModelConfig, trainer: TrainerConfig | GBDTTrainerConfig, size: DataSize
) -> tuple[ModelConfig, TrainerConfig | GBDTTrainerConfig]:
    """Replaces the settings of a model and its training that are `auto` by those for data of this size."""
    model, resolved = model.resolved(size), trainer.resolved(size)
    if isinstance(model, DeepModelConfig) and isinstance(trainer, TrainerConfig):
        assert isinstance(resolved, TrainerConfig)
        changes: dict[str, Any] = {}
        if trainer.learning_rate == AUTO:
            rate = min(resolved.learning_rate, model.max_learning_rate)
            changes["learning_rate"] = max(rate, model.min_learning_rate) if trainer.batch_size == AUTO else rate
        if trainer.epochs == AUTO:
            changes["epochs"] = max(resolved.epochs, model.min_epochs)
        resolved = resolved.model_copy(update=changes)
    return model, resolved


def build_model(config: DeepModelConfig, schema: Schema) -> nn.Module:
    """Builds a deep model with initial weights."""
    return _deep_model(config.name).build(config, schema)


def build_trainer(
    config: ModelConfig,
    trainer: TrainerConfig | GBDTTrainerConfig,
    split: Split,
    monitor: Rows | None,
    weights: Path,
    log: Log,
    world: World,
    name: str | None = None,
) -> Trainer | GBDTTrainer:
    """Builds the trainer that fits a model, deep or GBDT, with initial weights to a split.

    The name is shown on progress lines; None takes that of the split.

    Raises:
        InputError: when several processes train a GBDT.
    """
    config, trainer = resolve(config, trainer, split.size(world.device.type))
    name = split.name if name is None else name
    if isinstance(config, GBDTConfig):
        assert isinstance(trainer, GBDTTrainerConfig)
        if world.size > 1:
            raise InputError(
                f"gbdt grows its trees in one process, on all cores, got {world.size}: start it without torchrun"
            )
        return GBDTTrainer(config, split, monitor, trainer, weights, log, name)
    assert isinstance(trainer, TrainerConfig)
    torch.manual_seed(trainer.seed)
    with explained_out_of_memory("the model does not fit in memory: lower the sizes in the section model"):
        return Trainer(build_model(config, split.schema), split, monitor, trainer, weights, log, world, name)
