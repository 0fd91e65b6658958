"""Checks that the columns of raw files match the roles of the schema, by name and Arrow type."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.schema.kinds import SINGLE_KINDS, Kind, kind_of
from recsys.schema.resolved import Schema

_DECODED: dict[Kind, pa.DataType] = {"text": pa.string(), "list": pa.list_(pa.string())}


def roles_of(schema: Schema) -> dict[str, tuple[str, tuple[Kind, ...]]]:
    """Returns the role of each column of files and side tables, and the kinds that the role accepts."""
    roles: dict[str, tuple[str, tuple[Kind, ...]]] = {}
    crossed = [column for columns in schema.crosses.values() for column in columns]
    single = [name for name in schema.categorical if name not in schema.derived_categorical]
    for log in schema.logs.values():
        roles |= dict.fromkeys((log.key, log.item, log.order), ("part of a log sequence", SINGLE_KINDS))
    roles |= dict.fromkeys([*single, *crossed], ("categorical", SINGLE_KINDS))
    for column in schema.measured:
        if column not in schema.derived_numeric:
            roles[column] = ("numeric", ("number", "boolean"))
    for sequence in schema.token_sequences:
        if sequence.name in schema.logs:
            continue
        is_list = sequence.delimiter is None
        roles[sequence.column] = ("a list sequence", ("list",)) if is_list else ("a delimited sequence", ("text",))
    return roles


def check_types(schema: Schema, types: Mapping[str, pa.DataType], path: Path, has_label: bool) -> None:
    """Checks that every column has a kind that its role accepts.

    Args:
        schema: defines the roles.
        types: types of the columns of a file and of its side tables.
        path: the file.
        has_label: whether the rows must have labels, days and splits.

    Raises:
        InputError: for the first column of another kind.
    """
    roles = roles_of(schema)
    if has_label:
        for column, role in ((schema.day, "the day"), (schema.split, "the split")):
            if column is not None:
                roles.setdefault(column, (role, (*SINGLE_KINDS, "null")))
    for column, (role, expected) in roles.items():
        kind = kind_of(types[column])
        if kind != "null" and kind not in expected:
            raise InputError(
                f"{path}: column {column!r} is {types[column]}, which cannot be {role} (expected "
                f"{' or '.join(expected)}): change its role in the schema or its type in the file"
            )
    if schema.id is not None and schema.id in types:
        dtype = types[schema.id]
        if kind_of(dtype) not in ("text", "time", "null") and not pa.types.is_integer(dtype):
            raise InputError(
                f"{path}: id column {schema.id!r} is {dtype}, which cannot identify rows (expected integers or text): "
                "write it with another type, or remove schema.id"
            )


def check_same_kinds(trained: Mapping[str, Kind], types: Mapping[str, pa.DataType], path: Path) -> None:
    """Checks that a file's columns have the same kinds as in the training files.

    Raises:
        InputError: for the first column of another kind.
    """
    for column, kind in trained.items():
        if column in types and "null" not in (kind, kind_of(types[column])) and kind_of(types[column]) != kind:
            raise InputError(
                f"{path}: column {column!r} is {types[column]}, but has kind {kind} in the training data: "
                "write it with the same type"
            )


def check_names(names: Sequence[str], needed: Sequence[str], path: Path) -> None:
    """Checks that a file has each needed column exactly once.

    Raises:
        InputError: for the first missing or repeated column.
    """
    for column in needed:
        if column not in names:
            raise InputError(f"{path} has no column {column!r}{nearest(column, names)}: all files must have it")
        if names.count(column) > 1:
            raise InputError(f"{path} has {names.count(column)} columns named {column!r}: names must be unique")


def normalize_types(table: pa.Table, roles: Mapping[str, tuple[str, tuple[Kind, ...]]]) -> pa.Table:
    """Casts columns to types that every kernel supports: string views to large strings, null-typed columns to a type of
    their role.
    """
    for index, column in enumerate(table.column_names):
        dtype = table.schema.field(index).type
        if pa.types.is_string_view(dtype):
            table = table.set_column(index, column, table[column].cast(pa.large_string()))
        elif pa.types.is_null(dtype):
            _, expected = roles.get(column, ("", ("text",)))
            target_type = next((_DECODED[kind] for kind in expected if kind in _DECODED), pa.float64())
            table = table.set_column(index, column, pa.nulls(table.num_rows, target_type))
    return table
