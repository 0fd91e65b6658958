"""Sequences built from the log: for each row, the items of earlier rows with the same key."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.jagged import gather_indices, offsets_of
from recsys.data.vocabulary import Codes
from recsys.raw.order.moments import Timeline
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


@dataclass(frozen=True)
class LogRows:
    """The columns that a history is built from, for all rows of all splits."""

    key: Codes
    item: Codes
    moments: Timeline
    is_step: np.ndarray
    """[n] bool: whether a row adds a step to later histories."""
    part: np.ndarray
    """[n] uint8: rows of one part above 0 are evaluated together: valid rows, test rows, those of a forward window."""


def build_history(log: LogSequence, rows: LogRows) -> History:
    """Builds each row's history: the last `max_length` steps before it in time, never the row itself.

    If ties are excluded, a row's steps have a strictly lower `order`, and the order of rows in the files has no effect.
    With `history_until: split`, a row of a part above 0 has no step from rows of its part.

    Args:
        log: the settings of the sequence.
        rows: all rows. A row with a null key, item or order adds no step; a row with a null key or order has an empty
            history.
    """
    items = rows.item
    has_history = rows.moments.is_valid & (rows.key.codes >= 0)
    time_rank = rows.moments.dense_ranks(has_ties=log.ties == "exclude")
    n_ranks = int(time_rank.max(initial=0)) + 1
    # One number orders rows by key, then by time: a history is a contiguous range of it.
    key = rows.key.codes.astype(np.int64) * n_ranks
    sort_key = key + time_rank

    steps = np.flatnonzero(has_history & rows.is_step & (items.codes >= 0))
    text_rank = np.asarray(pc.rank(items.values, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
    steps = steps[np.lexsort((text_rank[items.codes[steps]], sort_key[steps]))]
    ends = np.searchsorted(sort_key[steps], sort_key, side="left")
    firsts = np.searchsorted(sort_key[steps], key, side="left")
    ends, firsts = np.where(has_history, ends, 0), np.where(has_history, firsts, 0)
    starts = np.maximum(firsts, ends - log.max_length)
    full_lengths = (ends - firsts).astype(np.int32)
    pieces, n_steps = [items.codes[steps]], len(steps)
    for part in np.unique(rows.part[rows.part > 0]) if log.history_until == "split" else ():
        selected, is_other = rows.part == part, rows.part[steps] != part
        n_others = np.append(0, np.cumsum(is_other))  # steps of other parts before each position
        last, first = n_others[ends[selected]], n_others[firsts[selected]]
        full_lengths[selected] = last - first
        kept, first, last = _used(np.maximum(first, last - log.max_length), last, int(n_others[-1]))
        starts[selected], ends[selected] = first + n_steps, last + n_steps
        pieces.append(items.codes[steps[is_other][kept]])
        n_steps += len(pieces[-1])
    return History(items.values.take(pa.array(np.concatenate(pieces))), starts, ends, full_lengths)


def _used(starts: np.ndarray, ends: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the positions below n that some range uses, ascending, and the ranges among them."""
    n_open = np.bincount(starts, minlength=n + 1) - np.bincount(ends, minlength=n + 1)
    is_used = np.cumsum(n_open)[:n] > 0
    n_before = np.append(0, np.cumsum(is_used))
    return np.flatnonzero(is_used), n_before[starts], n_before[ends]
