"""Kinds of columns, by their Arrow type."""

from typing import Literal

import pyarrow as pa

Kind = Literal["number", "boolean", "text", "time", "list", "null", "other"]


SINGLE_KINDS: tuple[Kind, ...] = ("number", "boolean", "text", "time")


def kind_of(dtype: pa.DataType) -> Kind:
    """Returns the kind of a column of an Arrow type."""
    types = pa.types
    if types.is_dictionary(dtype):
        return kind_of(dtype.value_type)
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return "number"
    if types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype):
        return "text"
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        return "list" if kind_of(dtype.value_type) in (*SINGLE_KINDS, "null") else "other"
    if types.is_null(dtype):
        return "null"  # the type that writers give to a column without values
    return "time" if types.is_temporal(dtype) and not types.is_duration(dtype) else "other"
