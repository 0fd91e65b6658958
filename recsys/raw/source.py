"""Raw parquet files: checks their columns by the footers and streams rows with side tables joined."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.config import RawFiles
from recsys.data.groups import PARTITIONS, Partition
from recsys.errors import InputError
from recsys.patterns import match_columns
from recsys.raw.column_types import check_names, check_same_kinds, check_types, normalize_types, roles_of
from recsys.raw.derive import derive
from recsys.raw.files import batch_rows, find_files, open_parquet
from recsys.raw.history import History, build_history
from recsys.schema.config import LogSequence, SchemaConfig
from recsys.schema.kinds import Kind, kind_of
from recsys.schema.resolved import Schema, resolve_schema


def full_length_column(sequence: str) -> str:
    """Returns the batch column with the lengths of a log sequence before truncation."""
    return f"{sequence}:length"


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a split: selected row groups of its files."""

    split: Partition
    first_row: int
    """Row number within the split."""
    n_rows: int
    parts: tuple[tuple[Path, tuple[int, ...]], ...]
    """Files and their selected row groups."""


@dataclass(frozen=True)
class Source:
    """The raw files of each split, their resolved schema and the side tables in memory."""

    schema: Schema
    files: dict[Partition, list[Path]]
    side_tables: dict[str, pa.Table] = field(repr=False)
    kinds: dict[str, Kind] = field(repr=False)
    """The kind of every source column in the training files."""
    histories: dict[str, dict[Partition, History]] = field(default_factory=dict, repr=False)
    """By log sequence and split; filled by `with_histories`."""

    def n_rows(self, split: Partition) -> int:
        """Returns the number of rows of a split's files, from their footers."""
        return sum(open_parquet(path).metadata.num_rows for path in self.files[split])

    def side_columns(self, side_table: str) -> list[str]:
        """Returns the columns that a side table adds: all except its key."""
        return self.side_tables[side_table].drop_columns([self.schema.side_tables[side_table].key]).column_names

    def columns_of(self, split: Partition) -> set[str]:
        """Returns the columns of a split's files, without side tables."""
        return set(open_parquet(self.files[split][0]).schema_arrow.names)

    def pieces(self, split: Partition, n_rows: int | None = None) -> list[Piece]:
        """Divides a split's rows into pieces of at least `n_rows` rows, except the last; None gives a single piece."""
        pieces: list[Piece] = []
        row_groups: dict[Path, list[int]] = {}
        first, n = 0, 0
        for path in self.files[split]:
            metadata = open_parquet(path).metadata
            for group in range(metadata.num_row_groups):
                row_groups.setdefault(path, []).append(group)
                n += metadata.row_group(group).num_rows
                if n_rows is not None and n >= n_rows:
                    pieces.append(Piece(split, first, n, tuple((p, tuple(g)) for p, g in row_groups.items())))
                    first, n, row_groups = first + n, 0, {}
        if n:
            pieces.append(Piece(split, first, n, tuple((p, tuple(g)) for p, g in row_groups.items())))
        return pieces

    def batches(
        self, split: Partition, columns: Sequence[str], piece: Piece | None = None
    ) -> Iterator[tuple[Path, pa.Table]]:
        """Streams the rows of a split or a piece in file order, with side tables joined and derived columns computed.

        Raises:
            InputError: if a file's pages cannot be read.
        """
        crosses = self.schema.crosses
        derived = [name for name in columns if name in crosses]
        log_columns = [name for name in columns if name in self.schema.logs]
        log_columns += [c for name in derived for c in crosses[name] if c in self.schema.logs and c not in log_columns]
        lengths = {full_length_column(name): name for name in self.schema.logs}
        source_columns = [c for c in columns if c not in crosses] + [c for name in derived for c in crosses[name]]
        n_before = piece.first_row if piece is not None else 0
        file_columns = [c for c in dict.fromkeys(source_columns) if c not in log_columns and c not in lengths]
        for path, table in self._joined(split, file_columns, piece):
            row_slice = slice(n_before, n_before + table.num_rows)
            for name in log_columns:
                table = table.append_column(name, self.histories[name][split].lists(n_before, table.num_rows))
            for column in [c for c in columns if c in lengths]:
                full_lengths = self.histories[lengths[column]][split].full_lengths[row_slice]
                table = table.append_column(column, pa.array(full_lengths))
            for name in derived:
                table = table.append_column(name, derive(name, table, self.schema))
            n_before += table.num_rows
            yield path, table.select(list(columns))

    def _joined(
        self, split: Partition, columns: Sequence[str], piece: Piece | None = None
    ) -> Iterator[tuple[Path, pa.Table]]:
        """Streams columns of the files, joined with columns of the side tables."""
        requested = {name: set(self.side_columns(name)) & set(columns) for name in self.side_tables}
        joined = {name: self.side_tables[name] for name, side_columns in requested.items() if side_columns}
        keys = [self.schema.side_tables[name].key for name in joined]
        from_side = set().union(*requested.values())
        file_columns = list(dict.fromkeys([c for c in columns if c not in from_side] + keys))
        roles = roles_of(self.schema)
        selected = [(path, None) for path in self.files[split]] if piece is None else piece.parts
        for path, row_groups in selected:
            try:
                file = open_parquet(path)
                n_rows = batch_rows(file, file_columns)
                for batch in file.iter_batches(batch_size=n_rows, row_groups=row_groups, columns=file_columns):
                    table = normalize_types(pa.Table.from_batches([batch]), roles)
                    for name, side in joined.items():
                        table = _join(table, side, self.schema.side_tables[name].key)
                    yield path, table
            except (pa.ArrowInvalid, OSError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"{path} cannot be read to the end ({reason}): write or copy it again") from error


def with_histories(source: Source) -> Source:
    """Returns the source with the sequences of `schema.logs`, built from the rows of all its files.

    Raises:
        InputError: if a log's condition does not fit the type of its column.
    """
    histories: dict[str, dict[Partition, History]] = {}
    for name, log in source.schema.logs.items():
        tables = {split: _read_log(source, split, log) for split in PARTITIONS if source.files[split]}
        try:
            history = build_history(log, pa.concat_tables(tables.values(), promote_options="permissive"))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"schema.sequences.{name}: {error}: correct its condition or the columns") from error
        histories[name], n_before = {}, 0
        for split, table in tables.items():
            row_slice = slice(n_before, n_before + table.num_rows)
            histories[name][split] = History(
                history.steps, history.starts[row_slice], history.ends[row_slice], history.full_lengths[row_slice]
            )
            n_before += table.num_rows
    return replace(source, histories=histories)


def _read_log(source: Source, split: Partition, log: LogSequence) -> pa.Table:
    """Reads the columns that a log is built from; files without labels may lack the condition's column."""
    columns = [log.key, log.item, log.order]
    absent: list[str] = []
    if log.where is not None and log.where.column not in columns:
        is_present = log.where.column in source.columns_of(split) or split == "train"
        (columns if is_present else absent).append(log.where.column)
    columns = list(dict.fromkeys(columns))
    tables = [table.select(columns) for _, table in source._joined(split, columns)]
    table = pa.concat_tables(tables)
    for name in absent:
        table = table.append_column(name, pa.nulls(table.num_rows))
    return table


def open_source(config: SchemaConfig, files: RawFiles, folder: Path) -> Source:
    """Finds the files, resolves the schema and checks every file's columns; reads only the footers.

    Raises:
        InputError: for a missing or broken file, a missing column or a column of the wrong type.
    """
    paths = {split: find_files(getattr(files, split), folder) for split in PARTITIONS}
    first = open_parquet(paths["train"][0]).schema_arrow
    check_names(first.names, [name for name in first.names if first.names.count(name) > 1], paths["train"][0])
    side_tables = {name: _load_side_table(config, name, folder) for name in config.side_tables}
    types = {name: first.field(name).type for name in first.names}
    for path in paths["train"]:  # a column without values may have no type in a file
        arrow = open_parquet(path).schema_arrow
        types |= {c: arrow.field(c).type for c, t in types.items() if pa.types.is_null(t) and arrow.names.count(c) == 1}
    for name, table in side_tables.items():
        key = config.side_tables[name].key
        match_columns([key], types, f"schema.side_tables.{name}.key")
        for column in table.column_names:
            if column != key and column in types:
                raise InputError(
                    f"schema.side_tables.{name}: the data already has a column {column!r}: remove it from columns"
                )
            types.setdefault(column, table.schema.field(column).type)

    schema = resolve_schema(config, types.keys())
    kinds = {column: kind_of(types[column]) for column in schema.source_columns}
    source = Source(schema, paths, side_tables, kinds)
    for split in PARTITIONS:
        for path in paths[split]:
            _check_columns(source, split, path)
        if paths[split] and source.n_rows(split) == 0:
            raise InputError(f"{paths[split][0]} has no rows: {split} files must have at least one row")
    return source


def open_rows_to_score(
    config: SchemaConfig, schema: Schema, kinds: dict[str, Kind], paths: Sequence[str], folder: Path
) -> Source:
    """Opens files of rows to score that are not part of the prepared data set.

    Args:
        config: the schema of the prepared data set.
        schema: that schema, resolved.
        kinds: kinds of the columns in the training files.
        paths: files, folders and globs.
        folder: base of relative paths, and folder of the side tables.

    Raises:
        InputError: as `open_source`, and for sequences that are built from the log.
    """
    if schema.logs:
        raise InputError(
            f"schema.sequences.{next(iter(schema.logs))} is built from the log of all rows: prepare the data with "
            "these files as test files and score the test files"
        )
    files = find_files(paths, folder)
    side_tables = {name: _load_side_table(config, name, folder) for name in config.side_tables}
    source = Source(schema, {"train": [], "valid": [], "test": files}, side_tables, kinds)
    for path in files:
        _check_columns(source, "test", path)
    if source.n_rows("test") == 0:
        raise InputError(f"{files[0]} has no rows to score")
    return source


def _load_side_table(config: SchemaConfig, name: str, folder: Path) -> pa.Table:
    side = config.side_tables[name]
    (path,) = find_files([side.file], folder)
    names = open_parquet(path).schema_arrow.names
    role = f"schema.side_tables.{name} ({path})"
    columns = match_columns([side.key, *side.columns], names, role)
    table = open_parquet(path).read(columns=columns)
    if pc.count_distinct(table[side.key], mode="all").as_py() != table.num_rows:
        raise InputError(f"{role}: key {side.key!r} is null or repeated in some rows: keep one row per key")
    return table


def _join(table: pa.Table, side: pa.Table, key: str) -> pa.Table:
    """Left-joins a side table and keeps the order of rows; keys missing from the side table give nulls."""
    keys = side[key].combine_chunks()
    rows = pc.index_in(pc.cast(table[key], keys.type), value_set=keys)
    for column in side.drop_columns([key]).column_names:
        table = table.append_column(column, pc.take(side[column], rows))
    return table


def _check_columns(source: Source, split: Partition, path: Path) -> None:
    schema, arrow = source.schema, open_parquet(path).schema_arrow
    side_types = {c: t.schema.field(c).type for t in source.side_tables.values() for c in t.column_names}
    log_columns = [c for log in schema.logs.values() for c in (log.key, log.item, log.order)]
    if schema.last_out is not None and split == "train":
        log_columns += [schema.last_out.key, schema.last_out.order]
    needed = [c for c in dict.fromkeys([*schema.source_columns, *log_columns]) if c not in side_types]
    needed += [side.key for side in schema.side_tables.values()]
    if split == "train":
        needed += [c for c in (schema.label, schema.day, schema.split) if c is not None]
    check_names(arrow.names, needed, path)
    types = side_types | {name: arrow.field(name).type for name in arrow.names if arrow.names.count(name) == 1}
    check_same_kinds(source.kinds, types, path)
    check_types(schema, types, path, has_label=split == "train")
