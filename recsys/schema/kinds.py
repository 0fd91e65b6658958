"""Kinds of columns by their Arrow type, and the form in which the values of one role are compared."""

from typing import Literal

import pyarrow as pa

from recsys.config import StrictModel

Kind = Literal["number", "boolean", "text", "time", "zoned time", "time of day", "list", "null", "other"]


SINGLE_KINDS: tuple[Kind, ...] = ("number", "boolean", "text", "time", "zoned time", "time of day")


def kind_of(dtype: pa.DataType) -> Kind:
    """Returns the kind of a column of an Arrow type; a date is a time without a zone."""
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
    if types.is_timestamp(dtype):
        return "time" if dtype.tz is None else "zoned time"
    if types.is_time(dtype):
        return "time of day"
    return "time" if types.is_date(dtype) else "other"


def value_type(dtype: pa.DataType) -> pa.DataType:
    """Returns the type of the values of a column: that of the tokens of a list, and of the entries of a dictionary."""
    while kind_of(dtype) == "list" or pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    return dtype


class ValueForm(StrictModel):
    """How values of different types are compared: those of all columns that share a table, or of a join's two keys."""

    kind: Kind | None = None
    """The kind of the values; None if it is not known, as in data of earlier versions."""
    text_as: Literal["text", "whole numbers", "numbers"] = "text"
    """What text stands for. whole numbers: `5.0` is read as 5, as in a CSV file; numbers: `05`, `5e0` too, for text
    beside columns of numbers."""
    float_bits: Literal[16, 32, 64] | None = None
    """Width to which fractions are narrowed, that of the narrowest column; None keeps each value as it is."""


AS_WRITTEN = ValueForm()
"""The form of values of one type."""
