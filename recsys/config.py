"""Reading YAML files and dotted overrides into strict pydantic models."""

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
    """A frozen pydantic model that refuses unknown keys, and reads keys of earlier versions with a hint."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions, and what they are called now."""

    @model_validator(mode="before")
    @classmethod
    def _read_renamed_keys(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {_new_name(key, cls.renamed_keys): value for key, value in values.items()}


def _new_name(name: Any, renamed: Mapping[str, str]) -> Any:
    if not isinstance(name, str) or name not in renamed:
        return name
    warn_of_new_name(name, renamed[name])
    return renamed[name]


def warn_of_new_name(old: str, new: str) -> None:
    """Warns that a key or value of a config has another name today."""
    warnings.warn(
        f"{old!r} in the config is now called {new!r}: the old name still works", RenamedWarning, stacklevel=2
    )


def load_yaml(path: Path, overrides: Sequence[str] = ()) -> Values:
    """The mapping a YAML file holds, over that of the file beside it which its `base` names, if any.

    Args:
        path: the file.
        overrides: KEY=VALUE settings over it, which its interpolations (`${key}`) see.

    Raises:
        InputError: when a file is missing, is not YAML or is not a mapping, or is its own base.
    """
    try:
        layers, seen = [_load_layer(path)], [path.resolve()]
        while (base := layers[0].pop("base", None)) is not None:
            place = seen[-1].parent / str(base)
            if place.resolve() in seen:
                raise InputError(f"{place} is its own base: take the circle of `base` keys apart")
            seen.append(place.resolve())
            layers.insert(0, _load_layer(place))
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
    """Dotted overrides as nested values: `trainer.epochs=3` -> `{"trainer": {"epochs": 3}}`.

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
    """Later layers over earlier ones, mapping by mapping; lists are replaced.

    Raises:
        InputError: where one has a list and another a mapping.
    """
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(*[OmegaConf.create(dict(layer or {})) for layer in layers]))
    except (OmegaConfBaseException, TypeError) as error:
        raise InputError(f"the config and what overrides it do not fit each other: {_first_line(error)}") from error
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def validate(model: type[ModelT], values: Any, origin: str, prefix: str = "") -> ModelT:
    """`values` as a `model`.

    Args:
        model: what the values are expected to be.
        values: nested mappings.
        origin: the file or command line to name in errors.
        prefix: the dotted key that leads to these values, with its dot.

    Raises:
        InputError: one line with the dotted key, what is wrong with it and, for an unknown key, the nearest right one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        location = _without_tags(first["loc"], values)
        key = prefix + ".".join(location)
        if first["type"] == "extra_forbidden":
            known = _keys_at(model, first["loc"][:-1])
            hint = nearest(location[-1], known) or f" (the keys here are {', '.join(known)})"
            raise InputError(f"{origin}: unknown key {key!r}{hint}") from error
        if first["type"] == "missing":
            raise InputError(f"{origin}: {key!r} is missing: set it") from error
        message = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise InputError(f"{origin}: {key}: {message}{got}") from error


def _without_tags(location: Sequence[str | int], values: Any) -> list[str]:
    """A location as the user wrote it: the tag of a union's chosen member is left out."""
    parts: list[str] = []
    for index, part in enumerate(location):
        is_key = isinstance(values, Mapping) and part in values
        is_item = isinstance(values, (list, tuple)) and isinstance(part, int) and part < len(values)
        if is_key or is_item:
            values = values[part]
        elif index < len(location) - 1:
            continue
        parts.append(str(part))
    return parts


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys of the model that a location leads to, through optional, union, tuple and dict fields."""
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        deeper: list[type[BaseModel]] = []
        for candidate in candidates:
            for name, field in candidate.model_fields.items():
                if part in (name, field.alias):
                    deeper += _models_in(field.annotation)
        candidates = deeper or candidates  # an index, a dict's key or a union's tag stays where it is
    return sorted({field.alias or name for model in candidates for name, field in model.model_fields.items()})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
