"""The two passes over the rows, by the threads of this process: raw files to digests, digests to encoded rows.

The rows may be taken in pieces, each of which could be read on another machine: see `on_ray`.
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
from recsys.prepare.in_place import settle_codes, values_of
from recsys.prepare.scan import Scan
from recsys.raw.source import Piece, Source
from recsys.schema.resolved import Schema
from recsys.system.progress import progress_line
from recsys.system.threads import in_threads


@dataclass(frozen=True)
class Work:
    """A piece of the rows, with what the scan found of them."""

    piece: Piece
    group: np.ndarray
    """[n] uint8."""
    hashes: np.ndarray
    """[n] uint64."""


def plan_work(source: Source, scan: Scan, n_rows: int | None = None) -> list[Work]:
    """All rows, in the order of the scan: each split as a whole, or in pieces of about `n_rows`.

    Raises:
        InputError: when the files do not hold what they held when they were scanned.
    """
    work, n_done = [], 0
    for split in PARTITIONS:
        for piece in source.pieces(split, n_rows):
            here = slice(n_done, n_done + piece.n_rows)
            work.append(Work(piece, scan.group[here], scan.hashes[here]))
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
    """Reads the rows of a piece once: keeps their digests in a file, and returns what was counted of them.

    Raises:
        InputError: when they cannot be read, or are not as many as the scan found.
    """
    schema = source.schema
    counts = Counts(schema, groups, config)

    def digest(part: tuple[slice, pa.Table]) -> tuple[pa.RecordBatch, Counts]:
        here, table = part
        found, own = digest_rows(table, schema), Counts(schema, groups, config)
        own.add(found, work.group[here], work.hashes[here])
        return found, own

    with ExitStack() as stack:
        sink, writer = stack.enter_context(pa.OSFile(str(path), "wb")), None
        for _, (found, own) in in_threads(digest, _parts(source, work.piece)):
            counts.merge(own)
            writer = writer or stack.enter_context(pa.ipc.new_stream(sink, found.schema))
            writer.write_batch(found)
    return counts


def _parts(source: Source, piece: Piece) -> Iterator[tuple[slice, pa.Table]]:
    """The tables of a piece, and which of its rows they are."""
    n_done = 0
    for _, table in source.batches(piece.split, columns_to_read(source.schema), piece):
        here = slice(n_done, n_done + table.num_rows)
        n_done = here.stop
        if n_done <= piece.n_rows:
            yield here, table
    if n_done != piece.n_rows:
        raise InputError(f"{piece.split} files changed while they were read: run again")


def encode_piece(path: Path, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> Iterator[EncodedRows]:
    """The encoded rows of a piece, from its digests."""
    for _, rows in in_threads(lambda digest: encode_digest(digest, schema, vocabularies), read_stream(path)):
        yield rows


def read_stream(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow stream."""
    if path.stat().st_size == 0:  # of no rows
        return
    # Not mapped: what was read is let go of.
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def digest_all(source: Source, scan: Scan, config: PrepareConfig, folder: Path) -> Fitted:
    """The first pass: the rows are counted, and written with codes of their batches."""
    schema, counts = source.schema, Counts(source.schema, scan.groups, config)

    def digest(part: tuple[Work, slice, pa.Table]) -> tuple[EncodedRows, pa.RecordBatch, Counts]:
        work, here, table = part
        found, own = digest_rows(table, schema), Counts(schema, scan.groups, config)
        own.add(found, work.group[here], work.hashes[here])
        return encode_digest(found, schema), values_of(found, schema), own

    def rows() -> Iterator[EncodedRows]:
        parts = ((work, *part) for work in plan_work(source, scan) for part in _parts(source, work.piece))
        with ExitStack() as stack:
            sink, writer = stack.enter_context(pa.OSFile(str(folder / layout.VALUES_FILE), "wb")), None
            for _, (found, values, own) in in_threads(digest, parts):
                counts.merge(own)
                writer = writer or stack.enter_context(pa.ipc.new_stream(sink, values.schema))
                writer.write_batch(values)
                yield found

    write_rows(rows(), schema, scan, folder, "reading")
    return counts.finish()


def encode_all(source: Source, scan: Scan, fitted: Fitted, folder: Path) -> None:
    """The second pass: the rows get the codes of the vocabularies."""
    path = folder / layout.VALUES_FILE
    with progress_line("encoding", len(scan.label)) as line:
        for n_rows in settle_codes(read_stream(path), source.schema, fitted.vocabularies, folder):
            line.advance(n_rows)
    path.unlink()
