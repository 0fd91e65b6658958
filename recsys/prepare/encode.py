"""The second pass: raw rows to codes, raw numbers and sequences, in memory or into the files of a prepared data set."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.prepare import layout
from recsys.prepare.items import ItemList
from recsys.prepare.numeric import MAX_NUMBER
from recsys.prepare.scan import Scan
from recsys.prepare.source import SPLITS, Source, length_column
from recsys.prepare.statistics import sequence_statistics
from recsys.prepare.tokens import Jagged, as_array, encode_values, parse_delimited, parse_list
from recsys.prepare.vocabulary import Vocabulary
from recsys.progress import progress_line
from recsys.schema import Schema, TokenFeature


@dataclass(frozen=True)
class EncodedRows:
    """Rows as a prepared data set keeps them: nothing in them was fitted to a split."""

    sparse: np.ndarray
    """[n, n_categorical] int32 codes."""
    measured: np.ndarray
    """[n, n_measured] float32 raw numbers, NaN where null."""
    sequence_lengths: np.ndarray
    """[n, n_token_sequences] int32 lengths before any cut."""
    tokens: dict[str, tuple[Jagged, np.ndarray]]
    """By sequence: where its rows' tokens stand, and their int32 codes."""


def encode_rows(table: pa.Table, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> EncodedRows:
    """Encodes [n] raw rows that hold `columns_to_read`; values that no vocabulary has are rare ones."""
    n = table.num_rows
    codes = [vocabularies[c].encode(encode_values(table[c], f"column {c!r}")) for c in schema.categorical]
    tokens = {}
    for sequence in schema.token_sequences:
        jagged = parse_sequence(table, sequence)
        codes_of = encode_values(jagged.tokens, f"column {sequence.column!r}")
        tokens[sequence.name] = jagged, vocabularies[sequence.vocabulary].encode(codes_of)
    lengths = [jagged.full_lengths for jagged, _ in tokens.values()]
    return EncodedRows(
        sparse=np.stack(codes, axis=1) if codes else np.zeros((n, 0), np.int32),
        measured=read_measured(table, schema, np.ones(n, bool)),
        sequence_lengths=np.stack(lengths, axis=1) if lengths else np.zeros((n, 0), np.int32),
        tokens=tokens,
    )


def encode_source(source: Source, scan: Scan, vocabularies: dict[str, Vocabulary], folder: Path) -> None:
    """The second pass: writes every row's codes, raw numbers and sequences."""
    schema = source.schema
    columns = {layout.LABEL: pa.uint8(), layout.GROUP: pa.uint8()}
    if schema.day is not None:
        columns[layout.DAY] = pa.int16()
    widths = {layout.SPARSE: (pa.int32(), len(schema.categorical)), layout.DENSE: (pa.float32(), len(schema.measured))}
    widths[layout.SEQUENCE_LENGTH] = (pa.int32(), len(schema.token_sequences))
    columns |= {name: pa.list_(dtype, width) for name, (dtype, width) in widths.items() if width}
    if schema.target_item is not None:
        columns[layout.ITEM] = pa.int32()
    has_ids = any(scan.has_id.values())
    items, n_done = ItemList(), 0
    with ExitStack() as stack:
        rows = stack.enter_context(layout.RowWriter(folder / layout.ROWS_FILE, columns))
        tokens = {
            sequence.name: stack.enter_context(
                layout.JaggedWriter(folder / layout.tokens_file(sequence.name), sequence.name)
            )
            for sequence in schema.token_sequences
        }
        ids = stack.enter_context(_id_writer(folder)) if has_ids else None
        line = stack.enter_context(progress_line("encoding", len(scan.label)))
        for split in SPLITS:
            if not source.files[split]:
                continue
            first, wanted = n_done, columns_to_read(schema)
            if scan.has_id[split] and schema.id not in wanted:
                wanted.append(str(schema.id))
            for _, table in source.batches(split, wanted):
                n = table.num_rows
                found = encode_rows(table, schema, vocabularies)
                for name, (jagged, codes) in found.tokens.items():
                    tokens[name].add(jagged, codes)
                batch = {layout.LABEL: scan.label[n_done : n_done + n], layout.GROUP: scan.group[n_done : n_done + n]}
                batch |= {
                    layout.SPARSE: found.sparse,
                    layout.DENSE: found.measured,
                    layout.SEQUENCE_LENGTH: found.sequence_lengths,
                }
                if schema.day is not None:
                    batch[layout.DAY] = scan.day[n_done : n_done + n]
                if schema.target_item is not None:
                    batch[layout.ITEM] = items.number(encode_values(table[schema.target_item]))
                rows.add(batch)
                if ids is not None:
                    number = np.arange(n_done - first, n_done - first + n)
                    named = table[schema.id].combine_chunks() if scan.has_id[split] else pa.array(number)
                    ids.write_batch(pa.RecordBatch.from_arrays([pc.cast(named, pa.string())], [layout.ROW_ID]))
                n_done += n
                line.advance(n)
    if schema.target_item is not None:
        items.write(folder)
    if n_done != len(scan.label):
        raise InputError(
            f"the raw files changed while they were read ({len(scan.label)} rows, then {n_done}): run again"
        )


def _id_writer(folder: Path) -> pa.ipc.RecordBatchFileWriter:
    return pa.ipc.new_file(folder / layout.IDS_FILE, pa.schema([pa.field(layout.ROW_ID, pa.string())]))


def parse_sequence(table: pa.Table, sequence: TokenFeature) -> Jagged:
    """The tokens of a sequence, cut to its length."""
    column = table[sequence.column]
    if sequence.delimiter is None:
        jagged, full = parse_list(column, sequence.max_length, sequence.keep), length_column(sequence.name)
        if full not in table.column_names:
            return jagged
        return replace(jagged, full_lengths=table[full].to_numpy().astype(np.int32))  # the log was cut before
    return parse_delimited(column, sequence.delimiter, sequence.max_length, sequence.keep)


def columns_to_read(schema: Schema) -> list[str]:
    """What both passes ask of the source: raw columns, and categorical ones and sequences that are made of them."""
    lengths = [length_column(name) for name in schema.logs]
    return list(dict.fromkeys([*schema.source_columns, *schema.derived_categorical, *schema.logs, *lengths]))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """[n] float64 numbers, NaN where null; those beyond `MAX_NUMBER` are infinite."""
    array = as_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    numbers = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if np.any(np.abs(numbers) > MAX_NUMBER):
        numbers = np.where(np.abs(numbers) > MAX_NUMBER, np.copysign(np.inf, numbers), numbers)
    return numbers


def read_measured(table: pa.Table, schema: Schema, described: np.ndarray) -> np.ndarray:
    """[n, n_measured] float32, NaN where null; statistics of sequences, which are never null, for `described` rows."""
    values = np.zeros((table.num_rows, len(schema.measured)), np.float32)
    place = {column: index for index, column in enumerate(schema.measured)}
    for column in place.keys() - set(schema.derived_numeric):
        values[:, place[column]] = _numbers(table[column])
    for feature in schema.statistics:
        (sequence,) = [sequence for sequence in schema.token_sequences if sequence.name == feature.sequence]
        whole = table[sequence.column].filter(pa.array(described))
        columns = np.array([place[name] for name in feature.numeric])
        values[np.flatnonzero(described)[:, None], columns] = sequence_statistics(whole, sequence.delimiter)
    return values
