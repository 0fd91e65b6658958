"""Leave-last-out split: each key's last row in time is test, the row before it is valid."""

import numpy as np

from recsys.data.vocabulary import Codes
from recsys.raw.order.moments import Timeline


def n_later_rows(key: Codes, moments: Timeline, min_rows: int) -> np.ndarray:
    """Returns the [n] int64 number of later rows with the same key; rows of equal time keep their order.

    It is -1 if the key or the order is null, and if the key has fewer rows than `min_rows`.

    Args:
        key: the keys of [n] rows, in the order of the files.
        moments: their times.
        min_rows: the least number of rows of a key.
    """
    is_valid = moments.is_valid & (key.codes >= 0)
    time_rank = moments.dense_ranks(has_ties=False)
    order = np.lexsort((time_rank, np.where(is_valid, key.codes, -1)))
    order = order[np.count_nonzero(~is_valid) :]
    n_later = np.full(len(is_valid), -1, np.int64)
    sorted_key = key.codes[order]
    ends = np.searchsorted(sorted_key, sorted_key, side="right")
    sizes = ends - np.searchsorted(sorted_key, sorted_key, side="left")
    n_later[order] = np.where(sizes >= min_rows, ends - 1 - np.arange(len(order)), -1)
    return n_later
