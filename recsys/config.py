"""Reads YAML files and dotted overrides into strict pydantic models."""

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from recsys.errors import InputError, RenamedWarning
from recsys.patterns import nearest

ModelT = TypeVar("ModelT", bound=BaseModel)
Values = dict[str, Any]
FindBase = Callable[[Path], Path | None]
_MAX_SHOWN = 200
"""Characters of a wrong value that an error shows."""


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


def load_yaml(path: Path, overrides: Sequence[str] = (), find_base: FindBase = lambda base: None) -> Values:
    """Loads a YAML mapping, merged over the file that its `base` key names.

    Args:
        path: the file; `base` is relative to its folder.
        overrides: KEY=VALUE settings that replace those of the file, before interpolations (`${key}`) are resolved.
        find_base: the file of a `base` that is not in that folder.

    Raises:
        InputError: when a file is missing, is not YAML, is not a mapping or is its own base.
    """
    layers, paths = [_load_layer(path)], [path.resolve()]
    while (base := layers[0].pop("base", None)) is not None:
        base_path = paths[-1].parent / str(base)
        base_path = base_path if base_path.exists() else find_base(Path(str(base))) or base_path
        if base_path.resolve() in paths:
            raise InputError(f"{base_path} is its own base: remove the cycle of `base` keys")
        paths.append(base_path.resolve())
        layers.insert(0, _load_layer(base_path))
    try:
        values = OmegaConf.to_container(
            OmegaConf.merge(*layers, OmegaConf.create(parse_overrides(overrides))), resolve=True
        )
    except _YAML_ERRORS as error:
        raise InputError(f"{path} cannot be read: {_yaml_problem(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _load_layer(path: Path) -> DictConfig:
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not a file"
        raise InputError(f"{path} {kind}: pass the path of a YAML config, such as configs/toss.yaml")
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        layer = OmegaConf.load(io.StringIO(text))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} is not UTF-8 text, from line {line} on: save it as UTF-8") from error
    except _YAML_ERRORS as error:
        raise InputError(f"{path} is not a readable YAML file: {_yaml_problem(error, text)}") from error
    if not isinstance(layer, DictConfig):
        raise InputError(f"{path} must hold a mapping of keys to values, got a {type(layer).__name__}")
    return layer


_YAML_ERRORS = (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, LookupError, OSError, RecursionError)


def _yaml_problem(error: Exception, text: str = "") -> str:
    """Returns what is wrong with a YAML text, with line and column, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark) is not None:
        start = error.context_mark
        context = f" {error.context}" if error.context else ""
        if start is not None and start.line != mark.line:
            context += f" that starts in line {start.line + 1}"
        is_tab = "\t" in "".join(text.split("\n")[mark.line : mark.line + 1])[mark.column : mark.column + 1]
        hint = ": write spaces instead of the tab" if is_tab else ""
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}{hint}"
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: the character {chr(int(error.character))!r} is not allowed in YAML: remove it"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    key = getattr(error, "full_key", None)
    return _first_line(error) + (f" (key {key})" if key else "")


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
    except _YAML_ERRORS as error:
        raise InputError(f"overrides {' '.join(overrides)!r} cannot be read: {_yaml_problem(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def merge(*layers: Mapping[str, Any] | None) -> Values:
    """Merges nested mappings: later layers override earlier ones, and lists are replaced.

    Raises:
        InputError: when one layer has a list where another has a mapping.
    """
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(*[OmegaConf.create(dict(layer or {})) for layer in layers]))
    except _YAML_ERRORS as error:
        raise InputError(f"the config and its overrides conflict: {_yaml_problem(error)}") from error
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
        message = _most_relevant([_Located.of(detail, model, values) for detail in error.errors()])
        raise InputError(f"{origin}: {_describe(message, prefix)}") from error


@dataclass(frozen=True)
class _Located:
    """An error of pydantic, and where it is."""

    detail: Any
    steps: tuple[tuple[str, bool], ...]
    """The elements of its location, and whether each is the tag of a union's member, which the user did not write."""
    models: tuple[type[BaseModel], ...]
    """The models that the last key belongs to."""

    @classmethod
    def of(cls, detail: Any, model: type[BaseModel], values: Any) -> "_Located":
        """Follows the location of an error from a model through the values."""
        steps, models, owners = [], [model], [model]
        for element in detail["loc"]:
            fields = [f for m in models for name, f in m.model_fields.items() if element in (name, f.alias)]
            is_in_values = isinstance(values, Mapping) and element in values
            is_in_values |= isinstance(values, (list, tuple)) and isinstance(element, int) and element < len(values)
            is_in_values &= detail["input"] is not values  # else the element is the tag of a type, such as `str`
            steps.append((str(element), not fields and not is_in_values))
            if steps[-1][1]:
                models = [m for m in models if _is_tag_of(str(element), m)] or models
                continue
            owners, values = models, values[element] if is_in_values else None
            models = [m for field in fields for m in _models_in(field.annotation)] or models
        return cls(detail, tuple(steps), tuple(owners))

    @property
    def keys(self) -> list[str]:
        """The location as the user wrote it."""
        return [element for element, is_tag in self.steps if not is_tag]

    @property
    def is_mismatch(self) -> bool:
        """Whether the value has another type than the member of the union."""
        kind = self.detail["type"]
        return kind.endswith(("_type", "_parsing")) or kind == "literal_error"

    @property
    def known_keys(self) -> list[str]:
        """The keys that are valid where the last key is."""
        return sorted({field.alias or name for model in self.models for name, field in model.model_fields.items()})


def _is_tag_of(tag: str, model: type[BaseModel]) -> bool:
    is_kind = any(tag in get_args(field.annotation) for field in model.model_fields.values())
    return is_kind or model.__name__ in re.findall(r"\w+", tag)


def _most_relevant(errors: Sequence[_Located], depth: int = 0) -> list[_Located]:
    """Selects the error to report: of a union, that of the member that fits the value best, or of all if none fits.

    Args:
        errors: errors of one value, which have the same first steps.
        depth: the number of these steps.
    """
    first = errors[0]
    start = next((index for index, (_, is_tag) in enumerate(first.steps[depth:], depth) if is_tag), None)
    if start is None:
        siblings = [error for error in errors if error.keys[:-1] == first.keys[:-1]]
        missing = [error.keys[-1] for error in siblings if error.detail["type"] == "missing"]
        misspelt = (e for e in siblings if e.detail["type"] == "extra_forbidden" and nearest(e.keys[-1], missing))
        return [next(misspelt, first)]
    members: dict[str, list[_Located]] = {}
    for error in errors:
        if error.steps[:start] == first.steps[:start] and len(error.steps) > start:
            members.setdefault(error.steps[start][0], []).append(error)

    def n_misfits(member: list[_Located]) -> float:
        if all(error.is_mismatch and len(error.steps) == start + 1 for error in member):
            return math.inf
        return sum(error.detail["type"] in ("extra_forbidden", "missing") for error in member)

    best = min(members.values(), key=n_misfits)
    if len(members) > 1 and n_misfits(best) == math.inf:
        return [error for member in members.values() for error in member]
    return _most_relevant(best, start + 1)


def _describe(errors: list[_Located], prefix: str) -> str:
    """Returns the dotted key and the problem, in one line; several errors are those of the members of a union."""
    error, detail = errors[0], errors[0].detail
    key = prefix + ".".join(error.keys)
    match detail["type"]:
        case "extra_forbidden":
            hint = nearest(error.keys[-1], error.known_keys, key.removesuffix(error.keys[-1]))
            return f"unknown key {key!r}" + (hint or f" (valid keys: {', '.join(error.known_keys)})")
        case "missing":
            return f"{key!r} is missing: set it"
        case "union_tag_not_found":
            return f"{key}: the key {detail['ctx']['discriminator']} is missing: set it"
        case "union_tag_invalid":
            name = detail["ctx"]["discriminator"].strip("'")
            return f"{key}.{name} must be one of {detail['ctx']['expected_tags']}, got {detail['ctx']['tag']!r}"
    messages = list(dict.fromkeys(_message(each.detail) for each in errors))
    joined = " or ".join([messages[0], *(message.removeprefix("Input should be ") for message in messages[1:])])
    received = "" if detail["type"] == "value_error" else f", got {_shown(detail['input'])}"
    return f"{key.rstrip('.')}: {joined}{received}".removeprefix(": ")


def _message(detail: Any) -> str:
    """Returns pydantic's message, in the words of YAML."""
    if detail["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "Input should be a mapping of keys to values"
    if detail["type"] == "tuple_type":
        return "Input should be a list"
    return str(detail["msg"]).removeprefix("Value error, ")


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
