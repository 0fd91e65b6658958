"""Raw files: checks their columns, and streams rows with side tables joined and derived columns computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.groups import Partition
from recsys.raw.blocks import Block, Origin, in_blocks
from recsys.raw.checks import check_delimited, check_utf8
from recsys.raw.column_types import ColumnType
from recsys.raw.conversion import convert, read_cells
from recsys.raw.derive import derive
from recsys.raw.files.raw_file import RawFile
from recsys.raw.order.history import History
from recsys.raw.side_tables import JoinedTable
from recsys.raw.vectors.reading import check_vectors
from recsys.schema.kinds import Kind
from recsys.schema.resolved import Schema


def full_length_column(sequence: str) -> str:
    """Returns the batch column with the lengths of a log sequence before truncation."""
    return f"{sequence}:length"


_MAX_RANGES = 64
"""Number of files whose footers tell the range of a column."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a split: selected row groups of its files."""

    split: Partition
    first_row: int
    """Row number within the split."""
    n_rows: int
    parts: tuple[tuple[int, tuple[int, ...]], ...]
    """Positions of files among those of the split, and their selected row groups."""


@dataclass(frozen=True)
class Source:
    """The raw files of each split, their resolved schema and the side tables in memory."""

    schema: Schema
    files: dict[Partition, list[RawFile]] = field(repr=False)
    side_tables: dict[str, JoinedTable] = field(repr=False)
    references: dict[str, ColumnType] = field(repr=False)
    """By column of the files and side tables, its type in the first file that gives it one."""
    kinds: dict[str, Kind] = field(repr=False)
    """The kind of every source column in the training files."""
    histories: dict[str, dict[Partition, History]] = field(default_factory=dict, repr=False)
    """By log sequence and split; filled by `with_histories`."""

    def n_rows(self, split: Partition) -> int:
        """Returns the number of rows of a split's files."""
        return sum(file.n_rows for file in self.files[split])

    def columns_of(self, split: Partition) -> set[str]:
        """Returns the columns that all files of a split have, without side tables."""
        return set.intersection(*(set(file.names) for file in self.files[split]))

    def all_columns_of(self, split: Partition) -> set[str]:
        """Returns the columns of a split's rows, with those of side tables."""
        return self.columns_of(split).union(*(side.columns for side in self.side_tables.values()))

    def is_untyped(self, column: str) -> bool:
        """Whether some file gives a column no type."""
        return any(column in file.untyped for files in self.files.values() for file in files)

    def number_range(self, column: str) -> tuple[float, float] | None:
        """Returns about the least and the largest number of a column in the training files, if it is known unread."""
        for side in self.side_tables.values():
            if column in side.columns:
                bounds = pc.min_max(pc.cast(side.table[column], pa.float64(), safe=False)).as_py()
                return None if bounds["min"] is None else (bounds["min"], bounds["max"])
        ranges = [file.number_range(column) for file in self.files["train"][:_MAX_RANGES]]
        known = [bounds for bounds in ranges if bounds is not None]
        if len(known) < len(ranges):
            return None
        return min(low for low, _ in known), max(high for _, high in known)

    def pieces(self, split: Partition, n_rows: int | None = None) -> list[Piece]:
        """Divides a split's rows into pieces of at least `n_rows` rows, except the last; None gives a single piece."""
        pieces: list[Piece] = []
        row_groups: dict[int, list[int]] = {}
        first, n = 0, 0
        for number, file in enumerate(self.files[split]):
            for group, size in enumerate(file.group_sizes):
                row_groups.setdefault(number, []).append(group)
                n += size
                if n_rows is not None and n >= n_rows:
                    pieces.append(Piece(split, first, n, tuple((f, tuple(g)) for f, g in row_groups.items())))
                    first, n, row_groups = first + n, 0, {}
        if n:
            pieces.append(Piece(split, first, n, tuple((f, tuple(g)) for f, g in row_groups.items())))
        return pieces

    def blocks(self, split: Partition, columns: Sequence[str], piece: Piece | None = None) -> Iterator[Block]:
        """Streams the rows of a split or a piece in file order, with side tables joined and derived columns computed.

        Raises:
            InputError: if a file is damaged, or its text is not UTF-8 or not of the kind of its column.
        """
        crosses = self.schema.crosses
        derived = [name for name in columns if name in crosses]
        log_columns = [name for name in columns if name in self.schema.logs]
        log_columns += [c for name in derived for c in crosses[name] if c in self.schema.logs and c not in log_columns]
        lengths = {full_length_column(name): name for name in self.schema.logs}
        source_columns = [c for c in columns if c not in crosses] + [c for name in derived for c in crosses[name]]
        n_before = piece.first_row if piece is not None else 0
        file_columns = [c for c in dict.fromkeys(source_columns) if c not in log_columns and c not in lengths]
        for block in self._joined(split, file_columns, piece):
            table = block.table
            row_slice = slice(n_before, n_before + table.num_rows)
            for name in log_columns:
                table = table.append_column(name, self.histories[name][split].lists(n_before, table.num_rows))
            for column in [c for c in columns if c in lengths]:
                full_lengths = self.histories[lengths[column]][split].full_lengths[row_slice]
                table = table.append_column(column, pa.array(full_lengths))
            for name in derived:
                table = table.append_column(name, derive(name, table, self.schema))
            n_before += table.num_rows
            yield Block(table.select(list(columns)), block.origins)

    def _joined(self, split: Partition, columns: Sequence[str], piece: Piece | None = None) -> Iterator[Block]:
        """Streams columns of the files, joined with columns of the side tables."""
        requested = {name: [c for c in columns if c in side.columns] for name, side in self.side_tables.items()}
        joined = {name: side_columns for name, side_columns in requested.items() if side_columns}
        from_side = {column for side_columns in joined.values() for column in side_columns}
        keys = [key for name in joined for key in self.side_tables[name].keys]
        file_columns = list(dict.fromkeys([c for c in columns if c not in from_side] + keys))
        delimiters = {s.column: s.delimiter for s in self.schema.token_sequences if s.delimiter is not None}
        untyped = {column for column in file_columns if self.is_untyped(column)}
        for block in in_blocks(self._tables(split, file_columns, piece)):
            check_utf8(block)
            table = convert(block, self.schema, self.references, untyped)
            for column in delimiters.keys() & set(file_columns):
                check_delimited(Block(table, block.origins), column, delimiters[column])
            check_vectors(Block(table, block.origins), [v for v in self.schema.vectors if v.name in file_columns])
            for name, side_columns in joined.items():
                table = self.side_tables[name].join(table, side_columns)
            yield Block(table, block.origins)

    def _tables(
        self, split: Partition, columns: Sequence[str], piece: Piece | None
    ) -> Iterator[tuple[Origin, pa.Table]]:
        """Streams columns of the files, each table with its place in its file."""
        selected = [(number, None) for number in range(len(self.files[split]))] if piece is None else piece.parts
        for number, row_groups in selected:
            file = self.files[split][number]
            first = sum(file.group_sizes[: row_groups[0]]) if row_groups else 0
            delimited = {sequence.column for sequence in self.schema.token_sequences if sequence.delimiter is not None}
            cells = (file.untyped & set(columns)) - delimited
            for table in file.read(columns, row_groups):
                yield Origin(file.path, first, table.num_rows), read_cells(table.select(list(columns)), cells)
                first += table.num_rows
