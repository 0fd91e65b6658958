"""The two passes over the rows in the threads of this process: raw files to digests, digests to encoded rows.

The rows can be split into pieces, which different machines can read: see `on_ray`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data import layout
from recsys.data.config import PrepareConfig
from recsys.data.groups import PARTITIONS, Group
from recsys.data.store import EncodedRows
from recsys.data.vocabulary import Vocabulary
from recsys.errors import InputError
from recsys.prepare.digest import columns_to_read, digest_rows
from recsys.prepare.encode import encode_digest, write_rows
from recsys.prepare.fit import Counts, Fitted
from recsys.prepare.in_place import replace_codes, values_of
from recsys.prepare.scan import Scan
from recsys.raw.blocks import Block
from recsys.raw.source import Piece, Source
from recsys.schema.resolved import Schema
from recsys.system.progress import progress_line
from recsys.system.threads import in_threads


@dataclass(frozen=True)
class Work:
    """A piece of the rows, with their groups and id hashes."""

    piece: Piece
    group: np.ndarray
    """[n] uint8."""
    hashes: np.ndarray
    """[n] uint64."""
    first_row: int
    """Number of the first row among the rows of all partitions."""


def plan_work(source: Source, scan: Scan, n_rows: int | None = None) -> list[Work]:
    """Splits all rows into pieces, in the order of the scan: one per split, or pieces of about `n_rows`.

    Raises:
        InputError: when the number of rows differs from that of the scan.
    """
    work, n_done = [], 0
    for split in PARTITIONS:
        for piece in source.pieces(split, n_rows):
            row_slice = slice(n_done, n_done + piece.n_rows)
            work.append(Work(piece, scan.group[row_slice], scan.hashes[row_slice], n_done))
            n_done += piece.n_rows
    if n_done != len(scan.label):
        raise InputError(f"the raw files changed while they were read (they had {len(scan.label)} rows): run again")
    return work


def digest_piece(
    source: Source,
    work: Work,
    groups: list[Group],
    config: PrepareConfig,
    path: Path,
) -> Counts:
    """Reads the rows of a piece once, writes their digests to a file, and returns their counts.

    Raises:
        InputError: when the rows cannot be read, or their number differs from that of the scan.
    """
    schema = source.schema
    counts = Counts(schema, groups, config)

    def digest_chunk(chunk: tuple[slice, Block]) -> tuple[pa.RecordBatch, Counts]:
        return _digest_block(work, *chunk, schema, Counts(schema, groups, config))

    with ExitStack() as stack:
        sink, writer = stack.enter_context(pa.OSFile(str(path), "wb")), None
        for _, (digest, batch_counts) in in_threads(digest_chunk, _chunks(source, work.piece)):
            counts.merge(batch_counts)
            writer = writer or stack.enter_context(pa.ipc.new_stream(sink, digest.schema))
            writer.write_batch(digest)
    return counts


def _digest_block(
    work: Work, row_slice: slice, block: Block, schema: Schema, counts: Counts
) -> tuple[pa.RecordBatch, Counts]:
    """Returns the digest of a block's rows, and their counts."""
    try:
        digest = digest_rows(block.table, schema)
    except InputError as error:
        raise InputError(f"{block.span}: {error}") from error
    counts.add(digest, work.group[row_slice], work.hashes[row_slice], work.first_row + row_slice.start)
    return digest, counts


def _chunks(source: Source, piece: Piece) -> Iterator[tuple[slice, Block]]:
    """Yields the blocks of a piece, each with the slice of its rows in the piece."""
    n_done = 0
    for block in source.blocks(piece.split, columns_to_read(source.schema), piece):
        row_slice = slice(n_done, n_done + block.table.num_rows)
        n_done = row_slice.stop
        if n_done <= piece.n_rows:
            yield row_slice, block
    if n_done != piece.n_rows:
        raise InputError(f"{piece.split} files changed while they were read: run again")


def encode_piece(path: Path, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> Iterator[EncodedRows]:
    """Yields the encoded rows of a piece, from its digests."""
    for _, rows in in_threads(lambda digest: encode_digest(digest, schema, vocabularies), read_stream(path)):
        yield rows


def read_stream(path: Path) -> Iterator[pa.RecordBatch]:
    """Yields the batches of an Arrow stream."""
    if path.stat().st_size == 0:  # the stream has no rows
        return
    # Not memory-mapped, so that batches already read are freed.
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def digest_all(source: Source, scan: Scan, config: PrepareConfig, folder: Path) -> Fitted:
    """The first pass: counts the rows, and writes them with the codes of their batches."""
    schema, counts = source.schema, Counts(source.schema, scan.groups, config)

    def digest_chunk(chunk: tuple[Work, slice, Block]) -> tuple[EncodedRows, pa.RecordBatch, Counts]:
        digest, batch_counts = _digest_block(*chunk, schema, Counts(schema, scan.groups, config))
        return encode_digest(digest, schema), values_of(digest, schema), batch_counts

    def rows() -> Iterator[EncodedRows]:
        chunks = ((work, *chunk) for work in plan_work(source, scan) for chunk in _chunks(source, work.piece))
        with ExitStack() as stack:
            sink, writer = stack.enter_context(pa.OSFile(str(folder / layout.VALUES_FILE), "wb")), None
            for _, (encoded, values, batch_counts) in in_threads(digest_chunk, chunks):
                counts.merge(batch_counts)
                writer = writer or stack.enter_context(pa.ipc.new_stream(sink, values.schema))
                writer.write_batch(values)
                yield encoded

    write_rows(rows(), schema, scan, folder, "reading")
    return counts.finish()


def encode_all(source: Source, scan: Scan, fitted: Fitted, folder: Path) -> None:
    """The second pass: replaces the codes of the rows by those of the vocabularies."""
    path = folder / layout.VALUES_FILE
    with progress_line("encoding", len(scan.label)) as line:
        for n_rows in replace_codes(read_stream(path), source.schema, fitted.vocabularies, folder):
            line.advance(n_rows)
    path.unlink()
