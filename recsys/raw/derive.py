"""Derived columns: crosses, formulas, first and last tokens of lists, and conditions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.raw.numbers import narrowed
from recsys.raw.order.moments import read_moments
from recsys.raw.tokens import as_array, encode_values, null_for_nan, parse_list
from recsys.raw.values import canonical_text
from recsys.schema.config import Condition
from recsys.schema.kinds import AS_WRITTEN, SINGLE_KINDS, Kind, ValueForm, kind_of
from recsys.schema.resolved import Schema

_SEPARATOR = "&"


def meets_condition(condition: Condition, column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Returns [n] bool: whether each value meets a condition; null never does.

    Raises:
        InputError: if a condition with min or max is applied to a column that does not contain numbers, or one with
            values to a column of lists.
    """
    if condition.values is not None:
        name, kind = f"column {condition.column!r}", kind_of(column.type)
        if kind not in (*SINGLE_KINDS, "null"):
            raise InputError(f"{name} is {column.type}, which a condition cannot read: write numbers, text or times")
        form = ValueForm(text_as="numbers" if kind == "number" else "whole numbers")
        codes = encode_values(column, name, form)
        expected = canonical_text(_expected_values(condition.values, kind, name), form=form)
        return np.append(np.asarray(pc.is_in(codes.values, value_set=expected)), False)[codes.codes]
    try:
        numbers = pc.cast(null_for_nan(as_array(column)), pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"column {condition.column!r} is {column.type}, which has no min and max: use values instead"
        ) from error
    low = -np.inf if condition.min is None else condition.min
    high = np.inf if condition.max is None else condition.max
    return (numbers >= low) & (numbers <= high)


def _expected_values(values: Sequence[str], kind: Kind, name: str) -> pa.Array:
    """Reads the values of a condition as values of the column's kind."""
    text = pa.array(values, pa.string())
    if kind in ("time", "zoned time"):
        moments = read_moments(text, Path("a condition"), f"the values for {name}")
        if moments.kind != kind:
            raise InputError(
                f"a condition on {name}, which is a {kind}, has values of kind {moments.kind}: correct them"
            )
        return moments.values
    lower = pc.utf8_lower(text)
    if kind == "boolean" and not pc.all(pc.is_in(lower, value_set=pa.array(["true", "false"]))).as_py():
        raise InputError(
            f"a condition on {name}, which is boolean, has the values {', '.join(values)}: use true or false"
        )
    return lower if kind == "boolean" else text


def cross(columns: Sequence[pa.ChunkedArray], forms: Sequence[ValueForm] = (), names: Sequence[str] = ()) -> pa.Array:
    """Returns [n] text of each combination of values, `"7&red"`; `"7&"` if some values are null, null if all are.

    A backslash escapes an ampersand or a backslash in a value, and an empty value is `"\\0"`.

    Args:
        columns: the columns.
        forms: the form of each column's values; as written if empty.
        names: the columns, for messages.
    """
    texts = []
    for index, column in enumerate(columns):
        name = f"column {names[index]!r}" if names else "a column"
        codes = encode_values(column, name, forms[index] if forms else AS_WRITTEN)
        values = pc.replace_substring_regex(codes.values, r"([&\\])", r"\\\1")
        values = pc.if_else(pc.equal(values, ""), r"\0", values)
        texts.append(values.take(pa.array(codes.codes, mask=codes.codes < 0)))
    joined = pc.binary_join_element_wise(*[pc.fill_null(text, "") for text in texts], _SEPARATOR)
    is_null = np.logical_and.reduce([np.asarray(pc.is_null(text)) for text in texts])
    return pc.if_else(pa.array(is_null), None, joined)


def end_of_list(column: pa.ChunkedArray, end: Literal["first", "last"]) -> pa.Array:
    """Returns the [n] first or last tokens of lists; null for a list without tokens."""
    jagged = parse_list(column, 1, end)
    position = np.where(np.diff(jagged.offsets) > 0, jagged.offsets[:-1], -1)
    return jagged.tokens.take(pa.array(position, mask=position < 0))


def derive(name: str, table: pa.Table, schema: Schema) -> pa.Array:
    """Computes one of `schema.crosses` from a table with its source columns."""
    columns = schema.crosses[name]
    return cross([table[column] for column in columns], [schema.form_of(column) for column in columns], columns)


def derive_number(name: str, values: Mapping[str, np.ndarray], schema: Schema) -> np.ndarray:
    """Computes one of `schema.formulas`, [n] float32, NaN for null.

    Args:
        name: its column.
        values: [n] float32 numbers minus their offsets, by column, as they are stored and as a server reads them.
        schema: the roles.
    """
    formula = schema.formulas[name]
    sources = [values[column].astype(np.float64) + schema.offsets.get(column, 0.0) for column in formula.columns]
    return narrowed(formula(*sources))
