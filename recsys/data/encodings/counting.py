"""Counts rows and clicks of the values of encoded features by group, in one pass over the prepared rows.

Shapes: n rows, C codes of a feature (missing, rare, and its values), G groups of rows.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from recsys.data.encodings.table import ValueCounts
from recsys.data.groups import NO_LABEL
from recsys.data.jagged import offsets_of
from recsys.data.layout import BLOCK_ROWS
from recsys.data.store import ReadTokens


def count_values(
    read_codes: Callable[[np.ndarray], np.ndarray],
    label: np.ndarray,
    group: np.ndarray,
    columns: Sequence[int],
    n_codes: Sequence[int],
    n_groups: int,
    on_rows: Callable[[int], None] = lambda n: None,
    read_tokens: Sequence[ReadTokens] = (),
    n_tokens: Sequence[int] = (),
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
        read_tokens: the encoded token sequences; a row counts once for each of its distinct tokens.
        n_tokens: C of each of them.

    Returns:
        The counts of the features, then of the sequences.
    """
    counts = [np.zeros((2, n, n_groups), np.int32) for n in n_codes]
    of_tokens = [np.zeros((2, n, n_groups), np.int32) for n in n_tokens]
    last_rows = [np.full(n, -1, np.int64) for n in n_tokens]
    for start in range(0, len(label), BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, len(label)))
        codes = read_codes(rows) if columns else np.zeros((len(rows), 0), np.int32)
        for column, into in zip(columns, counts, strict=True):
            _add(into, np.ascontiguousarray(codes[:, column]), label[rows], group[rows], NO_LABEL)
        for read, into, last_row in zip(read_tokens, of_tokens, last_rows, strict=True):
            tokens, lengths = read(rows)
            _add_tokens(into, tokens, offsets_of(lengths), label[rows], group[rows], NO_LABEL, last_row, start)
        on_rows(len(rows))
    return [ValueCounts(n_rows=rows, n_clicks=clicks) for rows, clicks in counts + of_tokens]


@njit(nogil=True, cache=True)
def _add(counts, codes, label, group, no_label):  # type: ignore[no-untyped-def]
    """Adds rows to the [2, C, G] counts of rows and clicks."""
    for row in range(len(codes)):
        if label[row] != no_label:
            counts[0, codes[row], group[row]] += 1
            counts[1, codes[row], group[row]] += label[row]


@njit(nogil=True, cache=True)
def _add_tokens(counts, tokens, offsets, label, group, no_label, last_row, first):  # type: ignore[no-untyped-def]
    """Adds rows to the counts of their distinct tokens; `last_row` [C] is the last row with each token so far."""
    for row in range(len(label)):
        if label[row] == no_label:
            continue
        for position in range(offsets[row], offsets[row + 1]):
            code = tokens[position]
            if last_row[code] != first + row:
                last_row[code] = first + row
                counts[0, code, group[row]] += 1
                counts[1, code, group[row]] += label[row]
