"""Encodes digests with the vocabularies of the training rows, in memory or into the files of a prepared data set."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data import layout
from recsys.data.store import EncodedRows
from recsys.data.vocabulary import Codes, Vocabulary
from recsys.errors import InputError
from recsys.prepare.digest import categorical_codes, digest_rows, measured, sequence_lengths, token_codes
from recsys.prepare.scan import Scan
from recsys.prepare.writers import ItemList, JaggedWriter, RowWriter
from recsys.raw.blocks import Block
from recsys.schema.resolved import Schema
from recsys.system.progress import progress_line
from recsys.system.threads import in_background


def encode_rows(table: pa.Table, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> EncodedRows:
    """Encodes [n] raw rows with the columns of `columns_to_read`; values outside a vocabulary get the rare id."""
    return encode_digest(digest_rows(table, schema), schema, vocabularies)


def encode_block(block: Block, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> EncodedRows:
    """Encodes the rows of a block.

    Raises:
        InputError: for a value that cannot be read, with its file.
    """
    try:
        return encode_rows(block.table, schema, vocabularies)
    except InputError as error:
        raise InputError(f"{block.span}: {error}") from error


def encode_digest(
    digest: pa.RecordBatch, schema: Schema, vocabularies: Mapping[str, Vocabulary] | None = None
) -> EncodedRows:
    """Encodes [n] rows from their digest; without vocabularies, codes index the distinct values of the digest."""

    def encode(codes: Codes, vocabulary: str) -> np.ndarray:
        return codes.codes if vocabularies is None else vocabularies[vocabulary].encode(codes)

    codes = [encode(categorical_codes(digest, name), name) for name in schema.categorical]
    tokens = {}
    for sequence in schema.token_sequences:
        offsets, sequence_codes = token_codes(digest, sequence.name)
        tokens[sequence.name] = offsets, encode(sequence_codes, sequence.vocabulary)
    return EncodedRows(
        sparse=np.stack(codes, axis=1) if codes else np.zeros((digest.num_rows, 0), np.int32),
        measured=measured(digest, schema),
        sequence_lengths=sequence_lengths(digest, schema),
        tokens=tokens,
        items=categorical_codes(digest, schema.target_item) if schema.target_item is not None else None,
    )


def write_rows(rows: Iterable[EncodedRows], schema: Schema, scan: Scan, folder: Path, title: str = "encoding") -> None:
    """Writes the rows of all splits, in the order of the scan; `title` is shown on the progress line."""
    columns = {layout.LABEL: pa.uint8(), layout.GROUP: pa.uint8()}
    if schema.day is not None:
        columns[layout.DAY] = pa.int16()
    if scan.user is not None:
        columns[layout.USER] = pa.int32()
    if scan.time is not None:
        columns[layout.TIME] = pa.int64()
    if scan.weight is not None:
        columns[layout.WEIGHT] = pa.float32()
    widths = {layout.SPARSE: (pa.int32(), len(schema.categorical)), layout.DENSE: (pa.float32(), len(schema.measured))}
    widths[layout.SEQUENCE_LENGTH] = (pa.int32(), len(schema.token_sequences))
    columns |= {name: pa.list_(dtype, width) for name, (dtype, width) in widths.items() if width}
    if schema.target_item is not None:
        columns[layout.ITEM] = pa.int32()
    items, n_done = ItemList(), 0
    with ExitStack() as stack:
        writer = stack.enter_context(RowWriter(folder / layout.ROWS_FILE, columns))
        add_rows, add_tokens = stack.enter_context(in_background(writer.add)), {}
        for sequence in schema.token_sequences:
            jagged = JaggedWriter(folder / layout.tokens_file(sequence.name), sequence.name)
            add_tokens[sequence.name] = stack.enter_context(in_background(stack.enter_context(jagged).add))
        line = stack.enter_context(progress_line(title, len(scan.label)))
        for encoded in rows:
            n = len(encoded.sparse)
            for name, (offsets, codes) in encoded.tokens.items():
                add_tokens[name](offsets, codes)
            row_slice = slice(n_done, n_done + n)
            batch = {
                layout.LABEL: scan.label[row_slice],
                layout.GROUP: scan.group[row_slice],
                layout.SPARSE: encoded.sparse,
            }
            batch |= {layout.DENSE: encoded.measured, layout.SEQUENCE_LENGTH: encoded.sequence_lengths}
            if schema.day is not None:
                batch[layout.DAY] = scan.day[row_slice]
            if scan.user is not None:
                batch[layout.USER] = scan.user[row_slice]
            if scan.time is not None:
                batch[layout.TIME] = scan.time[row_slice]
            if scan.weight is not None:
                batch[layout.WEIGHT] = scan.weight[row_slice]
            if encoded.items is not None:
                batch[layout.ITEM] = items.number(encoded.items)
            add_rows(batch)
            n_done += n
            line.advance(n)
    assert n_done == len(scan.label)
    if schema.target_item is not None:
        items.write(folder)
