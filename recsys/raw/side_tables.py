"""Side tables: files that are joined to the rows by a key, compared by its canonical text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.raw.blocks import Block, Origin
from recsys.raw.checks import check_utf8
from recsys.raw.conversion import read_cells
from recsys.raw.files.raw_file import RawFile
from recsys.raw.tokens import encode_values
from recsys.schema.kinds import ValueForm


@dataclass(frozen=True)
class JoinedTable:
    """A side table in memory."""

    key: str
    key_form: ValueForm
    keys: pa.Array = field(repr=False)
    """[n] canonical text of the keys, which differ from each other."""
    table: pa.Table = field(repr=False)
    """[n] rows of the other columns."""

    @property
    def columns(self) -> list[str]:
        """The columns that the table adds."""
        return self.table.column_names

    def join(self, rows: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Adds columns to rows that have the key; a key that the side table lacks gives nulls."""
        codes = encode_values(rows[self.key], f"column {self.key!r}", self.key_form)
        positions = pc.index_in(codes.values, value_set=self.keys).to_numpy(zero_copy_only=False)
        positions = np.append(np.nan_to_num(positions, nan=-1), -1).astype(np.int64)[codes.codes]
        indices = pa.array(positions, mask=positions < 0)
        for column in columns:
            rows = rows.append_column(column, pc.take(self.table[column], indices))
        return rows


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


def join_table(table: pa.Table, key: str, form: ValueForm, role: str) -> JoinedTable:
    """Prepares a side table for joins.

    Raises:
        InputError: if a key is null or repeated.
    """
    codes = encode_values(table[key], f"{role}: key {key!r}", form)
    nulls = np.flatnonzero(codes.codes < 0)
    if len(nulls):
        raise InputError(f"{role}: key {key!r} is null in row {nulls[0]}: remove the row, or fill the key")
    keys = codes.values.take(pa.array(codes.codes))
    counts = pc.value_counts(keys)
    if len(repeated := np.flatnonzero(np.asarray(counts.field("counts")) > 1)):
        value = counts.field("values")[int(repeated[0])].as_py()
        raise InputError(f"{role}: key {key!r} is repeated in some rows (such as {value!r}): keep one row per key")
    return JoinedTable(key, form, keys, table.drop_columns([key]))
