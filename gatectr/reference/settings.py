"""The settings of a config: each key with its type, its default and its meaning, from the models that validate it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from gatectr.reference.docstrings import field_docstrings
from gatectr.reference.terms import OF_CLASS, TERMS
from gatectr.reference.types import type_text
from recsys.defaults import AUTO


@dataclass(frozen=True)
class Setting:
    """A key of a config."""

    key: str
    """Dotted; NAME stands for a name that the user chooses."""
    type: str
    default: str
    """As YAML; empty for a key that must be set, and for a section of further keys."""
    meaning: str
    owner: str
    """The class that has the key."""


def settings_of(model: type[BaseModel], prefix: str) -> list[Setting]:
    """The settings of a model and of the models inside of it.

    Args:
        model: the model.
        prefix: the dotted key of the model, without a final dot; may be empty.
    """
    meanings = field_docstrings(model)
    found = []
    for name, field in model.model_fields.items():
        key = ".".join(part for part in (prefix, field.alias or name) if part)
        kind = type_text(_schema_of(field))
        default = default_text(field)
        if default == AUTO and AUTO not in kind.split():
            kind = f"{kind} or {AUTO}"
        meaning = meanings.get(name) or _meaning(model, name, field)
        found.append(Setting(key, kind, default, meaning, model.__name__))
        for inner in models_in(field.annotation):
            found += settings_of(inner, f"{key}.NAME" if _is_mapping(field.annotation) else key)
    return found


def _meaning(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """The meaning of a field without a docstring: of its key, or of the class that it chooses or holds."""
    if term := OF_CLASS.get(f"{model.__name__}.{name}") or TERMS.get(name):
        return term
    described = model if get_origin(field.annotation) is Literal else next(iter(models_in(field.annotation)), None)
    return "" if described is None else " ".join((described.__doc__ or "").split("\n\n")[0].split())


def _schema_of(field: FieldInfo) -> dict[str, Any]:
    """The JSON Schema of a field's values, with the definitions that it refers to."""
    annotation: Any = field.annotation
    for metadata in field.metadata:
        annotation = Annotated[annotation, metadata]
    return TypeAdapter(annotation).json_schema()


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation, such as the members of a union or the values of a mapping, each once."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(model for argument in get_args(annotation) for model in models_in(argument)))


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(_is_mapping(argument) for argument in get_args(annotation))


def default_text(field: FieldInfo) -> str:
    """The default of a field as YAML."""
    if field.is_required() or field.default_factory is not None or isinstance(field.default, BaseModel):
        return ""
    default = field.default
    if isinstance(default, (list, tuple)) and any(isinstance(value, BaseModel) for value in default):
        return ""
    return default if isinstance(default, str) else json.dumps(default, default=str)


def distinct(settings: Iterable[Setting]) -> list[Setting]:
    """Settings without repetitions: members of a union may share a key with the same meaning."""
    return list({(s.key, s.type, s.default, s.meaning): s for s in settings}.values())
