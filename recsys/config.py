"""Reads YAML files and dotted overrides into strict pydantic models."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from recsys.errors import InputError, RenamedWarning
from recsys.patterns import nearest

ModelT = TypeVar("ModelT", bound=BaseModel)
Values = dict[str, Any]


class StrictModel(BaseModel):
    """A frozen pydantic model that rejects unknown keys. It accepts keys of earlier versions with a warning."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Current names by the names in earlier versions."""

    @model_validator(mode="before")
    @classmethod
    def _read_renamed_keys(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        for old, new in cls.renamed_keys.items():
            if old in values and new in values:
                raise ValueError(f"{old!r} is the earlier name of {new!r}, and both are set: remove {old!r}")
        return {_new_name(key, cls.renamed_keys): value for key, value in values.items()}


def _new_name(name: Any, renamed: Mapping[str, str]) -> Any:
    if not isinstance(name, str) or name not in renamed:
        return name
    warn_of_new_name(name, renamed[name])
    return renamed[name]


def warn_of_new_name(old: str, new: str) -> None:
    """Warns that a config key or value was renamed."""
    warnings.warn(
        f"{old!r} in the config is now called {new!r}: the old name still works", RenamedWarning, stacklevel=2
    )


def load_yaml(path: Path, overrides: Sequence[str] = ()) -> Values:
    """Loads a YAML mapping, merged over the file that its `base` key names.

    Args:
        path: the file; `base` is relative to its folder.
        overrides: KEY=VALUE settings that replace those of the file, before interpolations (`${key}`) are resolved.

    Raises:
        InputError: when a file is missing, is not YAML, is not a mapping or is its own base.
    """
    try:
        layers, paths = [_load_layer(path)], [path.resolve()]
        while (base := layers[0].pop("base", None)) is not None:
            base_path = paths[-1].parent / str(base)
            if base_path.resolve() in paths:
                raise InputError(f"{base_path} is its own base: remove the cycle of `base` keys")
            paths.append(base_path.resolve())
            layers.insert(0, _load_layer(base_path))
        values = OmegaConf.to_container(
            OmegaConf.merge(*layers, OmegaConf.create(parse_overrides(overrides))), resolve=True
        )
    except InputError:
        raise
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, OSError) as error:
        raise InputError(f"{path} is not a readable YAML file: {_first_line(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _load_layer(path: Path) -> DictConfig:
    if not path.is_file():
        raise InputError(f"{path} is not a file: pass the path of a YAML config, such as configs/toss.yaml")
    layer = OmegaConf.load(path)
    if not isinstance(layer, DictConfig):
        raise InputError(f"{path} must hold a mapping of keys to values, got a {type(layer).__name__}")
    return layer


def parse_overrides(overrides: Sequence[str]) -> Values:
    """Parses dotted overrides into nested values: `trainer.epochs=3` -> `{"trainer": {"epochs": 3}}`.

    Raises:
        InputError: for an override that is not KEY=VALUE.
    """
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise InputError(f"override {override!r} must be KEY=VALUE, such as trainer.epochs=3")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"overrides {' '.join(overrides)!r} cannot be read: {_first_line(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def merge(*layers: Mapping[str, Any] | None) -> Values:
    """Merges nested mappings: later layers override earlier ones, and lists are replaced.

    Raises:
        InputError: when one layer has a list where another has a mapping.
    """
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(*[OmegaConf.create(dict(layer or {})) for layer in layers]))
    except (OmegaConfBaseException, TypeError) as error:
        raise InputError(f"the config and its overrides conflict: {_first_line(error)}") from error
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def validate(model: type[ModelT], values: Any, origin: str, prefix: str = "") -> ModelT:
    """Validates nested values as a pydantic model.

    Args:
        model: the expected model.
        values: nested mappings.
        origin: the file or command line that errors name.
        prefix: the dotted key of these values, with a final dot.

    Raises:
        InputError: one line with the dotted key, the problem and, for an unknown key, the nearest valid key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        location = _without_tags(first["loc"], values)
        key = prefix + ".".join(location)
        if first["type"] == "extra_forbidden":
            valid_keys = _keys_at(model, first["loc"][:-1])
            hint = nearest(location[-1], valid_keys) or f" (valid keys: {', '.join(valid_keys)})"
            raise InputError(f"{origin}: unknown key {key!r}{hint}") from error
        if first["type"] == "missing":
            raise InputError(f"{origin}: {key!r} is missing: set it") from error
        message = first["msg"].removeprefix("Value error, ")
        received = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise InputError(f"{origin}: {key}: {message}{received}") from error


def _without_tags(location: Sequence[str | int], values: Any) -> list[str]:
    """Returns the location of an error without the tags of union members, as the user wrote it."""
    keys: list[str] = []
    for index, key in enumerate(location):
        is_key = isinstance(values, Mapping) and key in values
        is_item = isinstance(values, (list, tuple)) and isinstance(key, int) and key < len(values)
        if is_key or is_item:
            values = values[key]
        elif index < len(location) - 1:
            continue
        keys.append(str(key))
    return keys


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Returns the keys of the model at a location, through optional, union, tuple and dict fields."""
    models: list[type[BaseModel]] = [model]
    for key in location:
        nested_models: list[type[BaseModel]] = []
        for parent in models:
            for name, field in parent.model_fields.items():
                if key in (name, field.alias):
                    nested_models += _models_in(field.annotation)
        models = nested_models or models  # an index, a dict key or a union tag is not a field
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
