"""Counts rows and clicks of the values of encoded features by group, in one pass over the prepared rows.

Shapes: n rows, C codes of a feature (missing, rare, and its values), G groups of rows.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from recsys.data.encodings.table import ValueCounts
from recsys.data.groups import NO_LABEL
from recsys.data.layout import BLOCK_ROWS


def count_values(
    read_codes: Callable[[np.ndarray], np.ndarray],
    label: np.ndarray,
    group: np.ndarray,
    columns: Sequence[int],
    n_codes: Sequence[int],
    n_groups: int,
    on_rows: Callable[[int], None] = lambda n: None,
) -> list[ValueCounts]:
    """Counts rows with a label; memory is that of the counts and of one block of rows.

    Args:
        read_codes: maps [n] row numbers to the [n, n_categorical] codes of all features.
        label: [n] uint8: 0, 1 or NO_LABEL.
        group: [n] uint8.
        columns: the encoded features, as columns of the codes.
        n_codes: C of each of them.
        n_groups: G.
        on_rows: called with the number of rows of each finished block.
    """
    counts = [np.zeros((2, n, n_groups), np.int32) for n in n_codes]
    for start in range(0, len(label), BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, len(label)))
        codes = read_codes(rows)
        for column, into in zip(columns, counts, strict=True):
            _add(into, np.ascontiguousarray(codes[:, column]), label[rows], group[rows], NO_LABEL)
        on_rows(len(rows))
    return [ValueCounts(n_rows=rows, n_clicks=clicks) for rows, clicks in counts]


@njit(nogil=True, cache=True)
def _add(counts, codes, label, group, no_label):  # type: ignore[no-untyped-def]
    """Adds rows to the [2, C, G] counts of rows and clicks."""
    for row in range(len(codes)):
        if label[row] != no_label:
            counts[0, codes[row], group[row]] += 1
            counts[1, codes[row], group[row]] += label[row]
