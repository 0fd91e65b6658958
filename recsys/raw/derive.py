"""Columns that no file has: crosses, the ends of lists, and what a condition makes of a column."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.raw.tokens import as_array, encode_values, parse_list
from recsys.schema.config import Condition
from recsys.schema.resolved import Schema

_BETWEEN = "&"


def holds(condition: Condition, column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """[n] bool: whether each value meets a condition; null never does.

    Raises:
        pa.ArrowInvalid: when min or max is asked of a column that holds no numbers.
    """
    if condition.values is not None:
        codes = encode_values(column)
        wanted = np.asarray(pc.is_in(codes.values, value_set=pa.array(condition.values, pa.string())))
        return np.append(wanted, False)[codes.codes]
    numbers = pc.cast(as_array(column), pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    low = -np.inf if condition.min is None else condition.min
    high = np.inf if condition.max is None else condition.max
    return (numbers >= low) & (numbers <= high)


def cross(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """[n] text that names each combination of values, `"7&red"`; null where all of them are, `"7&"` where some.

    A backslash stands before an ampersand or a backslash of the values' own, and an empty value is `"\\0"`.
    """
    parts = []
    for column in columns:
        codes = encode_values(column)
        values = pc.replace_substring_regex(codes.values, r"([&\\])", r"\\\1")
        values = pc.if_else(pc.equal(values, ""), r"\0", values)
        parts.append(values.take(pa.array(codes.codes, mask=codes.codes < 0)))
    joined = pc.binary_join_element_wise(*[pc.fill_null(part, "") for part in parts], _BETWEEN)
    is_empty = np.logical_and.reduce([np.asarray(pc.is_null(part)) for part in parts])
    return pc.if_else(pa.array(is_empty), None, joined)


def end_of_list(column: pa.ChunkedArray, which: Literal["first", "last"]) -> pa.Array:
    """[n] the first or last token of each list; null where it has none."""
    jagged = parse_list(column, 1, which)
    place = np.where(np.diff(jagged.offsets) > 0, jagged.offsets[:-1], -1)
    return jagged.tokens.take(pa.array(place, mask=place < 0))


def derive(name: str, table: pa.Table, schema: Schema) -> pa.Array:
    """One of `schema.crosses`, from a table that holds the columns it is made of."""
    return cross([table[column] for column in schema.crosses[name]])
