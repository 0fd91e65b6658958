"""The JSON Schema of a config file, with which editors complete keys and check values."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gatectr.reference.docstrings import field_docstrings
from gatectr.reference.settings import models_in
from pipelines.common.config import sections
from recsys.defaults import AUTO


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a config of a data set, its models and retrieval."""
    by_section = sections()
    kinds = list(dict.fromkeys(kind for models in by_section.values() for kind in models))
    references, schema = models_json_schema([(kind, "validation") for kind in kinds])
    definitions: dict[str, Any] = schema["$defs"]
    for kind in _with_inner(kinds):
        if kind.__name__ in definitions:
            _describe(definitions[kind.__name__], kind)

    def any_of(name: str) -> dict[str, Any]:
        members = [references[(kind, "validation")] for kind in by_section[name]]
        return members[0] if len(members) == 1 else {"anyOf": members}

    properties = {name: any_of(name) if models else {"type": "string"} for name, models in by_section.items()}
    of_model = {name: any_of(name) for name in ("model", "trainer", "features")} | {"class": {"type": "string"}}
    one = {"type": "object", "properties": of_model, "additionalProperties": False}
    properties["models"] = {"type": "object", "additionalProperties": one}
    base = {"type": "string", "description": "A config whose keys this one overrides."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config of GateCTR",
        "type": "object",
        "properties": properties | {"base": base},
        "additionalProperties": False,
        "$defs": definitions,
    }


def _with_inner(kinds: list[type[BaseModel]]) -> list[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {}
    todo = list(kinds)
    while todo:
        kind = todo.pop()
        if kind not in found:
            found[kind] = None
            todo += [inner for field in kind.model_fields.values() for inner in models_in(field.annotation)]
    return list(found)


def _describe(definition: dict[str, Any], kind: type[BaseModel]) -> None:
    """Adds the meanings of fields, the value `auto`, and earlier names to the definition of a model."""
    meanings = field_docstrings(kind)
    for name, field in kind.model_fields.items():
        key = field.alias or name
        values = definition["properties"][key]
        if field.default == AUTO and AUTO not in str(values | {"default": None}):
            values = {"anyOf": [values, {"const": AUTO}], "default": AUTO}
        if name in meanings:
            values = values | {"description": meanings[name]}
        definition["properties"][key] = values
    for old, new in getattr(kind, "renamed_keys", {}).items():
        if new in definition["properties"]:
            definition["properties"][old] = definition["properties"][new] | {"deprecated": True}
