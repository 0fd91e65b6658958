"""Opens raw files: finds them, resolves the schema, and checks every file's columns before any row is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from recsys.data.config import RawFiles
from recsys.data.groups import PARTITIONS, Partition
from recsys.errors import InputError
from recsys.patterns import match_columns
from recsys.raw.column_types import (
    ColumnType,
    check_id,
    check_kinds,
    check_names,
    effective_kind,
    feature_roles,
    reference_types,
    training_roles,
)
from recsys.raw.conversion import convert
from recsys.raw.files.find import check_distinct, find_beside, find_files
from recsys.raw.files.open import open_raw
from recsys.raw.files.raw_file import RawFile
from recsys.raw.forms import columns_in_files, common_form, compared_columns, form_for_scoring
from recsys.raw.side_tables import JoinedTable, join_table, read_whole
from recsys.raw.source import Source
from recsys.schema.config import SchemaConfig, SideTable
from recsys.schema.kinds import Kind, ValueForm
from recsys.schema.resolved import Schema, resolve_schema

SideFiles = dict[str, tuple[RawFile, list[str]]]
"""By side table: its file, and the columns to read, the key first."""

_TYPE_OF_KIND: dict[Kind, pa.DataType] = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "time": pa.timestamp("us"),
    "zoned time": pa.timestamp("us", "UTC"),
    "time of day": pa.time64("us"),
    "list": pa.list_(pa.string()),
    "null": pa.null(),
}


def open_source(config: SchemaConfig, files: RawFiles, folder: Path) -> Source:
    """Finds the files, resolves the schema and checks every file's columns; of parquet files, reads only the footers.

    Raises:
        InputError: for a missing or broken file, a missing column, a column of the wrong type, or columns that share a
            table but have different kinds.
    """
    paths = {split: find_files(getattr(files, split), folder) for split in PARTITIONS}
    if not paths["train"]:
        raise InputError("files.train names no file: training files are needed")
    check_distinct(paths)
    opened = {split: [open_raw(path) for path in paths[split]] for split in PARTITIONS}
    first = opened["train"][0]
    check_names(first.names, [name for name in first.names if first.names.count(name) > 1], first.path)
    side_files = {name: _open_side_table(side, name, folder) for name, side in config.side_tables.items()}
    names = dict.fromkeys(first.names)
    for name, (_, (key, *side_columns)) in side_files.items():
        match_columns([key], names, f"schema.side_tables.{name}.key")
        for column in side_columns:
            if column in names:
                raise InputError(
                    f"schema.side_tables.{name}: the data already has a column {column!r}: remove it from columns"
                )
            names[column] = None
    schema = resolve_schema(config, names, str(first.path))
    all_files = [file for split in PARTITIONS for file in opened[split]]
    references = _references(all_files, side_files)
    for split in PARTITIONS:
        for file in opened[split]:
            _check_columns(schema, references, side_files, split, file)
        _check_optional_columns(schema, split, opened[split])
        if opened[split] and not any(file.n_rows for file in opened[split]):
            raise InputError(f"{paths[split][0]} has no rows: {split} files must have at least one row")
    schema = _with_forms(schema, all_files, side_files, references)
    side_tables = _read_side_tables(schema, side_files, references)
    return Source(schema, opened, side_tables, references, _kinds(schema, references))


def open_rows_to_score(
    config: SchemaConfig, schema: Schema, kinds: Mapping[str, Kind], paths: Sequence[str], folder: Path
) -> Source:
    """Opens files of rows to score that are not part of the prepared data set.

    Args:
        config: the schema of the prepared data set.
        schema: that schema, resolved.
        kinds: kinds of the columns in the training files.
        paths: files, folders and patterns.
        folder: base of relative paths, and folder of the side tables.

    Raises:
        InputError: as `open_source`, and for sequences that are built from the log.
    """
    if schema.logs:
        raise InputError(
            f"schema.sequences.{next(iter(schema.logs))} is built from the log of all rows: prepare the data with "
            "these files as test files and score the test files"
        )
    files = [open_raw(path) for path in find_files(paths, folder)]
    side_files = {name: _open_side_table(side, name, folder) for name, side in config.side_tables.items()}
    references = _references(files, side_files)
    for column, kind in kinds.items():
        is_untyped = schema.form_of(column).text_as == "whole numbers"
        references[column] = ColumnType(_TYPE_OF_KIND.get(kind, pa.null()), None, is_untyped)
    for file in files:
        _check_columns(schema, references, side_files, "test", file)
    _check_optional_columns(schema, "test", files)
    forms = dict(schema.value_forms)
    for name, columns in compared_columns(schema).items():
        in_files = columns_in_files(columns, files, schema, references, _file_of_side_column(side_files))
        forms[name] = form_for_scoring(schema.form_of(name), in_files, f"vocabulary {name!r}")
    schema = schema.model_copy(update={"value_forms": forms})
    schema = schema.model_copy(update={"key_forms": _key_forms(schema, files, side_files, references)})
    side_tables = _read_side_tables(schema, side_files, references)
    if not any(file.n_rows for file in files):
        raise InputError(f"{files[0].path} has no rows to score")
    return Source(schema, {"train": [], "valid": [], "test": files}, side_tables, references, dict(kinds))


def _open_side_table(side: SideTable, name: str, folder: Path) -> tuple[RawFile, list[str]]:
    path = find_beside(side.file, folder, f"schema.side_tables.{name}.file")
    file, role = open_raw(path), f"schema.side_tables.{name} ({path})"
    check_names(file.names, [column for column in file.names if file.names.count(column) > 1], path)
    return file, match_columns([side.key, *side.columns], file.names, role)


def _file_of_side_column(side_files: SideFiles) -> dict[str, RawFile]:
    return {column: file for file, (_, *columns) in side_files.values() for column in columns}


def _references(files: Sequence[RawFile], side_files: SideFiles) -> dict[str, ColumnType]:
    """Returns the types of the columns of the files of rows, and of those that side tables add."""
    references = reference_types(files)
    for column, file in _file_of_side_column(side_files).items():
        references[column] = ColumnType(file.types[column], file.path, column in file.untyped)
    for file, (key, *_) in side_files.values():
        is_untyped = key in references and references[key].is_untyped
        if is_untyped and key not in file.untyped:
            references[key] = ColumnType(file.types[key], file.path)
    return references


def _check_columns(
    schema: Schema, references: Mapping[str, ColumnType], side_files: SideFiles, split: Partition, file: RawFile
) -> None:
    file_of_side_column = _file_of_side_column(side_files)
    side_types = {column: side.types[column] for column, side in file_of_side_column.items()}
    side_untyped = {column for column, side in file_of_side_column.items() if column in side.untyped}
    roles = feature_roles(schema) + (training_roles(schema) if split == "train" else [])
    needed = [role.column for role in roles]
    if split == "train" and schema.label is not None:
        needed.append(schema.label)
    check_names(file.names, [column for column in dict.fromkeys(needed) if column not in side_types], file.path)
    types = side_types | {name: file.types[name] for name in file.names}
    check_kinds(schema, roles, types, file.untyped | side_untyped, references, file.path)
    if schema.id is not None and schema.id in file.types:
        check_id(file.types[schema.id], schema.id, file.path)


def _check_optional_columns(schema: Schema, split: Partition, files: Sequence[RawFile]) -> None:
    """Checks that all files of a split have the id and the label, or none."""
    for role, column in (("id", schema.id), ("label", schema.label)):
        having = [file for file in files if column in file.names]
        lacking = [file for file in files if column not in file.names]
        if having and lacking:
            raise InputError(
                f"{lacking[0].path} has no {role} column {column!r}, but {having[0].path} has one: all {split} files "
                "must have it, or none"
            )


def _with_forms(
    schema: Schema, files: Sequence[RawFile], side_files: SideFiles, references: Mapping[str, ColumnType]
) -> Schema:
    forms: dict[str, ValueForm] = {}
    for name, columns in compared_columns(schema).items():
        in_files = columns_in_files(columns, files, schema, references, _file_of_side_column(side_files))
        forms[name] = common_form(in_files, f"vocabulary {name!r}")
    schema = schema.model_copy(update={"value_forms": forms})
    return schema.model_copy(update={"key_forms": _key_forms(schema, files, side_files, references)})


def _key_forms(
    schema: Schema, files: Sequence[RawFile], side_files: SideFiles, references: Mapping[str, ColumnType]
) -> dict[str, ValueForm]:
    forms = {}
    for name, (side_file, (key, *_)) in side_files.items():
        own = {key: _key_type(key, side_file, references)}
        in_files = columns_in_files([key], files, schema, references) + columns_in_files(
            [key], [side_file], schema, own
        )
        forms[name] = common_form(in_files, f"schema.side_tables.{name}.key")
    return forms


def _key_type(key: str, side_file: RawFile, references: Mapping[str, ColumnType]) -> ColumnType:
    """Returns the type that the key of a side table is read with: its own, or that of the data if it has none."""
    if key in side_file.untyped:
        return references[key]
    return ColumnType(side_file.types[key], side_file.path)


def _read_side_tables(
    schema: Schema, side_files: SideFiles, references: Mapping[str, ColumnType]
) -> dict[str, JoinedTable]:
    tables = {}
    for name, (file, columns) in side_files.items():
        block = read_whole(file, columns)
        key = columns[0]
        own = {**references, key: _key_type(key, file, references)}
        table = convert(block, schema, own, file.untyped)
        tables[name] = join_table(table, key, schema.key_forms[name], f"schema.side_tables.{name} ({file.path})")
    return tables


def _kinds(schema: Schema, references: Mapping[str, ColumnType]) -> dict[str, Kind]:
    kinds = {}
    for column in schema.source_columns:
        reference = references[column]
        kinds[column] = effective_kind(schema, column, reference.dtype, reference.is_untyped, reference)
    return kinds
