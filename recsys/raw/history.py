"""Sequences built from the log: for each row, the items of earlier rows with the same key."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.jagged import gather_indices, offsets_of
from recsys.raw.derive import meets_condition
from recsys.raw.tokens import as_array, encode_values
from recsys.schema.config import LogSequence


@dataclass(frozen=True)
class History:
    """The steps of all keys end to end, by time within a key; row i has steps[starts[i]:ends[i]]."""

    steps: pa.Array
    """[n_steps] items."""
    starts: np.ndarray
    """[n] int64, in the order of the input rows."""
    ends: np.ndarray
    """[n] int64."""
    full_lengths: np.ndarray
    """[n] int32: steps before truncation."""

    def lists(self, first: int, n: int) -> pa.LargeListArray:
        """Returns the sequences of rows first .. first + n."""
        starts, ends = self.starts[first : first + n], self.ends[first : first + n]
        steps = self.steps.take(pa.array(gather_indices(starts, ends - starts)))
        return pa.LargeListArray.from_arrays(pa.array(offsets_of(ends - starts)), steps)


def build_history(log: LogSequence, rows: pa.Table) -> History:
    """Builds each row's history: the last `max_length` steps before it in time, never the row itself.

    If ties are excluded, a row's steps have a strictly lower `order`, and the order of rows in the files has no effect.

    Args:
        log: defines the columns. A row with a null key, item or order adds no step; a row with a null key or order has
            an empty history.
        rows: all rows of all splits.
    """
    items = encode_values(rows[log.item])
    has_history, key = owners(rows[log.key], rows[log.order])
    time_rank = dense_moments(rows[log.order], log.ties)
    n_ranks = int(time_rank.max(initial=0)) + 1
    # One number orders rows by key, then by time: a history is a contiguous range of it.
    key = key * n_ranks
    sort_key = key + time_rank

    is_step = has_history & (items.codes >= 0)
    if log.where is not None:
        is_step &= meets_condition(log.where, rows[log.where.column])
    steps = np.flatnonzero(is_step)
    text_rank = np.asarray(pc.rank(items.values, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
    steps = steps[np.lexsort((text_rank[items.codes[steps]], sort_key[steps]))]
    ends = np.searchsorted(sort_key[steps], sort_key, side="left")
    firsts = np.searchsorted(sort_key[steps], key, side="left")
    ends, firsts = np.where(has_history, ends, 0), np.where(has_history, firsts, 0)
    starts = np.maximum(firsts, ends - log.max_length)
    return History(items.values.take(pa.array(items.codes[steps])), starts, ends, (ends - firsts).astype(np.int32))


def owners(key: pa.ChunkedArray, order: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Returns [n] bool, whether a row has both key and order, and the [n] int64 numbers of the keys."""
    keys = encode_values(key)
    is_valid = np.asarray(pc.is_valid(order)) & (keys.codes >= 0)
    return is_valid, _number_texts(keys.values)[keys.codes]


def dense_moments(order: pa.ChunkedArray, ties: Literal["exclude", "file"]) -> np.ndarray:
    """Returns [n] int64 time ranks; rows with equal time share a rank or are ranked in the order of the files."""
    tiebreaker = "dense" if ties == "exclude" else "first"
    return pc.rank(as_array(order), sort_keys="ascending", tiebreaker=tiebreaker).to_numpy().astype(np.int64)


def _number_texts(texts: pa.Array) -> np.ndarray:
    """Returns [n + 1] int64 numbers, equal for equal texts; the last entry, -1, is for null."""
    encoded = texts.dictionary_encode().indices
    return np.append(np.asarray(encoded).astype(np.int64), -1)
