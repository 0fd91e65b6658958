"""Side tables: files that are joined to the rows by key columns, compared by their canonical text."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.vocabulary import Codes
from recsys.errors import InputError
from recsys.patterns import match_columns, nearest
from recsys.raw.blocks import Block, Origin
from recsys.raw.checks import check_utf8
from recsys.raw.column_types import ColumnType, check_names, reference_types
from recsys.raw.conversion import convert, read_cells
from recsys.raw.derive import cross
from recsys.raw.files.find import find_beside
from recsys.raw.files.open import open_raw
from recsys.raw.files.raw_file import RawFile
from recsys.raw.tokens import encode_values
from recsys.raw.vectors.reading import check_vectors
from recsys.schema.config import SideTable
from recsys.schema.kinds import ValueForm
from recsys.schema.resolved import Schema


@dataclass(frozen=True)
class SideFiles:
    """The files of a side table, and the columns to read."""

    name: str
    files: tuple[RawFile, ...]
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    """The columns that the table adds, without the keys."""

    @property
    def role(self) -> str:
        """The table, for messages."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"schema.side_tables.{self.name} ({self.files[0].path}{more})"

    @property
    def key_role(self) -> str:
        """The keys, for messages."""
        return f"schema.side_tables.{self.name}.key {_shown(self.keys)}"

    def check_keys(self, names: Collection[str], place: str) -> None:
        """Checks that a file or the data has the key columns.

        Raises:
            InputError: for the first missing one.
        """
        for key in self.keys:
            if key not in names:
                raise InputError(
                    f"{self.key_role}: {key!r} is not a column of {place}{nearest(key, names)}: correct the key or "
                    "the file"
                )

    def types(self) -> dict[str, ColumnType]:
        """Returns the type of each column in the first file that gives it one."""
        references = reference_types(self.files)
        return {column: references[column] for column in (*self.keys, *self.columns)}

    def key_type(self, key: str, references: Mapping[str, ColumnType]) -> ColumnType:
        """Returns the type that a key is read with: its own, or that of the data if no file of the table gives one."""
        own = self.types()[key]
        return references[key] if own.is_untyped else ColumnType(own.dtype, own.path)


@dataclass(frozen=True)
class JoinedTable:
    """A side table in memory."""

    keys: tuple[str, ...]
    key_forms: tuple[ValueForm, ...]
    """The form of each key column."""
    key_values: pa.Array = field(repr=False)
    """[n] text of each row's keys; the texts differ from each other."""
    table: pa.Table = field(repr=False)
    """[n] rows of the other columns."""

    @property
    def columns(self) -> list[str]:
        """The columns that the table adds."""
        return self.table.column_names

    def join(self, rows: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Adds columns to rows that have the keys; keys that the side table lacks give nulls."""
        named = [f"column {key!r}" for key in self.keys]
        parts = [encode_values(rows[k], n, form) for k, n, form in zip(self.keys, named, self.key_forms, strict=True)]
        codes = _combined(parts)
        positions = pc.index_in(codes.values, value_set=self.key_values).to_numpy(zero_copy_only=False)
        positions = np.append(np.nan_to_num(positions, nan=-1), -1).astype(np.int64)[codes.codes]
        indices = pa.array(positions, mask=positions < 0)
        for column in columns:
            rows = rows.append_column(column, pc.take(self.table[column], indices))
        return rows


def open_side_table(side: SideTable, name: str, folder: Path) -> SideFiles:
    """Finds and opens the files of a side table, and checks that all have its columns.

    Raises:
        InputError: for a missing or damaged file, or a missing column.
    """
    first, *others = files = [open_raw(path) for path in find_beside(side.files, folder)]
    check_names(first.names, [column for column in first.names if first.names.count(column) > 1], first.path)
    opened = SideFiles(name, tuple(files), side.keys, ())
    opened.check_keys(first.names, str(first.path))
    columns = [name for name in match_columns(side.columns, first.names, opened.role) if name not in side.keys]
    for file in others:
        check_names(file.names, [*side.keys, *columns], file.path)
    return replace(opened, columns=tuple(columns))


def read_side_table(side: SideFiles, schema: Schema, references: Mapping[str, ColumnType]) -> JoinedTable:
    """Reads a side table and prepares it for joins.

    Raises:
        InputError: if a file is damaged, a column has types in two files that have no common type, or the keys of a row
            are null or repeated.
    """
    block = _read_files(side)
    untyped = frozenset().union(*(file.untyped for file in side.files))
    own = {**references, **{key: side.key_type(key, references) for key in side.keys}}
    table = convert(block, schema, own, untyped)
    check_vectors(Block(table, block.origins), [v for v in schema.vectors if v.name in side.columns])
    forms = tuple(schema.key_forms[f"{side.name}.{key}"] for key in side.keys)
    return _join_table(table, side, forms, block)


def read_whole(file: RawFile, columns: Sequence[str]) -> Block:
    """Reads columns of a whole file.

    Raises:
        InputError: if the file is damaged, or its text is not UTF-8.
    """
    tables = [read_cells(table, file.untyped & set(columns)) for table in file.read(columns)]
    empty = pa.table({name: pa.array([], file.types[name]) for name in columns})
    table = pa.concat_tables(tables).combine_chunks() if tables else empty
    block = Block(table.select(list(columns)), (Origin(file.path, 0, table.num_rows),))
    check_utf8(block)
    return block


def _read_files(side: SideFiles) -> Block:
    blocks = [read_whole(file, [*side.keys, *side.columns]) for file in side.files]
    fields: dict[str, pa.Field] = {}
    for file, block in zip(side.files, blocks, strict=True):
        for column in block.table.schema:
            known = pa.schema([fields.get(column.name, column)])
            try:
                common = pa.unify_schemas([known, pa.schema([column])], promote_options="permissive")
            except pa.ArrowException as error:
                raise InputError(
                    f"{file.path}: column {column.name!r} is {column.type}, but is {known.field(0).type} in another "
                    f"file of schema.side_tables.{side.name}: write it with the same type"
                ) from error
            fields[column.name] = common.field(0)
    table = pa.concat_tables([block.table for block in blocks], promote_options="permissive")
    return Block(table.combine_chunks(), tuple(origin for block in blocks for origin in block.origins))


def _join_table(table: pa.Table, side: SideFiles, forms: Sequence[ValueForm], block: Block) -> JoinedTable:
    """Prepares the converted rows of a block for joins."""
    keys = zip(side.keys, forms, strict=True)
    parts = [encode_values(table[key], f"{side.role}: key {key!r}", form) for key, form in keys]
    for key, part in zip(side.keys, parts, strict=True):
        if len(nulls := np.flatnonzero(part.codes < 0)):
            path, row = block.place(int(nulls[0]))
            named = repr(key) if len(side.keys) == 1 else f"{key!r} of {_shown(side.keys)}"
            where = f"row {row}" if len(side.files) == 1 else f"row {row} of {path}"
            raise InputError(f"{side.role}: key {named} is null in {where}: remove the row, or fill the key")
    codes = _combined(parts)
    key_values = codes.values.take(pa.array(codes.codes))
    counts = pc.value_counts(key_values)
    if len(repeated := np.flatnonzero(np.asarray(counts.field("counts")) > 1)):
        row = pc.index(key_values, counts.field("values")[int(repeated[0])]).as_py()
        value = _shown([part.values[int(part.codes[row])].as_py() for part in parts])
        raise InputError(
            f"{side.role}: key {_shown(side.keys)} is repeated in some rows (such as {value}): keep one row per key"
        )
    return JoinedTable(side.keys, tuple(forms), key_values, table.drop_columns(list(side.keys)))


def _combined(parts: Sequence[Codes]) -> Codes:
    """Encodes the combinations of several columns; a row with a null in any of them has no code."""
    combined = parts[0]
    for part in parts[1:]:
        pairs = combined.codes.astype(np.int64) * len(part.values) + part.codes
        is_null = (combined.codes < 0) | (part.codes < 0)
        distinct, codes = np.unique(np.where(is_null, -1, pairs), return_inverse=True)
        n_null = int(np.any(is_null))  # -1 is the lowest
        left, right = np.divmod(distinct[n_null:], max(len(part.values), 1))
        texts = [combined.values.take(pa.array(left)), part.values.take(pa.array(right))]
        combined = Codes((codes - n_null).astype(np.int32), cross([pa.chunked_array([text]) for text in texts]))
    return combined


def _shown(names: Sequence[str]) -> str:
    """Returns `'a'`, or `('a', 'b')`."""
    return repr(names[0]) if len(names) == 1 else repr(tuple(names))
