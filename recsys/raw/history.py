"""Sequences built from the log itself: for each row, the items of earlier rows with the same key."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.jagged import gather_indices, offsets_of
from recsys.raw.derive import holds
from recsys.raw.tokens import as_array, encode_values
from recsys.schema.config import LogSequence


@dataclass(frozen=True)
class History:
    """The steps of all keys end to end, rising in time within each; row i's are steps[starts[i]:ends[i]]."""

    steps: pa.Array
    """[n_steps] items."""
    starts: np.ndarray
    """[n] int64, in the order of the rows that it was built from."""
    ends: np.ndarray
    """[n] int64."""
    full_lengths: np.ndarray
    """[n] int32: steps before the cut."""

    def lists(self, first: int, n: int) -> pa.LargeListArray:
        """The sequences of the rows first .. first + n."""
        starts, ends = self.starts[first : first + n], self.ends[first : first + n]
        steps = self.steps.take(pa.array(gather_indices(starts, ends - starts)))
        return pa.LargeListArray.from_arrays(pa.array(offsets_of(ends - starts)), steps)


def build_history(log: LogSequence, rows: pa.Table) -> History:
    """The last `max_length` steps that precede each row in time, never the row itself.

    Where ties are excluded, a row's steps have a strictly lower `order`, and the order of rows in the files plays no
    part.

    Args:
        log: which columns; rows with a null key, item or order leave no step, those without key or order have none.
        rows: every row of every split.
    """
    items = encode_values(rows[log.item])
    is_dated, owner = owners(rows[log.key], rows[log.order])
    moment = dense_moments(rows[log.order], log.ties)
    span = int(moment.max(initial=0)) + 1
    # One number says whose row it is and when: histories are runs of it.
    owner = owner * span
    place = owner + moment

    is_step = is_dated & (items.codes >= 0)
    if log.where is not None:
        is_step &= holds(log.where, rows[log.where.column])
    steps = np.flatnonzero(is_step)
    text_rank = np.asarray(pc.rank(items.values, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
    steps = steps[np.lexsort((text_rank[items.codes[steps]], place[steps]))]
    ends = np.searchsorted(place[steps], place, side="left")
    firsts = np.searchsorted(place[steps], owner, side="left")
    ends, firsts = np.where(is_dated, ends, 0), np.where(is_dated, firsts, 0)
    starts = np.maximum(firsts, ends - log.max_length)
    return History(items.values.take(pa.array(items.codes[steps])), starts, ends, (ends - firsts).astype(np.int32))


def owners(key: pa.ChunkedArray, order: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """[n] bool: whether a row has both key and order, and [n] int64 numbers of its key."""
    keys = encode_values(key)
    is_dated = np.asarray(pc.is_valid(order)) & (keys.codes >= 0)
    return is_dated, _first_of_equal(keys.values)[keys.codes]


def dense_moments(order: pa.ChunkedArray, ties: Literal["exclude", "file"]) -> np.ndarray:
    """[n] int64 ranks in time; rows of the same moment share one, or follow each other in the order of the files."""
    tiebreaker = "dense" if ties == "exclude" else "first"
    return pc.rank(as_array(order), sort_keys="ascending", tiebreaker=tiebreaker).to_numpy().astype(np.int64)


def _first_of_equal(texts: pa.Array) -> np.ndarray:
    """[n] int64: the place of the first text equal to each, with one more entry, for null."""
    encoded = texts.dictionary_encode().indices
    return np.append(np.asarray(encoded).astype(np.int64), -1)
