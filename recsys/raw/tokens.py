"""Converts categorical values and tokens to canonical text and jagged sequences, without a Python loop over rows.

Shapes: T tokens of all rows, end to end.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.jagged import gather_indices, offsets_of, row_and_position
from recsys.data.vocabulary import Codes
from recsys.errors import InputError

Indices = np.ndarray

_EXACT_BITS = {16: 11, 32: 24, 64: 53}
"""By bit width of a float type: whole numbers up to 2 to this power are exact."""


@dataclass(frozen=True)
class Jagged:
    """Sequences of rows end to end: row i has `tokens[offsets[i]:offsets[i + 1]]`."""

    tokens: pa.Array
    offsets: np.ndarray
    """[n + 1] int64."""
    full_lengths: np.ndarray
    """[n] int32: tokens before truncation."""


def canonical_text(values: pa.Array, name: str = "a column") -> pa.Array:
    """Converts values to text that does not depend on their type: `5`, `5.0` (a number) and `" 5"` become `"5"`, and a
    time has the same text in any unit.

    Raises:
        InputError: for a whole number beyond the exact range of its float type: it may be a rounded value.
    """
    dtype = values.type
    if pa.types.is_floating(dtype):
        return _float_text(values, name)
    text = values if pa.types.is_string(dtype) else pc.cast(values, pa.string())
    if pa.types.is_decimal(dtype):
        text = pc.replace_substring_regex(text, r"^(-?\d+)(?:\.0*|(\.\d*?)0*)$", r"\1\2")
    elif pa.types.is_temporal(dtype):
        text = pc.replace_substring_regex(text, r"(?:\.0*|(\.\d*?)0*)(Z|[+-][\d:]+)?$", r"\1\2")
        text = pc.replace_substring_regex(text, r" 00:00:00$", "")
    return pc.utf8_trim_whitespace(text)


def _float_text(values: pa.Array, name: str) -> pa.Array:
    dtype = values.type
    numbers = values.to_numpy(zero_copy_only=False)
    is_whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
    numbers = numbers.astype(np.float64)
    limit = 2.0 ** _EXACT_BITS[dtype.bit_width]
    if len(inexact := np.flatnonzero(is_whole & (np.abs(numbers) >= limit))):
        raise InputError(
            f"{name} contains {numbers[inexact[0]]:.0f} as {dtype}, which is not exact for whole numbers from "
            f"{limit:.0f} on: write such ids as integers or text"
        )
    as_integer = pc.cast(pa.array(np.where(is_whole, numbers, 0.0).astype(np.int64)), pa.string())
    return pc.if_else(pa.array(is_whole), as_integer, pc.cast(values, pa.string()))


def encode_values(column: pa.Array | pa.ChunkedArray, name: str = "a column") -> Codes:
    """Encodes a column as indices into its distinct values; NaN counts as null. Error messages contain `name`."""
    array = as_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    encoded = array.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    return Codes(codes, canonical_text(encoded.dictionary, name))


def as_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Returns a column as one contiguous array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def text_of(column: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """Returns a string column as one contiguous array; null becomes an empty string."""
    return pc.fill_null(as_array(column).cast(pa.large_string()), "")


def parse_list(column: pa.Array | pa.ChunkedArray, max_length: int, keep: str) -> Jagged:
    """Truncates each list to `max_length` tokens; a null list has no tokens and null tokens are dropped."""
    array = as_array(column)
    array = array.cast(pa.large_list(array.type.value_type))
    n = len(array)
    full_lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    lengths = np.minimum(full_lengths, max_length)
    row, position = row_and_position(lengths)
    token_indices = np.asarray(array.offsets)[:-1][row] + kept_positions(row, position, lengths, full_lengths, keep)
    tokens = array.values.take(pa.array(token_indices))
    is_valid = np.asarray(pc.is_valid(tokens))
    offsets = offsets_of(np.bincount(row[is_valid], minlength=n))
    return Jagged(tokens.filter(pa.array(is_valid)), offsets, full_lengths.astype(np.int32))


def list_bounds(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Returns the tokens of lists end to end, including null tokens, and the [n] lengths; a null list has length 0."""
    array = array.cast(pa.large_list(array.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return array.flatten(), lengths


def kept_positions(row: Indices, position: Indices, lengths: Indices, full_lengths: Indices, keep: str) -> Indices:
    """Returns the [T] positions of the kept tokens in their whole sequences.

    Args:
        row: [T] row indices.
        position: [T] positions among the kept tokens of a row.
        lengths: [n] number of kept tokens of each row.
        full_lengths: [n] number of tokens of each row.
        keep: `first`, `last`, or `spread` for evenly spaced tokens.
    """
    if keep == "spread":
        return (2 * position + 1) * full_lengths[row] // (2 * lengths[row])
    return position + (full_lengths - lengths)[row] if keep == "last" else position


def slices_of(text: np.ndarray, starts: Indices, ends: Indices) -> pa.Array:
    """Returns byte ranges of a buffer as one string array."""
    sizes = ends - starts
    gathered = text[gather_indices(starts, sizes)]
    buffers = [None, pa.py_buffer(offsets_of(sizes)), pa.py_buffer(gathered)]
    return pa.Array.from_buffers(pa.large_string(), len(sizes), buffers)
