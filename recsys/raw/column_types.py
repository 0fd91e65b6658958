"""What a column's Arrow type can serve as, and whether files hold what the schema asks of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.schema.kinds import SINGLE_KINDS, Kind, kind_of
from recsys.schema.resolved import Schema

_DECODED: dict[Kind, pa.DataType] = {"text": pa.string(), "list": pa.list_(pa.string())}


def roles_of(schema: Schema) -> dict[str, tuple[str, tuple[Kind, ...]]]:
    """By column that files or side tables bring: the role it plays, and the kinds that the role takes."""
    found: dict[str, tuple[str, tuple[Kind, ...]]] = {}
    crossed = [column for columns in schema.crosses.values() for column in columns]
    single = [name for name in schema.categorical if name not in schema.derived_categorical]
    for log in schema.logs.values():
        found |= dict.fromkeys((log.key, log.item, log.order), ("in a log", SINGLE_KINDS))
    found |= dict.fromkeys([*single, *crossed], ("categorical", SINGLE_KINDS))
    for column in schema.measured:
        if column not in schema.derived_numeric:
            found[column] = ("numeric", ("number", "boolean"))
    for sequence in schema.token_sequences:
        if sequence.name in schema.logs:
            continue
        is_list = sequence.delimiter is None
        found[sequence.column] = ("a list sequence", ("list",)) if is_list else ("a delimited sequence", ("text",))
    return found


def check_types(schema: Schema, types: Mapping[str, pa.DataType], path: Path, has_label: bool) -> None:
    """Whether every column is of a kind that its role takes.

    Args:
        schema: the roles.
        types: of the columns of a file and of its side tables.
        path: the file.
        has_label: whether its rows are to have labels, days and splits.

    Raises:
        InputError: for the first column that is not.
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
                f"{path}: column {column!r} is {types[column]}, which cannot be {role} (that takes "
                f"{' or '.join(expected)}): change its role in the schema or its type in the file"
            )
    if schema.id is not None and schema.id in types:
        dtype = types[schema.id]
        if kind_of(dtype) not in ("text", "time", "null") and not pa.types.is_integer(dtype):
            raise InputError(
                f"{path}: id column {schema.id!r} is {dtype}, which cannot name rows (integers and text can): write it "
                "with another type, or leave schema.id out"
            )


def check_same_kinds(trained: Mapping[str, Kind], types: Mapping[str, pa.DataType], path: Path) -> None:
    """Whether a file's columns are of the kinds that the training files have.

    Raises:
        InputError: for the first column that is not.
    """
    for column, kind in trained.items():
        if column in types and "null" not in (kind, kind_of(types[column])) and kind_of(types[column]) != kind:
            raise InputError(
                f"{path}: column {column!r} is {types[column]} but the training data's is of kind {kind}: "
                "write it with the same type"
            )


def check_names(names: Sequence[str], needed: Sequence[str], path: Path) -> None:
    """Whether a file has each needed column once.

    Raises:
        InputError: for the first that it has not.
    """
    for column in needed:
        if column not in names:
            raise InputError(f"{path} has no column {column!r}{nearest(column, names)}: all files must have it")
        if names.count(column) > 1:
            raise InputError(f"{path} has {names.count(column)} columns named {column!r}: names must be unique")


def settle_types(table: pa.Table, roles: Mapping[str, tuple[str, tuple[Kind, ...]]]) -> pa.Table:
    """The table with types that every kernel knows: no string views, and nulls of a type that their column's role takes
    where a file lacks even a type.
    """
    for index, column in enumerate(table.column_names):
        dtype = table.schema.field(index).type
        if pa.types.is_string_view(dtype):
            table = table.set_column(index, column, table[column].cast(pa.large_string()))
        elif pa.types.is_null(dtype):
            _, expected = roles.get(column, ("", ("text",)))
            wanted = next((_DECODED[kind] for kind in expected if kind in _DECODED), pa.float64())
            table = table.set_column(index, column, pa.nulls(table.num_rows, wanted))
    return table
