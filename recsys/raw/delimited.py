"""Delimited sequences, read in one pass over their bytes: the tokens that are kept, and what the whole sequence says.

A sequence may hold hundreds of tokens of which fifty are kept. The pass is compiled (Numba): as array operations, each
step of it would be a pass over all tokens of its own.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from recsys.data.vocabulary import Codes
from recsys.raw.tokens import canonical_text, slices_of, text_of

KEEPS = ("first", "last", "spread")
_PACKED_BYTES = 8
_FNV_PRIME, _MIX = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15)
_LEAST_CODES = 1 << 10
_X_LN_X = np.arange(1024) * np.log(np.maximum(np.arange(1024), 1))


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


def read_delimited(column: pa.Array | pa.ChunkedArray, delimiter: str, max_length: int, keep: str) -> WholeSequences:
    """Reads [n] delimited strings; null is an empty one.

    An empty token (`"a,,b"`) is no token, though it takes a place in the cut and in the length before it.

    Args:
        column: the strings.
        delimiter: one byte.
        max_length: tokens to keep of a row.
        keep: which ones: see `KEEPS` and `kept_place`.
    """
    array = text_of(column)
    n = len(array)
    _, offset_buffer, data = array.buffers()
    bounds = np.frombuffer(offset_buffer, np.int64, n + 1, array.offset * 8) if n else np.zeros(1, np.int64)
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    n_bytes = np.diff(bounds)
    found = _Found(
        offsets=np.zeros(n + 1, np.int64),
        kept=np.empty(np.minimum(n_bytes + 1, max_length).sum(), np.int32),
        ends=np.full((n, 2), -1, np.int32),
        full_lengths=np.zeros(n, np.int32),
        statistics=np.zeros((n, 4), np.float32),
    )
    longest = int(n_bytes.max(initial=0)) + 1
    in_row = np.empty((2, longest), np.int32)
    table, row, n_codes = _empty_table(_LEAST_CODES), 0, 0
    while row < n:
        row, n_codes = _read_rows(
            text, bounds, ord(delimiter), max_length, KEEPS.index(keep), found, in_row, table, row, n_codes
        )
        if row < n:
            table = _larger_table(table)
    # Only tokens that are kept need their text.
    used = np.flatnonzero(table.is_used[:n_codes])
    values = canonical_text(slices_of(text, table.start[used], table.start[used] + table.size[used]))
    number = np.full(n_codes + 1, -1, np.int32)  # the last entry is that of no token
    number[used] = np.arange(len(used))
    first, last = (Codes(number[codes], values) for codes in found.ends.T)
    kept = Codes(number[found.kept[: found.offsets[-1]]], values)
    return WholeSequences(found.offsets, kept, first, last, found.full_lengths, found.statistics)


class _Found(NamedTuple):
    """What is read of rows."""

    offsets: np.ndarray
    kept: np.ndarray
    """[most] int32 codes of the kept tokens, end to end."""
    ends: np.ndarray
    """[n, 2] int32 codes of the first and the last token."""
    full_lengths: np.ndarray
    statistics: np.ndarray


class _Table(NamedTuple):
    """An open-addressing table: slots hold codes, half as many as slots, and the rest is known of each code."""

    slots: np.ndarray
    """int32; their number is a power of two."""
    key: np.ndarray
    """uint64."""
    start: np.ndarray
    """int64 where the token first stands."""
    size: np.ndarray
    """int64 bytes."""
    times: np.ndarray
    """int64 how often it stands in the row that is being read."""
    is_used: np.ndarray
    """bool whether it is among the kept, first or last tokens of any row."""


def _empty_table(n_codes: int) -> _Table:
    """A table with room for so many codes."""
    start, size, times = (np.zeros(n_codes, np.int64) for _ in range(3))
    slots, key = np.full(2 * n_codes, -1, np.int32), np.zeros(n_codes, np.uint64)
    return _Table(slots, key, start, size, times, np.zeros(n_codes, np.bool_))


def _larger_table(table: _Table) -> _Table:
    """A full table, with twice the room."""
    n_codes = len(table.key)
    larger = _empty_table(2 * n_codes)
    for mine, held in zip(larger[1:], table[1:], strict=True):
        mine[:n_codes] = held
    _fill_slots(larger.slots, table.key)
    return larger


@njit(nogil=True, cache=True)
def kept_place(position, n_kept, n_tokens, keep):  # type: ignore[no-untyped-def]
    """Where in its sequence the token at a position of the kept ones stands.

    Args:
        position: among the tokens that are kept.
        n_kept: tokens that are kept.
        n_tokens: of the sequence.
        keep: 0 for the first ones, 1 for the last ones, 2 for some that are spread evenly.
    """
    if keep == 2:
        return (2 * position + 1) * n_tokens // (2 * n_kept)
    return position + (n_tokens - n_kept if keep == 1 else 0)


@njit(nogil=True, cache=True)
def _read_rows(  # type: ignore[no-untyped-def]
    text, bounds, delimiter, max_length, keep, found, in_row, table, row, n_codes
):
    """Reads rows into `found`, from the given one on, up to one whose tokens the table has no room for.

    Tokens get codes in the order in which they are first met.

    Args:
        text: [n_bytes] uint8.
        bounds: [n + 1] of the rows in it.
        delimiter: a byte.
        max_length: tokens to keep.
        keep: as `kept_place` takes it.
        found: filled.
        in_row: [2, longest row] int32 of scratch: a row's tokens, and the distinct ones among them.
        table: of the tokens met so far.
        row: to begin with.
        n_codes: met so far.

    Returns:
        The row to go on with, and the number of codes.
    """
    tokens, distinct = in_row
    last_slot, room, n = len(table.slots) - 1, len(table.key), len(bounds) - 1
    n_kept_before = found.offsets[row]
    while row < n:
        position, end = bounds[row], bounds[row + 1]
        n_tokens, n_full, n_distinct = 0, 0, 0
        if position == end:
            position += 1  # an empty row has no token, not an empty one
        while position <= end:
            start = position
            key, position = _read_token(text, position, end, delimiter)
            size = position - start
            position += 1
            code = -1
            if size > 0:
                slot = _slot(key, last_slot)
                code = table.slots[slot]
                while code >= 0 and not (
                    table.key[code] == key
                    and table.size[code] == size
                    and (size <= _PACKED_BYTES or _are_equal(text, table.start[code], start, size))
                ):
                    slot = (slot + 1) & last_slot
                    code = table.slots[slot]
                if code < 0:
                    if n_codes == room:
                        table.times[distinct[:n_distinct]] = 0  # the row is read again
                        return row, n_codes
                    code = n_codes
                    n_codes += 1
                    table.slots[slot] = code
                    table.key[code], table.start[code], table.size[code] = key, start, size
                distinct[n_distinct] = code  # overwritten by the next one where it is not new
                n_distinct += table.times[code] == 0
                table.times[code] += 1
                n_full += 1
            tokens[n_tokens] = code
            n_tokens += 1

        found.full_lengths[row] = n_tokens
        n_kept = min(n_tokens, max_length)
        for place in range(n_kept):
            code = tokens[kept_place(place, n_kept, n_tokens, keep)]
            if code >= 0:
                found.kept[n_kept_before] = code
                table.is_used[code] = True
                n_kept_before += 1
        found.offsets[row + 1] = n_kept_before
        if n_tokens > 0:
            for side, code in enumerate((tokens[0], tokens[n_tokens - 1])):
                found.ends[row, side] = code
                if code >= 0:
                    table.is_used[code] = True
        surprise = 0.0
        for code in distinct[:n_distinct]:
            times = table.times[code]
            surprise += _X_LN_X[times] if times < len(_X_LN_X) else times * np.log(times)
            table.times[code] = 0
        if n_full > 0:
            statistics = found.statistics[row]
            statistics[0], statistics[1], statistics[2] = n_full, n_distinct, n_distinct / n_full
            statistics[3] = max(np.log(n_full) - surprise / n_full, 0.0)
        row += 1
    return row, n_codes


@njit(nogil=True, cache=True)
def _read_token(text, position, end, delimiter):  # type: ignore[no-untyped-def]
    """The key of the token at a position, and where it ends.

    The first eight bytes are the key itself, the lowest first; what follows is hashed into it.
    """
    start, key = position, np.uint64(0)
    if position + 3 < end:
        # Of up to three bytes, as most are: without a jump that depends on how many, which no processor could foresee.
        second, third = text[position + 1], text[position + 2]
        has_second = second != delimiter
        has_third = has_second & (third != delimiter)
        if text[position] != delimiter and not (has_third and text[position + 3] != delimiter):
            key = np.uint64(text[position]) | np.uint64(second * has_second) << np.uint64(8)
            return key | np.uint64(third * has_third) << np.uint64(16), position + 1 + has_second + has_third
    while position < end and text[position] != delimiter:
        byte, place = np.uint64(text[position]), np.uint64(position - start)
        key = key | byte << np.uint64(8) * place if place < _PACKED_BYTES else (key ^ byte) * _FNV_PRIME
        position += 1
    return key, position


@njit(nogil=True, cache=True)
def _fill_slots(slots, keys):  # type: ignore[no-untyped-def]
    """Puts the codes of keys into empty slots."""
    for code in range(len(keys)):
        slot = _slot(keys[code], len(slots) - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = code


@njit(nogil=True, cache=True)
def _slot(key, last_slot):  # type: ignore[no-untyped-def]
    """Where the search for a key begins."""
    return np.int64((key * _MIX) >> np.uint64(32)) & last_slot


@njit(nogil=True, cache=True)
def _are_equal(text, one, other, size):  # type: ignore[no-untyped-def]
    """Whether the bytes at two places are the same."""
    place = 0
    while place < size and text[one + place] == text[other + place]:
        place += 1
    return place == size
