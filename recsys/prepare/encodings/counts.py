"""Counts rows and clicks of the values that are encoded, in the rows that were written: by group, and before each row.

Shapes: n rows of all partitions.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recsys.data import layout
from recsys.data.encodings.counting import count_values
from recsys.data.encodings.past import count_past
from recsys.data.encodings.tokens import encoded_sequences
from recsys.data.groups import NO_LABEL, PARTITIONS
from recsys.data.store import RowStore
from recsys.data.vocabulary import Vocabulary
from recsys.errors import InputError
from recsys.prepare.scan import Scan, judged_parts
from recsys.raw.logs import read_order
from recsys.raw.order.moments import Moments, join_moments
from recsys.raw.source import Source
from recsys.schema.resolved import Schema
from recsys.system.progress import progress_line


def read_time_ranks(source: Source, scan: Scan) -> np.ndarray | None:
    """Reads the times that encodings by earlier rows go by, before long work starts.

    Returns:
        [n] int64 ranks of the rows' times, from 1; 0 for a null, and for rows of files that are encoded by all fitting
        rows. None without such encodings.

    Raises:
        InputError: for an order that has no common meaning, or labeled files that lack it.
    """
    past = source.schema.encodings_past
    if past is None or not source.schema.past_encoded:
        return None
    role, is_day = "the order of schema.encodings_past", past.order == source.schema.day
    moments: list[Moments] = []
    is_read = np.zeros(len(scan.label), bool)
    n_before = 0
    for split in PARTITIONS:
        rows = slice(n_before, n_before + source.n_rows(split))
        n_before = rows.stop
        has_past = split == "train" or (past.history_until == "row" and bool(np.any(scan.label[rows] != NO_LABEL)))
        if has_past and rows.stop > rows.start:
            if past.order not in source.all_columns_of(split):
                raise InputError(
                    f"schema.encodings_past: {split} files with labels lack the order {past.order!r}, which "
                    "history_until: row needs: add the column, or set history_until to split"
                )
            is_read[rows] = True
            for block in source.blocks(split, [past.order]):
                moments += read_order(source, block.parts(), past.order, role, is_day)
    timeline = join_moments(moments, f"{role} (column {past.order!r})")
    ranks = np.zeros(len(scan.label), np.int64)
    ranks[is_read] = np.where(timeline.is_valid, timeline.dense_ranks(has_ties=True), 0)
    return ranks


def write_value_counts(folder: Path, schema: Schema, scan: Scan, vocabularies: Mapping[str, Vocabulary]) -> None:
    """Counts rows and clicks of each value by group."""
    if not schema.encodings:
        return
    store = RowStore.open(folder, schema, len(scan.label))
    sequences = encoded_sequences(schema)
    features = [name for name in schema.encodings if name in schema.categorical]
    columns = [schema.categorical.index(name) for name in features]
    n_codes = [vocabularies[name].n_codes for name in features]
    with progress_line("counting encoded values", len(scan.label)) as line:
        counts = count_values(
            store.read_sparse,
            scan.label,
            scan.group,
            columns,
            n_codes,
            len(scan.groups),
            line.advance,
            [store.tokens[sequence.name] for sequence in sequences],
            [vocabularies[sequence.vocabulary].n_codes for sequence in sequences],
        )
    np.save(folder / layout.ENCODING_COUNTS_FILE, np.concatenate([[of.n_rows, of.n_clicks] for of in counts], axis=1))


def write_past_counts(
    folder: Path, schema: Schema, scan: Scan, vocabularies: Mapping[str, Vocabulary], time_ranks: np.ndarray
) -> None:
    """Counts the rows and clicks before each row, feature by feature; memory is a few numbers per row.

    Args:
        folder: the rows that were written.
        schema: the roles of the columns.
        scan: labels and parts of the rows.
        vocabularies: the vocabularies of the encoded features.
        time_ranks: [n], as `read_time_ranks` returns them.
    """
    assert schema.encodings_past is not None
    store, n = RowStore.open(folder, schema, len(scan.label)), len(scan.label)
    by_time = np.argsort(time_ranks, kind="stable")[np.count_nonzero(time_ranks == 0) :]
    part = judged_parts(scan)
    is_train = scan.split == PARTITIONS.index("train")
    has_past = (scan.label != NO_LABEL) & (is_train | (schema.encodings_past.history_until == "row"))
    shape = (n, 2 * len(schema.past_encoded))
    counts = np.lib.format.open_memmap(folder / layout.PAST_COUNTS_FILE, "w+", np.int32, shape)
    with progress_line("counting earlier rows", n * len(schema.past_encoded)) as line:
        for index, name in enumerate(schema.past_encoded):
            column, codes = schema.categorical.index(name), np.empty(n, np.int32)
            for start in range(0, n, layout.BLOCK_ROWS):
                rows = np.arange(start, min(start + layout.BLOCK_ROWS, n))
                codes[rows] = store.read_sparse(rows)[:, column]
            past = count_past(codes, scan.label, part, time_ranks, by_time, vocabularies[name].n_codes)
            past[~has_past] = -1
            counts[:, 2 * index : 2 * index + 2] = past
            line.advance(n)
    counts.flush()
