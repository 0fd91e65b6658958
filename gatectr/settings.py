"""The settings of a run in Python: a config or a schema, a model, and sections that override the config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from torch import nn

from pipelines.common.cli import find_config
from pipelines.common.config import RankConfig, rank_config
from pipelines.common.layers import load_sections
from ranking.own_model import add_model
from recsys.config import Values
from recsys.errors import InputError
from recsys.own_code import path_of
from recsys.patterns import nearest

Config = str | Path | Mapping[str, Any]
"""The path or the name of a YAML config, its sections as a mapping, or the section `schema` alone."""
Model = str | type[nn.Module] | Mapping[str, Any]
"""The name of a model, the class or the class path of one's own, or its section `model` with a `name`."""

_IN_PYTHON = Path("config")
"""What errors call a config that is given as a mapping."""


def config_name(config: Config) -> Path:
    """The path of a config, or what errors call one that is given as a mapping."""
    return _IN_PYTHON if isinstance(config, Mapping) else find_config(Path(config))


def read_config(config: Config) -> tuple[Values, Path]:
    """The sections of a config, and its path for error messages."""
    path = config_name(config)
    if not isinstance(config, Mapping):
        return load_sections(path), path
    sections = plain(config)
    if "schema" not in sections:
        sections = {"schema": sections}
    return {"name": "data", **sections}, path


def read_settings(config: Config, model: Model | None, settings: Mapping[str, Any]) -> RankConfig:
    """The settings of a ranking run.

    Args:
        config: the config or the schema.
        model: the model; None takes that of the config.
        settings: sections that override the config, such as `{"trainer": {"epochs": 2}}`.

    Raises:
        InputError: for an unknown section or key, or a wrong value.
    """
    values, path = read_config(config)
    overrides = plain(settings)
    for name, section in overrides.items():
        if not isinstance(section, dict):
            raise InputError(f"{name} must be a mapping of keys to values, such as {{'epochs': 2}}, got {section!r}")
    name = None
    if model is not None:
        name, hyperparameters = read_model(model)
        if hyperparameters:
            overrides["model"] = {**overrides.get("model", {}), **hyperparameters}
    return rank_config(values, name, overrides, path, f"{path} with overrides" if overrides else str(path))


def read_model(model: Model) -> tuple[str, Values]:
    """The name of a model, and its hyperparameters.

    Raises:
        InputError: for a class that is no model, or a mapping without a name.
    """
    if isinstance(model, Mapping):
        hyperparameters = plain(model)
        if "name" not in hyperparameters:
            raise InputError(f"model has no name, got {hyperparameters!r}: add one, such as 'name': 'dcnv2'")
        name, _ = read_model(model["name"])
        return name, {key: value for key, value in hyperparameters.items() if key != "name"}
    if isinstance(model, str):
        return model, {}
    path = path_of(model) if isinstance(model, type) else repr(model)
    add_model(path, model)
    return path, {}


def check_choice(name: str, value: object, choices: object) -> None:
    """Checks an argument whose type is a Literal.

    Raises:
        InputError: for another value than its choices or None.
    """
    allowed = get_args(choices)
    if value is not None and value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}{nearest(str(value), allowed)}")


def plain(values: Any) -> Any:
    """A value with its mappings as dictionaries and its tuples as lists, as YAML has them."""
    if isinstance(values, Mapping):
        return {str(key): plain(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [plain(value) for value in values]
    return values
