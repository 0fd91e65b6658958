"""The compiled pass over delimited text: tokens as codes, the kept positions, and statistics of each row."""

from typing import NamedTuple

import numpy as np
from numba import njit

KEEPS = ("first", "last", "spread")
_PACKED_BYTES = 8
_FNV_PRIME, _MIX = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15)
_X_LN_X = np.arange(1024) * np.log(np.maximum(np.arange(1024), 1))


class Output(NamedTuple):
    """The output arrays of `read_rows`."""

    offsets: np.ndarray
    kept: np.ndarray
    """[max_kept] int32 codes of the kept tokens, end to end."""
    ends: np.ndarray
    """[n, 2] int32 codes of the first and the last token."""
    full_lengths: np.ndarray
    statistics: np.ndarray
    hashes: np.ndarray


class TokenTable(NamedTuple):
    """An open-addressing hash table of tokens: slots contain codes; the other arrays are half as long."""

    slots: np.ndarray
    """int32; the number of slots is a power of two."""
    key: np.ndarray
    """uint64."""
    start: np.ndarray
    """int64 byte position of the token's first occurrence."""
    size: np.ndarray
    """int64 bytes."""
    counts: np.ndarray
    """int64 occurrences in the current row."""
    is_used: np.ndarray
    """bool: whether the token is a kept, first or last token of any row."""


def empty_table(n_codes: int) -> TokenTable:
    """Creates a table with a capacity of n_codes."""
    start, size, counts = (np.zeros(n_codes, np.int64) for _ in range(3))
    slots, key = np.full(2 * n_codes, -1, np.int32), np.zeros(n_codes, np.uint64)
    return TokenTable(slots, key, start, size, counts, np.zeros(n_codes, np.bool_))


def larger_table(table: TokenTable) -> TokenTable:
    """Doubles the capacity of a full table."""
    n_codes = len(table.key)
    larger = empty_table(2 * n_codes)
    for new_array, old_array in zip(larger[1:], table[1:], strict=True):
        new_array[:n_codes] = old_array
    _fill_slots(larger.slots, table.key)
    return larger


@njit(nogil=True, cache=True)
def kept_position(position, n_kept, n_tokens, keep):  # type: ignore[no-untyped-def]
    """Returns the position of a kept token in its whole sequence.

    Args:
        position: position among the kept tokens.
        n_kept: number of kept tokens.
        n_tokens: number of tokens of the sequence.
        keep: 0 keeps the first tokens, 1 the last tokens, 2 evenly spaced tokens.
    """
    if keep == 2:
        return (2 * position + 1) * n_tokens // (2 * n_kept)
    return position + (n_tokens - n_kept if keep == 1 else 0)


@njit(nogil=True, cache=True)
def read_rows(  # type: ignore[no-untyped-def]
    text, bounds, delimiter, max_length, keep, output, row_buffer, table, row, n_codes
):
    """Reads rows into `output` from a row on; stops at a row whose tokens exceed the capacity of the table.

    Tokens get codes in the order of their first occurrence.

    Args:
        text: [n_bytes] uint8.
        bounds: [n + 1] byte offsets of the rows.
        delimiter: a byte.
        max_length: maximum number of tokens to keep per row.
        keep: see `kept_position`.
        output: arrays to fill.
        row_buffer: [2, longest row] int32 work space: a row's tokens and its distinct tokens.
        table: the tokens read so far.
        row: the first row to read.
        n_codes: the number of codes so far.

    Returns:
        The next row to read, and the number of codes.
    """
    tokens, distinct = row_buffer
    last_slot, capacity, n = len(table.slots) - 1, len(table.key), len(bounds) - 1
    n_kept_before = output.offsets[row]
    while row < n:
        position, end = _trimmed(text, bounds[row], bounds[row + 1], delimiter)
        n_tokens, n_full, n_distinct, row_hash = 0, 0, 0, np.uint64(0)
        if position == end:
            position += 1  # an empty row has no token
        while position <= end:
            start = position
            key, position = _read_token(text, position, end, delimiter)
            size = position - start
            position += 1
            if size > 0 and (_may_be_space(text[start]) or _may_be_space(text[start + size - 1])):
                start, token_end = _trimmed(text, start, start + size, delimiter)
                size = token_end - start
                key, _ = _read_token(text, start, token_end, delimiter)
            row_hash = (row_hash ^ key) * _FNV_PRIME
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
                    if n_codes == capacity:
                        table.counts[distinct[:n_distinct]] = 0  # the row is read again with a larger table
                        return row, n_codes
                    code = n_codes
                    n_codes += 1
                    table.slots[slot] = code
                    table.key[code], table.start[code], table.size[code] = key, start, size
                distinct[n_distinct] = code  # the next token overwrites a repeated one
                n_distinct += table.counts[code] == 0
                table.counts[code] += 1
                n_full += 1
            tokens[n_tokens] = code
            n_tokens += 1

        output.full_lengths[row], output.hashes[row] = n_tokens, row_hash ^ np.uint64(n_tokens)
        n_kept = min(n_tokens, max_length)
        for index in range(n_kept):
            code = tokens[kept_position(index, n_kept, n_tokens, keep)]
            if code >= 0:
                output.kept[n_kept_before] = code
                table.is_used[code] = True
                n_kept_before += 1
        output.offsets[row + 1] = n_kept_before
        if n_tokens > 0:
            for side, code in enumerate((tokens[0], tokens[n_tokens - 1])):
                output.ends[row, side] = code
                if code >= 0:
                    table.is_used[code] = True
        sum_n_log_n = 0.0
        for code in distinct[:n_distinct]:
            count = table.counts[code]
            sum_n_log_n += _X_LN_X[count] if count < len(_X_LN_X) else count * np.log(count)
            table.counts[code] = 0
        if n_full > 0:
            statistics = output.statistics[row]
            statistics[0], statistics[1], statistics[2] = n_full, n_distinct, n_distinct / n_full
            statistics[3] = max(np.log(n_full) - sum_n_log_n / n_full, 0.0)
        row += 1
    return row, n_codes


@njit(nogil=True, cache=True)
def _trimmed(text, start, end, delimiter):  # type: ignore[no-untyped-def]
    """Returns the start and the end of a range of UTF-8 text without the white space around it."""
    while start < end and text[start] != delimiter:
        size = _space_bytes(text, start, end)
        if size == 0:
            break
        start += size
    while start < end and text[end - 1] != delimiter:
        first = end - 1
        while first > start and first > end - 3 and text[first] & 0xC0 == 0x80:  # the later bytes of a character
            first -= 1
        if _space_bytes(text, first, end) != end - first:
            break
        end = first
    return start, end


@njit(nogil=True, cache=True)
def _may_be_space(byte):  # type: ignore[no-untyped-def]
    """Whether a byte may begin or end a white-space character."""
    return byte <= 32 or byte >= 0x80


@njit(nogil=True, cache=True)
def _space_bytes(text, start, end):  # type: ignore[no-untyped-def]
    """Returns the bytes of the white-space character (Unicode White_Space) at a position; 0 if it is another one."""
    first = text[start]
    if first == 32 or 9 <= first <= 13 or 28 <= first <= 31:
        return 1
    if first < 0xC2 or start + 2 > end:
        return 0
    second = text[start + 1]
    if first == 0xC2:
        return 2 * (second == 0x85 or second == 0xA0)
    if start + 3 > end:
        return 0
    third = text[start + 2]
    is_space = (
        (first == 0xE1 and second == 0x9A and third == 0x80)  # U+1680
        or (first == 0xE2 and second == 0x80 and (third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF))
        or (first == 0xE2 and second == 0x81 and third == 0x9F)  # U+205F
        or (first == 0xE3 and second == 0x80 and third == 0x80)  # U+3000
    )
    return 3 * is_space


@njit(nogil=True, cache=True)
def _read_token(text, position, end, delimiter):  # type: ignore[no-untyped-def]
    """Returns the key of the token at a position, and the position where the token ends.

    The first eight bytes form the key, lowest byte first; the following bytes are hashed into it.
    """
    start, key = position, np.uint64(0)
    if position + 3 < end:
        # Most tokens have up to three bytes. This path has no branch on the length, which would be mispredicted.
        second, third = text[position + 1], text[position + 2]
        has_second = second != delimiter
        has_third = has_second & (third != delimiter)
        if text[position] != delimiter and not (has_third and text[position + 3] != delimiter):
            key = np.uint64(text[position]) | np.uint64(second * has_second) << np.uint64(8)
            return key | np.uint64(third * has_third) << np.uint64(16), position + 1 + has_second + has_third
    while position < end and text[position] != delimiter:
        byte, index = np.uint64(text[position]), np.uint64(position - start)
        key = key | byte << np.uint64(8) * index if index < _PACKED_BYTES else (key ^ byte) * _FNV_PRIME
        position += 1
    return key, position


@njit(nogil=True, cache=True)
def _fill_slots(slots, keys):  # type: ignore[no-untyped-def]
    """Inserts the codes of keys into empty slots."""
    for code in range(len(keys)):
        slot = _slot(keys[code], len(slots) - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = code


@njit(nogil=True, cache=True)
def _slot(key, last_slot):  # type: ignore[no-untyped-def]
    """Returns the first slot to probe for a key."""
    return np.int64((key * _MIX) >> np.uint64(32)) & last_slot


@njit(nogil=True, cache=True)
def _are_equal(text, first_start, second_start, size):  # type: ignore[no-untyped-def]
    """Whether two byte ranges of the text are equal."""
    offset = 0
    while offset < size and text[first_start + offset] == text[second_start + offset]:
        offset += 1
    return offset == size
