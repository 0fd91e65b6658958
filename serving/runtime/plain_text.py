"""The canonical text of common values without Arrow, whose functions cost more than the work on a single value.

A rule here gives what `recsys.raw.values.canonical_text` gives, or nothing: then that function is asked. Values with a
rule are whole numbers, booleans, and printable ASCII text that needs no change.
"""

from typing import Any

import pyarrow as pa

from recsys.schema.kinds import ValueForm

_EXACT, _INT64 = 2.0**53, 2**63
_NUMBER_STARTS = frozenset("+-.0123456789")


def is_plain(text: str) -> bool:
    """Whether a text is its own canonical text: printable ASCII without white space at its ends."""
    return text.isascii() and text.isprintable() and text[:1] != " " and text[-1:] != " "


def plain_text(value: Any, dtype: pa.DataType | None, form: ValueForm) -> str | None:
    """The canonical text of a value that is not null; None without a rule.

    Args:
        value: a Python value.
        dtype: the Arrow type of its column.
        form: the form of the column's values in the training data.
    """
    if isinstance(value, str):
        return _of_text(value, form)
    if isinstance(value, bool):
        return ("true" if value else "false") if form.kind in (None, "boolean") else None
    if form.kind not in (None, "number") or dtype is None:
        return None
    if pa.types.is_integer(dtype):
        return str(value) if isinstance(value, int) and -_INT64 <= value < _INT64 else None
    if pa.types.is_float64(dtype) and abs(value) < _EXACT and value == int(value):
        return str(int(value))
    return None


def _of_text(text: str, form: ValueForm) -> str | None:
    if not is_plain(text) or form.kind not in (None, "text", "number"):
        return None
    if form.kind != "number" and form.text_as == "text":
        return text
    if text.isdigit():
        return text if text[0] != "0" or text == "0" else None
    # text with another first character is no number and stays as it is
    return text if text and text[0] not in _NUMBER_STARTS else None


def joined(parts: list[str | None]) -> str | None:
    """The text of a combination of values, as `recsys.raw.derive.cross` writes it; None if all are null."""
    if all(part is None for part in parts):
        return None
    return "&".join("" if part is None else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("&", "\\&") if text else "\\0"
