"""Leave-last-out: each key's last row in time is test, the one before it valid."""

import numpy as np
import pyarrow as pa

from recsys.raw.history import dense_moments, owners
from recsys.schema.config import LeaveLastOut


def last_places(config: LeaveLastOut, rows: pa.Table) -> np.ndarray:
    """[n] int64: how many rows of the same key follow each in time, -1 where there is no telling.

    That is where the key or the order is null, and where the key has fewer rows than `min_rows`.

    Args:
        config: which columns.
        rows: the rows, in the order of the files.
    """
    is_dated, owner = owners(rows[config.key], rows[config.order])
    moment = dense_moments(rows[config.order], "file")
    order = np.lexsort((moment, np.where(is_dated, owner, -1)))
    order = order[np.count_nonzero(~is_dated) :]
    found = np.full(rows.num_rows, -1, np.int64)
    mine = owner[order]
    ends = np.searchsorted(mine, mine, side="right")
    sizes = ends - np.searchsorted(mine, mine, side="left")
    found[order] = np.where(sizes >= config.min_rows, ends - 1 - np.arange(len(order)), -1)
    return found
