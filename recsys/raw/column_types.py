"""The kind of each column over all files: the role of a column decides which kinds it may have, and all files agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys.errors import InputError
from recsys.patterns import nearest
from recsys.raw.files.raw_file import RawFile
from recsys.schema.config import LogSequence
from recsys.schema.kinds import SINGLE_KINDS, Kind, kind_of, value_type
from recsys.schema.resolved import Schema

ORDER_KINDS: tuple[Kind, ...] = ("number", "text", "time", "zoned time")


@dataclass(frozen=True)
class Role:
    """A use of a column, and the kinds that it accepts."""

    column: str
    name: str
    kinds: tuple[Kind, ...]
    values: tuple[Kind, ...] | None = None
    """The kinds of the values of its lists; None for all."""


@dataclass(frozen=True)
class ColumnType:
    """The type of a column in the first file that gives it one."""

    dtype: pa.DataType
    path: Path | None
    """None for the training files of prepared data."""
    is_untyped: bool = False
    """Whether the files give the column no type: CSV files and partition columns."""


def feature_roles(schema: Schema) -> list[Role]:
    """Returns the roles of the columns that features are computed from, which every file has."""
    roles: list[Role] = []
    for log in schema.logs.values():
        roles += _log_roles(log)
    crossed = [column for columns in schema.crosses.values() for column in columns if column not in schema.logs]
    single = [name for name in schema.categorical if name not in schema.derived_categorical]
    roles += [Role(column, "categorical", SINGLE_KINDS) for column in (*single, *crossed)]
    roles += [Role(column, "numeric", ("number", "boolean")) for column in schema.numbers]
    for sequence in schema.token_sequences:
        if sequence.name not in schema.logs:
            kind: Kind = "list" if sequence.delimiter is None else "text"
            roles.append(
                Role(sequence.column, "a list sequence" if kind == "list" else "a delimited sequence", (kind,))
            )
    roles += [Role(vector.name, "a vector", ("list",), ("number", "null")) for vector in schema.vectors]
    keys = dict.fromkeys(key for side in schema.side_tables.values() for key in side.keys)
    roles += [Role(key, "the key of a side table", SINGLE_KINDS) for key in keys]
    return roles


def training_roles(schema: Schema) -> list[Role]:
    """Returns the roles of columns that only training files need, except the label and the id."""
    roles = []
    if schema.day is not None:
        roles.append(Role(schema.day, "the day", ORDER_KINDS))
    if schema.user is not None:
        roles.append(Role(schema.user, "the user", SINGLE_KINDS))
    if schema.split is not None:
        is_time = schema.time_split is not None
        roles.append(Role(schema.split, "the split", ORDER_KINDS if is_time else SINGLE_KINDS))
    if schema.last_out is not None:
        roles.append(Role(schema.last_out.key, "the key of the split", SINGLE_KINDS))
        roles.append(Role(schema.last_out.order, "the order of the split", ORDER_KINDS))
    if schema.encodings_past is not None:
        roles.append(Role(schema.encodings_past.order, "the order of earlier rows", ORDER_KINDS))
    if schema.weight is not None:
        roles.append(Role(schema.weight.column, "the weight", ("number",)))
    return roles


def _log_roles(log: LogSequence) -> list[Role]:
    return [
        Role(log.key, "the key of a log sequence", SINGLE_KINDS),
        Role(log.item, "the item of a log sequence", SINGLE_KINDS),
        Role(log.order, "the order of a log sequence", ORDER_KINDS),
    ]


def reads_as_number(schema: Schema, column: str) -> bool:
    """Whether the role of a column makes its text numbers where a file gives no types, or the schema says so."""
    conditions = [schema.label_condition, *(log.where for log in schema.logs.values())]
    is_range = any(c is not None and c.column == column and c.values is None for c in conditions)
    is_label = column == schema.label and schema.label_condition is None
    is_weight = schema.weight is not None and column == schema.weight.column
    return is_range or is_label or is_weight or column in schema.numbers_as_text or column in schema.numbers


def effective_kind(schema: Schema, column: str, dtype: pa.DataType, is_untyped: bool, reference: ColumnType) -> Kind:
    """Returns the kind that a column of a file has when it is read.

    Args:
        schema: the roles.
        column: the column.
        dtype: its type in the file.
        is_untyped: whether the file gives it no type.
        reference: its type in the first file that gives it one.
    """
    kind = kind_of(dtype)
    if kind != "text":
        return kind
    if column in schema.numbers_as_text or (is_untyped and reads_as_number(schema, column)):
        return "number"
    is_known = is_untyped and not reference.is_untyped and kind_of(reference.dtype) in SINGLE_KINDS
    return kind_of(reference.dtype) if is_known else kind


def check_kinds(
    schema: Schema,
    roles: Sequence[Role],
    types: Mapping[str, pa.DataType],
    untyped: frozenset[str],
    references: Mapping[str, ColumnType],
    path: Path,
) -> None:
    """Checks that the columns of a file have kinds that their roles accept, the same as in other files.

    Args:
        schema: the roles of all columns.
        roles: the roles to check.
        types: types of the file's columns and of those of its side tables.
        untyped: columns to which the file gives no type.
        references: by column, its type in the first file that gives it one.
        path: the file.

    Raises:
        InputError: for the first column of another kind.
    """
    for role in roles:
        dtype, reference = types[role.column], references[role.column]
        kind = effective_kind(schema, role.column, dtype, role.column in untyped, reference)
        if kind == "null":
            continue
        if kind not in role.kinds:
            raise InputError(
                f"{path}: column {role.column!r} is {dtype}, which cannot be {role.name} (expected "
                f"{' or '.join(role.kinds)}): change its role in the schema or its type in the file"
            )
        if role.values is not None and kind_of(value_type(dtype)) not in role.values:
            raise InputError(
                f"{path}: column {role.column!r} is {dtype}, which cannot be {role.name} (expected a list of "
                f"{role.values[0]}s): write numbers, or change its role in the schema"
            )
        is_untyped = role.column in untyped or reference.is_untyped
        expected = effective_kind(schema, role.column, reference.dtype, reference.is_untyped, reference)
        if kind == expected == "list":
            kind, expected = kind_of(value_type(dtype)), kind_of(value_type(reference.dtype))
            if "null" in (kind, expected):
                continue
        is_order_text = role.kinds == ORDER_KINDS and "text" in (kind, expected)  # dates, compared as dates
        if kind != expected and not (is_untyped and {kind, expected} == {"number", "text"}) and not is_order_text:
            if reference.path is None:
                known = f"has kind {expected} in the training data"
            else:
                known = f"is {reference.dtype} in {reference.path}"
            raise InputError(
                f"{path}: column {role.column!r} is {dtype}, but {known}, and their values cannot be equal: write it "
                "with the same type"
            )


def check_id(dtype: pa.DataType, column: str, path: Path) -> None:
    """Checks the type of an id column.

    Raises:
        InputError: for a type whose values cannot identify rows.
    """
    if kind_of(dtype) not in ("number", "text", "time", "zoned time", "null"):
        raise InputError(
            f"{path}: id column {column!r} is {dtype}, which cannot identify rows (expected integers or text): "
            "write it with another type, or remove schema.id"
        )


def check_names(names: Sequence[str], needed: Sequence[str], path: Path) -> None:
    """Checks that a file has each needed column exactly once.

    Raises:
        InputError: for the first missing or repeated column.
    """
    for column in needed:
        if column not in names:
            raise InputError(
                f"{path} has no column {column!r}{nearest(column, names)}: all files must have it, "
                "or remove it from the schema"
            )
        if names.count(column) > 1:
            raise InputError(f"{path} has {names.count(column)} columns named {column!r}: names must be unique")


def reference_types(files: Sequence[RawFile]) -> dict[str, ColumnType]:
    """Returns the type of each column in the first file that gives it one."""
    references: dict[str, ColumnType] = {}
    for file in files:
        for name, dtype in file.types.items():
            known = references.get(name)
            is_untyped = name in file.untyped
            is_better = known is not None and (
                kind_of(known.dtype) == "null" or (known.is_untyped and not is_untyped and kind_of(dtype) != "null")
            )
            if known is None or is_better:
                references[name] = ColumnType(dtype, file.path, is_untyped)
    return references
