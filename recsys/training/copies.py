"""Copies among the rows of a prepared data set: rows with equal features at an equal time."""

import numpy as np

from recsys.data.jagged import row_and_position
from recsys.data.store import RowStore
from recsys.system.hashing import GOLDEN, mix


def content_hashes(store: RowStore, rows: np.ndarray) -> np.ndarray:
    """Returns [n] uint64 hashes of the features and times of rows; the label is no part of them."""
    hashes, schema = np.zeros(len(rows), np.uint64), store.schema
    time = store.times(rows)
    if time is not None:
        hashes = mix(hashes + time.astype(np.uint64), 0)
    columns = [store.read_sparse(rows).astype(np.uint64)] if schema.categorical else []
    if schema.measured:
        # -0.0 + 0 is 0.0
        columns.append((store.read_measured(rows) + np.float32(0)).view(np.uint32).astype(np.uint64))
    with np.errstate(over="ignore"):
        for matrix in columns:
            for column in matrix.T:
                hashes = mix(hashes * GOLDEN + column, 0)
        for sequence in schema.token_sequences:
            codes, lengths = store.read_tokens(sequence.name, rows)
            row, position = row_and_position(lengths)
            sums = np.zeros(len(rows), np.uint64)
            np.add.at(sums, row, mix(codes.astype(np.uint64) + position.astype(np.uint64) * GOLDEN, 0))
            hashes = mix(hashes * GOLDEN + sums + lengths.astype(np.uint64), 0)
    return hashes
