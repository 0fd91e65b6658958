"""Leave-last-out split: each key's last row in time is test, the row before it is valid."""

import numpy as np
import pyarrow as pa

from recsys.raw.history import dense_moments, owners
from recsys.schema.config import LeaveLastOut


def n_later_rows(config: LeaveLastOut, rows: pa.Table) -> np.ndarray:
    """Returns the [n] int64 number of later rows with the same key.

    It is -1 if the key or the order is null, and if the key has fewer rows than `min_rows`.

    Args:
        config: defines the columns and `min_rows`.
        rows: the rows, in the order of the files.
    """
    is_valid, key = owners(rows[config.key], rows[config.order])
    time_rank = dense_moments(rows[config.order], "file")
    order = np.lexsort((time_rank, np.where(is_valid, key, -1)))
    order = order[np.count_nonzero(~is_valid) :]
    n_later = np.full(rows.num_rows, -1, np.int64)
    sorted_key = key[order]
    ends = np.searchsorted(sorted_key, sorted_key, side="right")
    sizes = ends - np.searchsorted(sorted_key, sorted_key, side="left")
    n_later[order] = np.where(sizes >= config.min_rows, ends - 1 - np.arange(len(order)), -1)
    return n_later
