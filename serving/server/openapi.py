"""The OpenAPI page, with the columns and the example of the bundle that answers."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from recsys.schema.kinds import Kind
from serving.runtime.bundle import Bundle
from serving.server.formats import ARROW, JSON

_TYPES: dict[Kind, str] = {"number": "number", "boolean": "boolean"}


def describe(app: FastAPI, bundle: Callable[[], Bundle]) -> None:
    """Makes the application describe the requests of the bundle that answers when the page is read."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        app.openapi_schema = None
        page = plain()
        page["paths"]["/score"]["post"] |= {"requestBody": _request(bundle()), "responses": _answers()}
        swap = {"type": "object", "properties": {"bundle": {"type": "string"}}, "required": ["bundle"]}
        page["paths"]["/swap"]["post"]["requestBody"] = {"content": {JSON: {"schema": swap}}, "required": True}
        return page

    app.openapi = openapi  # type: ignore[method-assign]


def _request(bundle: Bundle) -> dict[str, Any]:
    columns = {name: _column(bundle.spec.kinds.get(name)) for name in bundle.columns}
    row = {"type": "object", "properties": columns}
    rows = {"oneOf": [{"type": "array", "items": row}, {"type": "object", "additionalProperties": {"type": "array"}}]}
    schema = {"type": "object", "properties": {"user": row, "candidates": rows}, "required": ["candidates"]}
    content = {JSON: {"schema": schema, "example": bundle.example()}, ARROW: {"schema": {"type": "string"}}}
    return {"content": content, "required": True, "description": "A column is in the user or in the candidates."}


def _column(kind: Kind | None) -> dict[str, Any]:
    if kind == "list":
        return {"type": ["array", "null"], "items": {}}
    return {"type": [_TYPES.get(kind, "string") if kind is not None else "string", "null"]}


def _answers() -> dict[str, Any]:
    properties = {
        "bundle": {"type": "string"},
        "scale": {"enum": ["natural", "balanced"]},
        "scores": {"type": "array", "items": {"type": "number"}},
    }
    scores = {"description": "one score for each candidate", "content": {JSON: {"schema": {"properties": properties}}}}
    return {
        "200": scores,
        "413": {"description": "too many bytes or candidates"},
        "422": {"description": "a column is missing or has a value that cannot be read"},
        "503": {"description": "too many requests wait"},
    }
