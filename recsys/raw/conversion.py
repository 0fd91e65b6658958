"""Gives the columns of a block the types that every kernel supports, and text without types the type of its role."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.raw.blocks import Block
from recsys.raw.column_types import ColumnType, effective_kind, reads_as_number
from recsys.raw.ids_and_labels import label_cure
from recsys.raw.numbers import numbers_of_text
from recsys.raw.order.moments import read_moments
from recsys.raw.tokens import as_array
from recsys.raw.values import canonical_text
from recsys.schema.kinds import Kind, ValueForm, kind_of, value_type
from recsys.schema.resolved import Schema

_NULLS = pa.array(["", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>"])
"""What writers of CSV files put in place of a missing number."""
_CURE = "correct it, or change the column's role in the schema"
_CELLS = ValueForm(text_as="whole numbers")
_WORDS = ("true", "false")
"""What a column of numbers may contain in place of 1 and 0, as writers of CSV files write booleans."""
_TIME = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?:\d\d")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def convert(block: Block, schema: Schema, references: Mapping[str, ColumnType], untyped: Collection[str]) -> pa.Table:
    """Returns the rows of a block with converted columns.

    Args:
        block: the rows.
        schema: the roles.
        references: by column, its type in the first file that gives it one.
        untyped: columns to which some file gives no type.

    Raises:
        InputError: for text that is not of the kind of its column.
    """
    table = block.table
    for index, column in enumerate(table.column_names):
        dtype = table.schema.field(index).type
        if pa.types.is_null(dtype):
            converted = pa.nulls(table.num_rows, _null_type(references.get(column), schema, column))
        elif pa.types.is_string_view(value_type(dtype)) and not pa.types.is_string_view(dtype):
            text = pa.large_string()
            converted = table[column].cast(pa.large_list(text) if kind_of(dtype) == "list" else text)
        elif kind_of(dtype) == "text" and column in references:
            is_untyped = column in untyped
            kind = effective_kind(schema, column, dtype, is_untyped, references[column])
            is_category = is_untyped and not reads_as_number(schema, column)
            if kind == "text" or (kind == "number" and is_category):  # a category's text meets numbers as it is
                converted = table[column].cast(pa.large_string()) if pa.types.is_string_view(dtype) else None
            else:
                cure = label_cure(column) if column == schema.label else _CURE
                converted = _READERS[kind](as_array(table[column]), block, column, cure)
        else:
            continue
        if converted is not None:
            table = table.set_column(index, column, converted)
    return table


def read_cells(table: pa.Table, columns: Iterable[str]) -> pa.Table:
    """Returns a table of a file without types, where cells `5.0` are `5`, and cells `NaN` are null."""
    for column in columns:
        cells = as_array(table[column])
        try:
            cells.validate(full=True)
        except pa.ArrowInvalid:
            continue  # not UTF-8: see `check_utf8`
        cells = canonical_text(cells, form=_CELLS)
        is_nan = pc.equal(cells, "NaN")
        table = table.set_column(table.column_names.index(column), column, pc.if_else(is_nan, None, cells))
    return table


def _null_type(reference: ColumnType | None, schema: Schema, column: str) -> pa.DataType:
    if reference is not None and not pa.types.is_null(reference.dtype):
        is_view = pa.types.is_string_view(value_type(reference.dtype))
        return reference.dtype if not is_view or kind_of(reference.dtype) == "list" else pa.large_string()
    if any(vector.name == column for vector in schema.vectors):
        return pa.list_(pa.float32())
    for sequence in schema.token_sequences:
        if sequence.column == column and sequence.name not in schema.logs:
            return pa.list_(pa.string()) if sequence.delimiter is None else pa.string()
    return pa.float64()


def _numbers(text: pa.Array, block: Block, column: str, cure: str) -> pa.Array:
    if pa.types.is_dictionary(text.type):
        text = text.cast(text.type.value_type)
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, value_set=_NULLS.cast(text.type)), None, text)
    try:
        return numbers_of_text(text)
    except pa.ArrowInvalid:
        lower = pc.utf8_lower(text)
        if pc.all(pc.is_in(lower, value_set=pa.array([*_WORDS, None], lower.type))).as_py():
            return pc.equal(lower, _WORDS[0]).cast(pa.int64())
        return _refuse(text, pa.float64(), block, column, "number", cure)


def _booleans(text: pa.Array, block: Block, column: str, cure: str) -> pa.Array:
    if pa.types.is_dictionary(text.type):
        text = text.cast(text.type.value_type)
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(text))
    words = pa.array(list(_BOOLEANS), lower.type)
    indices = pc.index_in(lower, value_set=words)
    unknown = np.flatnonzero(np.asarray(pc.and_(pc.is_valid(lower), pc.is_null(indices))))
    if len(unknown):
        path, row = block.place(int(unknown[0]))
        value = text[int(unknown[0])].as_py()
        raise InputError(f"{path}: column {column!r} contains {value!r} in row {row}, which is not a boolean: {cure}")
    return pa.array(list(_BOOLEANS.values())).take(indices)


def _times(text: pa.Array, block: Block, column: str, cure: str) -> pa.Array:
    return read_moments(text, Path(block.span), f"column {column!r}").values


def _times_of_day(text: pa.Array, block: Block, column: str, cure: str) -> pa.Array:
    times = pc.binary_join_element_wise("1970-01-01", pc.utf8_trim_whitespace(text), " ")
    try:
        return times.cast(pa.timestamp("us")).cast(pa.time64("us"))
    except pa.ArrowInvalid:
        return _refuse(times, pa.timestamp("us"), block, column, "time of day", cure)


def _refuse(text: pa.Array, dtype: pa.DataType, block: Block, column: str, kind: str, cure: str) -> pa.Array:
    """Raises InputError for the first text that cannot be cast."""
    for row in range(len(text)):
        try:
            text.slice(row, 1).cast(dtype)
        except pa.ArrowInvalid as error:
            (path, row_in_file), value = block.place(row), text[row].as_py()
            if _DECIMAL_COMMA.fullmatch(value):
                cure = "write decimals with a point"
            elif kind == "number" and _TIME.match(value):
                cure = "a time can be schema.day; for a feature, write its hour or weekday as a column of its own"
            raise InputError(
                f"{path}: column {column!r} contains {value!r} in row {row_in_file}, which is not a {kind}: {cure}"
            ) from error
    raise AssertionError("every value can be read, but not all together")


_READERS: dict[Kind, Callable[[pa.Array, Block, str, str], pa.Array]] = {
    "number": _numbers,
    "boolean": _booleans,
    "time": _times,
    "zoned time": _times,
    "time of day": _times_of_day,
}
