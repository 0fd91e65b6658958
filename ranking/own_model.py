"""A model of the user's own: what its class must have, and how `package.module:Class` finds it.

Importing a module runs its code. A class is therefore imported only where the user of this process names it: on the
command line, in a config or plan, or in Python. The name that a run folder or a prepared data set recorded is never
enough, because such a folder may come from somebody else.
"""

import importlib
import inspect
from typing import ClassVar, Protocol, cast

from torch import Tensor, nn

from ranking.model_config import DeepModelConfig
from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.schema.resolved import Schema

SEPARATOR = ":"
_named: dict[str, type[nn.Module]] = {}
"""The classes that the user of this process named, by path."""


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


def is_class_path(name: str) -> bool:
    """Whether the name of a model is the path of a class, `package.module:Class`."""
    return SEPARATOR in name


def path_of(model: type[nn.Module]) -> str:
    """The path of a class, which finds it again in a process that can import its module."""
    return f"{model.__module__}{SEPARATOR}{model.__qualname__}"


def name_class(path: str) -> None:
    """Imports a class that the user named, and checks it.

    Raises:
        InputError: if there is no such module or class, or the class is not a `RankingModel`.
    """
    if path in _named:
        return
    module_name, _, class_name = path.partition(SEPARATOR)
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:
        missing = getattr(error, "name", None)
        if missing is not None and missing != module_name and not module_name.startswith(f"{missing}."):
            raise InputError(f"{path}: importing {module_name} fails: {error}: install it") from error
        raise InputError(
            f"{path}: no module {module_name!r}: name a file of the working folder or of an installed package, such "
            "as my_package.my_file:MyModel"
        ) from error
    model: object = module
    for part in class_name.split("."):
        model = getattr(model, part, None)
    classes = [name for name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)]
    if model is None:
        raise InputError(f"{path}: {module_name} has no {class_name!r}{nearest(class_name, classes)}")
    add_class(path, model)


def add_class(path: str, model: object) -> None:
    """Adds a class that the user named, after a check of its members.

    Raises:
        InputError: if it is not a `RankingModel`.
    """
    if not (inspect.isclass(model) and issubclass(model, nn.Module)):
        raise InputError(f"{path} is not a class of torch.nn.Module: name the class of the model")
    config = getattr(model, "Config", None)
    if not (inspect.isclass(config) and issubclass(config, DeepModelConfig)):
        raise InputError(
            f"{path} has no Config: set `Config = MyConfig`, a subclass of ranking.model_config.DeepModelConfig"
        )
    _named[path] = model


def named_class(path: str) -> type[nn.Module]:
    """A class that the user of this process named.

    Raises:
        InputError: if only a file named it.
    """
    if path not in _named:
        raise InputError(
            f"{path} is a class that a folder names, and importing it runs its code: if you trust it, name it "
            f"yourself with --model-class {path} (in Python: models=[{path.rpartition(SEPARATOR)[2]}])"
        )
    return _named[path]


def named_configs() -> list[type[DeepModelConfig]]:
    """The config classes of the named classes."""
    return [config_of(model) for model in _named.values()]


def config_of(model: type[nn.Module]) -> type[DeepModelConfig]:
    """The config class of a named class."""
    return cast(type[RankingModel], model).Config
