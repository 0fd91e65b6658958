"""Reads delimited sequences in one pass over their bytes: the kept tokens and statistics of the whole sequence.

A sequence may have hundreds of tokens, of which fifty are kept. The pass (see `tokenizer`) is compiled, because every
array operation would be a separate pass over all tokens.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.data.vocabulary import Codes
from recsys.raw.sequences.tokenizer import KEEPS, Output, empty_table, larger_table, read_rows
from recsys.raw.tokens import slices_of, text_of
from recsys.raw.values import canonical_text
from recsys.schema.kinds import AS_WRITTEN, ValueForm

_INITIAL_CODES = 1 << 10


@dataclass(frozen=True)
class ParsedSequences:
    """The parsed tokens of [n] rows."""

    offsets: np.ndarray
    """[n + 1] int64: offsets of the rows in the kept tokens."""
    kept: Codes
    """The kept tokens, end to end."""
    first: Codes
    """[n] first tokens; code -1 if a row has none."""
    last: Codes
    """[n] last tokens; code -1 if a row has none."""
    full_lengths: np.ndarray
    """[n] int32: tokens before truncation."""
    statistics: np.ndarray
    """[n, 4] float32: see `count_statistics`."""
    hashes: np.ndarray
    """[n] uint64: equal for equal sequences, before truncation."""


def read_delimited(
    column: pa.Array | pa.ChunkedArray,
    delimiter: str,
    max_length: int,
    keep: str,
    name: str = "a column",
    form: ValueForm = AS_WRITTEN,
) -> ParsedSequences:
    """Parses [n] delimited strings; null, and a string of white space, is an empty string.

    White space around a token is removed. An empty token (`"a,,b"`, `"a, ,b"`) is dropped, but counts towards
    `max_length` and the full length.

    Args:
        column: the strings.
        delimiter: one byte.
        max_length: maximum number of tokens to keep per row.
        keep: which tokens to keep: see `KEEPS` and `kept_position`.
        name: the column, for messages.
        form: the form of the tokens.
    """
    array = text_of(column)
    n = len(array)
    _, offset_buffer, data = array.buffers()
    bounds = np.frombuffer(offset_buffer, np.int64, n + 1, array.offset * 8) if n else np.zeros(1, np.int64)
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    n_bytes = np.diff(bounds)
    output = Output(
        offsets=np.zeros(n + 1, np.int64),
        kept=np.empty(np.minimum(n_bytes + 1, max_length).sum(), np.int32),
        ends=np.full((n, 2), -1, np.int32),
        full_lengths=np.zeros(n, np.int32),
        statistics=np.zeros((n, 4), np.float32),
        hashes=np.zeros(n, np.uint64),
    )
    longest = int(n_bytes.max(initial=0)) + 1
    row_buffer = np.empty((2, longest), np.int32)
    table, row, n_codes = empty_table(_INITIAL_CODES), 0, 0
    while row < n:
        row, n_codes = read_rows(
            text, bounds, ord(delimiter), max_length, KEEPS.index(keep), output, row_buffer, table, row, n_codes
        )
        if row < n:
            table = larger_table(table)
    # Only the kept, first and last tokens need their text.
    used = np.flatnonzero(table.is_used[:n_codes])
    values = canonical_text(slices_of(text, table.start[used], table.start[used] + table.size[used]), name, form)
    value_index = np.full(n_codes + 1, -1, np.int32)  # the last entry is for code -1, no token
    value_index[used] = np.arange(len(used))
    first, last = (Codes(value_index[codes], values) for codes in output.ends.T)
    kept = Codes(value_index[output.kept[: output.offsets[-1]]], values)
    return ParsedSequences(output.offsets, kept, first, last, output.full_lengths, output.statistics, output.hashes)
