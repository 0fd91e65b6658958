"""The type of a setting in words, from its JSON Schema."""

from typing import Any

_NAMES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def type_text(schema: dict[str, Any], definitions: dict[str, Any] | None = None) -> str:
    """Words for a JSON Schema: `whole number ≥ 1`, `parallel or stacked`, `list of text`."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return type_text(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_text(member, definitions) for member in schema[union]))
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    match schema.get("type"):
        case "array":
            items = schema.get("items") or {}
            if "prefixItems" in schema:
                return f"list of {len(schema['prefixItems'])} values"
            return f"list of {type_text(items, definitions)}" if items else "list"
        case "object":
            values = schema.get("additionalProperties")
            if isinstance(values, dict) and "properties" not in schema:
                return f"names to {type_text(values, definitions)}"
            return "section"
        case str() as name:
            bounds = [f"{sign} {schema[bound]}" for bound, sign in _BOUNDS.items() if bound in schema]
            return " ".join([_NAMES.get(name, name), " and ".join(bounds)]).strip()
    return "any value"
