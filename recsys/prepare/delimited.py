"""Delimited sequences read whole, once: their kept tokens, their first and last tokens, and their statistics."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.prepare.statistics import count_statistics
from recsys.prepare.tokens import Codes, canonical_text, expand, kept_places, slices_of, text_of, token_keys

_BLOCK_BYTES = 1 << 19
"""Text looked at together: what is made of it stays in a core's cache."""
_LEAST_ROWS = 64


@dataclass(frozen=True)
class WholeSequences:
    """What [n] rows of delimited text hold."""

    offsets: np.ndarray
    """[n + 1] int64: where each row's kept tokens stand."""
    kept: Codes
    """Of the kept tokens, end to end."""
    first: Codes
    """[n]; -1 where a row has none."""
    last: Codes
    full_lengths: np.ndarray
    """[n] int32: tokens before the cut."""
    statistics: np.ndarray
    """[n, 4] float32: see `count_statistics`."""


def read_delimited(column: pa.ChunkedArray, delimiter: str, max_length: int, keep: str) -> WholeSequences:
    """Reads [n] delimited strings; null is an empty one.

    An empty token (`"a,,b"`) is no token, though it takes a place in the cut and in the length before it.
    """
    array = text_of(column)
    n_rows = max(_LEAST_ROWS, len(array) * _BLOCK_BYTES // max(array.nbytes, 1))
    starts = range(0, max(len(array), 1), n_rows)
    blocks = [_read_block(array.slice(start, n_rows), delimiter, max_length, keep) for start in starts]
    lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
    return WholeSequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        kept=_end_to_end([block.kept for block in blocks]),
        first=_end_to_end([block.first for block in blocks]),
        last=_end_to_end([block.last for block in blocks]),
        full_lengths=np.concatenate([block.full_lengths for block in blocks]),
        statistics=np.concatenate([block.statistics for block in blocks]),
    )


def _end_to_end(parts: list[Codes]) -> Codes:
    """One array of codes; a value of several parts stands in it several times."""
    shifts = np.cumsum([0, *(len(part.values) for part in parts)])[:-1]
    codes = [np.where(part.codes < 0, -1, part.codes + shift) for part, shift in zip(parts, shifts, strict=True)]
    return Codes(np.concatenate(codes).astype(np.int32), pa.concat_arrays([part.values for part in parts]))


def _read_block(array: pa.LargeStringArray, delimiter: str, max_length: int, keep: str) -> WholeSequences:
    n = len(array)
    if n == 0:
        none = Codes(np.zeros(0, np.int32), pa.array([], pa.string()))
        zeros = np.zeros(0, np.int32)
        return WholeSequences(np.zeros(1, np.int64), none, none, none, zeros, np.zeros((0, 4), np.float32))
    # A delimiter after every row: each token then ends at one, and an empty row is an empty token.
    nothing, after = (pa.scalar(text, pa.large_string()) for text in ("", delimiter))
    _, offset_buffer, data = pc.binary_join_element_wise(array, nothing, after).buffers()
    bounds = np.frombuffer(offset_buffer, np.int64, n + 1)
    text = np.frombuffer(data, np.uint8)[: bounds[-1]]
    ends = np.flatnonzero(text == ord(delimiter))
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    sizes = ends - starts
    bound_n = np.searchsorted(ends, bounds[1:])
    n_tokens = np.diff(bound_n, prepend=0)
    first_n = bound_n - n_tokens

    encoded = pa.array(token_keys(text, starts, sizes)).dictionary_encode()
    codes, n_codes = np.asarray(encoded.indices), len(encoded.dictionary)
    row = np.repeat(np.arange(n), n_tokens)
    is_there = sizes > 0 if sizes.min() == 0 else slice(None)
    full_lengths = np.where(np.diff(bounds) > 1, n_tokens, 0)
    lengths = np.minimum(full_lengths, max_length)
    kept_row, position = expand(lengths)
    kept = first_n[kept_row] + kept_places(kept_row, position, lengths, full_lengths, keep)
    is_full = sizes[kept] > 0
    kept, kept_row = kept[is_full], kept_row[is_full]

    # Only tokens that are kept need their text: that of the first place of each.
    wanted = np.concatenate([kept, first_n, bound_n - 1])
    place = np.full(n_codes, -1)
    place[codes[wanted]] = wanted
    used = np.flatnonzero(place >= 0)
    values = canonical_text(slices_of(text, starts[place[used]], ends[place[used]]))
    code_of = np.zeros(n_codes, np.int32)
    code_of[used] = np.arange(len(used))
    found = np.where(sizes[wanted] > 0, code_of[codes[wanted]], -1)
    return WholeSequences(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(kept_row, minlength=n))]),
        kept=Codes(found[: len(kept)], values),
        first=Codes(found[len(kept) : -n], values),
        last=Codes(found[-n:], values),
        full_lengths=full_lengths.astype(np.int32),
        statistics=count_statistics(codes[is_there], row[is_there], n, n_codes),
    )
