"""The latest history of each known key of the log, such as each user: what a request without its own list is given.

Shapes: n rows of a block, K known keys.
"""

from dataclasses import replace

import numpy as np

from recsys.data.dataset import PreparedDataset
from recsys.data.jagged import gather_indices, offsets_of
from recsys.data.rows import BLOCK_ROWS
from recsys.data.store import EncodedRows
from recsys.data.vocabulary import N_RESERVED


class LatestHistories:
    """Reads the history of the last row of each key in a log sequence, followed by the item of this row.

    Args:
        dataset: the data set; all its rows count.
        sequence: a log sequence without a condition on its steps, whose key and item are categorical columns.
    """

    def __init__(self, dataset: PreparedDataset, sequence: str) -> None:
        schema, self._store = dataset.manifest.schema_, dataset.store
        log = schema.logs[sequence]
        self._sequence, self._key = sequence, schema.categorical.index(log.key)
        self._item = schema.categorical.index(log.item)
        feature = next(s for s in schema.token_sequences if s.name == sequence)
        self._max_length, self._number = feature.max_length, [s.name for s in schema.token_sequences].index(sequence)
        self._row_of_key = np.full(dataset.vocabularies[log.key].n_codes, -1, np.int64)
        position_of_key = np.full(len(self._row_of_key), -1, np.int64)
        for start in range(0, dataset.n_rows, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, dataset.n_rows))
            key = self._store.read_sparse(rows)[:, self._key]
            position = self._store.sequence_lengths(sequence, rows).astype(np.int64)
            order = np.lexsort((rows, position, key))
            is_last = np.append(key[order][1:] != key[order][:-1], True)
            last, row = key[order][is_last], rows[order][is_last]
            is_later = position[row - start] >= position_of_key[last]
            self._row_of_key[last[is_later]] = row[is_later]
            position_of_key[last[is_later]] = position[row[is_later] - start]
        self._row_of_key[:N_RESERVED] = -1  # rare and missing keys cannot be told apart

    def fill(self, rows: EncodedRows, is_filled: np.ndarray) -> EncodedRows:
        """Returns the rows with the latest history of their keys, where `is_filled`; empty for unknown keys.

        Args:
            rows: n rows whose keys are encoded.
            is_filled: [n] bool.
        """
        n = len(rows.sparse)
        row = np.where(is_filled, self._row_of_key[rows.sparse[:, self._key]], -1)
        known = np.flatnonzero(row >= 0)
        codes, lengths = self._store.read_tokens(self._sequence, row[known])
        item = self._store.read_sparse(row[known])[:, self._item]
        n_kept = np.minimum(lengths.astype(np.int64), self._max_length - 1)
        # each key's last events, then the item of its last row
        ends = np.cumsum(n_kept + 1)
        kept = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
        is_item = np.zeros(len(kept), bool)
        is_item[ends - 1] = True
        kept[is_item] = item
        kept[~is_item] = codes[gather_indices(np.cumsum(lengths, dtype=np.int64) - n_kept, n_kept)]

        given_offsets, given = rows.tokens[self._sequence]
        given_lengths = np.where(is_filled, 0, np.diff(given_offsets))
        n_events = given_lengths.copy()
        n_events[known] = n_kept + 1
        offsets = offsets_of(n_events)
        tokens = np.empty(int(offsets[-1]), np.int32)
        tokens[gather_indices(offsets[:-1][known], n_kept + 1)] = kept
        tokens[gather_indices(offsets[:-1], given_lengths)] = given[gather_indices(given_offsets[:-1], given_lengths)]
        sequence_lengths = rows.sequence_lengths.copy()
        full_lengths = np.zeros(n, np.int32)
        full_lengths[known] = self._store.sequence_lengths(self._sequence, row[known]) + 1
        sequence_lengths[is_filled, self._number] = full_lengths[is_filled]
        return replace(
            rows, tokens=rows.tokens | {self._sequence: (offsets, tokens)}, sequence_lengths=sequence_lengths
        )
