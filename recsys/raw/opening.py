"""Opens raw files: finds them, resolves the schema, and checks every file's columns before any row is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from recsys.data.config import RawFiles
from recsys.data.groups import PARTITIONS, Partition
from recsys.errors import InputError
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
from recsys.raw.files.find import check_distinct, find_files
from recsys.raw.files.open import open_raw
from recsys.raw.files.raw_file import RawFile
from recsys.raw.forms import columns_in_files, common_form, compared_columns, form_for_scoring
from recsys.raw.side_tables import SideFiles, open_side_table, read_side_table
from recsys.raw.source import Source
from recsys.raw.vectors.sizes import with_vector_sizes
from recsys.schema.config import SchemaConfig
from recsys.schema.kinds import Kind, ValueForm
from recsys.schema.resolved import Schema, resolve_schema

_TYPE_OF_KIND: dict[Kind, pa.DataType] = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "time": pa.timestamp("us"),
    "zoned time": pa.timestamp("us", "UTC"),
    "time of day": pa.time64("us"),
    "list": pa.list_(pa.null()),  # the kind of the tokens is that of their vocabulary: see `form_for_scoring`
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
    side_tables = [open_side_table(side, name, folder) for name, side in config.side_tables.items()]
    names = dict.fromkeys(first.names)
    for side in side_tables:
        side.check_keys(names, "the data")
        for column in side.columns:
            if column in names:
                raise InputError(
                    f"schema.side_tables.{side.name}: the data already has a column {column!r}: remove it from columns"
                )
            names[column] = None
    config = with_vector_sizes(config, opened["train"], _files_of_side_column(side_tables))
    schema = resolve_schema(config, names, str(first.path))
    all_files = [file for split in PARTITIONS for file in opened[split]]
    references = _references(all_files, side_tables)
    _check_side_tables(schema, references, side_tables)
    for split in PARTITIONS:
        for file in opened[split]:
            _check_columns(schema, references, side_tables, split, file)
        _check_optional_columns(schema, split, opened[split])
        if opened[split] and not any(file.n_rows for file in opened[split]):
            raise InputError(f"{paths[split][0]} has no rows: {split} files must have at least one row")
    schema = _with_forms(schema, all_files, side_tables, references)
    joined = {side.name: read_side_table(side, schema, references) for side in side_tables}
    return Source(schema, opened, joined, references, _kinds(schema, references))


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
    side_tables = [open_side_table(side, name, folder) for name, side in config.side_tables.items()]
    references = _references(files, side_tables)
    for column, kind in kinds.items():
        is_untyped = schema.form_of(column).text_as == "whole numbers"
        references[column] = ColumnType(_TYPE_OF_KIND.get(kind, pa.null()), None, is_untyped)
    _check_side_tables(schema, references, side_tables)
    for file in files:
        _check_columns(schema, references, side_tables, "test", file)
    _check_optional_columns(schema, "test", files)
    forms = dict(schema.value_forms)
    for name, columns in compared_columns(schema).items():
        in_files = columns_in_files(columns, files, schema, references, _files_of_side_column(side_tables))
        forms[name] = form_for_scoring(schema.form_of(name), in_files, f"vocabulary {name!r}")
    schema = schema.model_copy(update={"value_forms": forms})
    schema = schema.model_copy(update={"key_forms": _key_forms(schema, files, side_tables, references)})
    joined = {side.name: read_side_table(side, schema, references) for side in side_tables}
    if not any(file.n_rows for file in files):
        raise InputError(f"{files[0].path} has no rows to score")
    return Source(schema, {"train": [], "valid": [], "test": files}, joined, references, dict(kinds))


def _files_of_side_column(side_tables: Sequence[SideFiles]) -> dict[str, tuple[RawFile, ...]]:
    return {column: side.files for side in side_tables for column in side.columns}


def _references(files: Sequence[RawFile], side_tables: Sequence[SideFiles]) -> dict[str, ColumnType]:
    """Returns the types of the columns of the files of rows, and of those that side tables add."""
    references = reference_types(files)
    for side in side_tables:
        types = side.types()
        references |= {column: types[column] for column in side.columns}
    for side in side_tables:
        types = side.types()
        for key in side.keys:
            is_untyped = key in references and references[key].is_untyped
            if is_untyped and not types[key].is_untyped:
                references[key] = types[key]
    return references


def _check_side_tables(schema: Schema, references: Mapping[str, ColumnType], side_tables: Sequence[SideFiles]) -> None:
    roles = feature_roles(schema) + training_roles(schema)
    for side in side_tables:
        side_roles = [role for role in roles if role.column in side.columns]
        for file in side.files:
            check_kinds(schema, side_roles, file.types, file.untyped, references, file.path)


def _check_columns(
    schema: Schema,
    references: Mapping[str, ColumnType],
    side_tables: Sequence[SideFiles],
    split: Partition,
    file: RawFile,
) -> None:
    side_columns = _files_of_side_column(side_tables)
    roles = feature_roles(schema) + (training_roles(schema) if split == "train" else [])
    roles = [role for role in roles if role.column not in side_columns]
    needed = [role.column for role in roles]
    if split == "train" and schema.label is not None:
        needed.append(schema.label)
    check_names(file.names, [column for column in dict.fromkeys(needed) if column not in side_columns], file.path)
    check_kinds(schema, roles, file.types, file.untyped, references, file.path)
    if schema.id is not None and schema.id in file.types:
        check_id(file.types[schema.id], schema.id, file.path)


def _check_optional_columns(schema: Schema, split: Partition, files: Sequence[RawFile]) -> None:
    """Checks that all files of a split have the id, user and label, or none, and so the weight if they have labels."""
    roles = [("id", schema.id), ("user", schema.user), ("label", schema.label)]
    if schema.weight is not None and all(schema.label in file.names for file in files):
        roles.append(("weight", schema.weight.column))
    for role, column in roles:
        having = [file for file in files if column in file.names]
        lacking = [file for file in files if column not in file.names]
        if having and lacking:
            raise InputError(
                f"{lacking[0].path} has no {role} column {column!r}, but {having[0].path} has one: all {split} files "
                "must have it, or none"
            )


def _with_forms(
    schema: Schema,
    files: Sequence[RawFile],
    side_tables: Sequence[SideFiles],
    references: Mapping[str, ColumnType],
) -> Schema:
    forms: dict[str, ValueForm] = {}
    for name, columns in compared_columns(schema).items():
        in_files = columns_in_files(columns, files, schema, references, _files_of_side_column(side_tables))
        forms[name] = common_form(in_files, f"vocabulary {name!r}")
    schema = schema.model_copy(update={"value_forms": forms})
    return schema.model_copy(update={"key_forms": _key_forms(schema, files, side_tables, references)})


def _key_forms(
    schema: Schema,
    files: Sequence[RawFile],
    side_tables: Sequence[SideFiles],
    references: Mapping[str, ColumnType],
) -> dict[str, ValueForm]:
    forms = {}
    for side in side_tables:
        for key in side.keys:
            own = {key: side.key_type(key, references)}
            in_files = columns_in_files([key], files, schema, references)
            in_files += columns_in_files([key], side.files, schema, own)
            forms[f"{side.name}.{key}"] = common_form(in_files, side.key_role)
    return forms


def _kinds(schema: Schema, references: Mapping[str, ColumnType]) -> dict[str, Kind]:
    kinds = {}
    for column in schema.source_columns:
        reference = references[column]
        kinds[column] = effective_kind(schema, column, reference.dtype, reference.is_untyped, reference)
    return kinds
