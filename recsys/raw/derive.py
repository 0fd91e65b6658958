"""Derived columns: crosses, first and last tokens of lists, and conditions."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.raw.tokens import as_array, encode_values, parse_list
from recsys.schema.config import Condition
from recsys.schema.resolved import Schema

_SEPARATOR = "&"


def meets_condition(condition: Condition, column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Returns [n] bool: whether each value meets a condition; null never does.

    Raises:
        pa.ArrowInvalid: if a condition with min or max is applied to a column that is not numeric.
    """
    if condition.values is not None:
        codes = encode_values(column)
        is_match = np.asarray(pc.is_in(codes.values, value_set=pa.array(condition.values, pa.string())))
        return np.append(is_match, False)[codes.codes]
    numbers = pc.cast(as_array(column), pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    low = -np.inf if condition.min is None else condition.min
    high = np.inf if condition.max is None else condition.max
    return (numbers >= low) & (numbers <= high)


def cross(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """Returns [n] text of each combination of values, `"7&red"`; `"7&"` if some values are null, null if all are.

    A backslash escapes an ampersand or a backslash in a value, and an empty value is `"\\0"`.
    """
    texts = []
    for column in columns:
        codes = encode_values(column)
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
    return cross([table[column] for column in schema.crosses[name]])
