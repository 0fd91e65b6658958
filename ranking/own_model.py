"""A model of the user's own: what its class must have. `recsys.own_code` finds it by `package.module:Class`."""

import inspect
from typing import ClassVar, Protocol, cast

from torch import Tensor, nn

from ranking.model_config import DeepModelConfig
from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.own_code import SEPARATOR, add_object, name_object, named_object, named_objects
from recsys.schema.resolved import Schema


class RankingModel(Protocol):
    """A ranking model: a subclass of `torch.nn.Module` with these members.

    It has no loss, optimizer, device or sigmoid inside: the trainer and the run have them. Its embedding tables come
    from `recsys.nn.embeddings`, so that they can be sharded over processes; they have storage only once the trainer
    has placed them. `recsys.nn.traits` lists the optional attributes: an auxiliary loss, branches, fixed shapes, and
    modules without weight decay.
    """

    Config: ClassVar[type[DeepModelConfig]]
    """The hyperparameters: a subclass of `DeepModelConfig`, whose fields are the keys of the section `model`."""

    sequences: tuple[str, ...]
    """The sequence features that it reads; () for none."""

    def __init__(self, config: DeepModelConfig, schema: Schema) -> None:
        """Builds the model with initial weights, from a config and the features of a split."""
        ...

    def forward(self, batch: Batch) -> Tensor:
        """Returns the [B] float logits of the rows."""
        ...


def name_model(path: str) -> None:
    """Imports a class that the user named, and checks it.

    Raises:
        InputError: if there is no such module or class, or the class is not a `RankingModel`.
    """
    add_model(path, name_object(path))


def add_model(path: str, model: object) -> None:
    """Adds a class that the user named, after a check of its members.

    Raises:
        InputError: if it is not a `RankingModel`.
    """
    if not (inspect.isclass(model) and issubclass(model, nn.Module)):
        raise InputError(f"{path} is not a class of torch.nn.Module: name the class of the model")
    if not _is_model(model):
        raise InputError(
            f"{path} has no Config: set `Config = MyConfig`, a subclass of ranking.model_config.DeepModelConfig"
        )
    add_object(path, model)


def named_model(path: str) -> type[nn.Module]:
    """A class that the user of this process named.

    Raises:
        InputError: if only a file named it.
    """
    cure = f"name it yourself with --model-class {path} (in Python: models=[{path.rpartition(SEPARATOR)[2]}])"
    return cast(type[nn.Module], named_object(path, cure))


def named_configs() -> list[type[DeepModelConfig]]:
    """The config classes of the named models."""
    return [config_of(cast(type[nn.Module], model)) for model in named_objects() if _is_model(model)]


def config_of(model: type[nn.Module]) -> type[DeepModelConfig]:
    """The config class of a named model."""
    return cast(type[RankingModel], model).Config


def _is_model(model: object) -> bool:
    config = getattr(model, "Config", None)
    return inspect.isclass(config) and issubclass(config, DeepModelConfig)
