"""Categorical values and token sequences as canonical text, and jagged sequences, without a Python loop over rows."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.jagged import gather_indices, offsets_of, row_and_position
from recsys.data.vocabulary import Codes
from recsys.errors import InputError

Indices = np.ndarray

_EXACT_BITS = {16: 11, 32: 24, 64: 53}
"""By a float's bits: up to 2 to this power it holds every whole number."""


@dataclass(frozen=True)
class Jagged:
    """Sequences of rows end to end: row i holds `tokens[offsets[i]:offsets[i + 1]]`."""

    tokens: pa.Array
    offsets: np.ndarray
    """[n + 1] int64."""
    full_lengths: np.ndarray
    """[n] int32: tokens before the cut."""


def canonical_text(values: pa.Array, name: str = "a column") -> pa.Array:
    """The text that names a value whatever its type: `5`, `5.0` (a number) and `" 5"` are all `"5"`, and a time is the
    same in any unit.

    Raises:
        InputError: for a whole number that a float cannot hold exactly, so that others may have become it.
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
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
    numbers = numbers.astype(np.float64)
    limit = 2.0 ** _EXACT_BITS[dtype.bit_width]
    if len(wrong := np.flatnonzero(whole & (np.abs(numbers) >= limit))):
        raise InputError(
            f"{name} holds {numbers[wrong[0]]:.0f} as {dtype}, which names no whole number exactly from {limit:.0f} "
            "on: write such ids as integers or text"
        )
    as_integer = pc.cast(pa.array(np.where(whole, numbers, 0.0).astype(np.int64)), pa.string())
    return pc.if_else(pa.array(whole), as_integer, pc.cast(values, pa.string()))


def encode_values(column: pa.Array | pa.ChunkedArray, name: str = "a column") -> Codes:
    """A column as codes into its distinct values; NaN counts as null. `name` stands in errors."""
    array = as_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    encoded = array.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    return Codes(codes, canonical_text(encoded.dictionary, name))


def as_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def text_of(column: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """A column of strings without nulls, in one piece."""
    return pc.fill_null(as_array(column).cast(pa.large_string()), "")


def parse_list(column: pa.Array | pa.ChunkedArray, max_length: int, keep: str) -> Jagged:
    """Keeps one end of each list; a null list has no tokens and null tokens are dropped."""
    array = as_array(column)
    array = array.cast(pa.large_list(array.type.value_type))
    n = len(array)
    full_lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    lengths = np.minimum(full_lengths, max_length)
    row, position = row_and_position(lengths)
    taken = np.asarray(array.offsets)[:-1][row] + kept_places(row, position, lengths, full_lengths, keep)
    tokens = array.values.take(pa.array(taken))
    present = np.asarray(pc.is_valid(tokens))
    offsets = offsets_of(np.bincount(row[present], minlength=n))
    return Jagged(tokens.filter(pa.array(present)), offsets, full_lengths.astype(np.int32))


def list_bounds(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The tokens of lists end to end, null ones among them, and the [n] lengths; a null list has none."""
    array = array.cast(pa.large_list(array.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return array.flatten(), lengths


def kept_places(row: Indices, position: Indices, lengths: Indices, full_lengths: Indices, keep: str) -> Indices:
    """[T] where the tokens that are kept stand in their whole sequences.

    Args:
        row: [T] rows.
        position: [T] places among the tokens that are kept.
        lengths: [n] tokens that are kept of each row.
        full_lengths: [n] tokens of each row.
        keep: first, last, or spread evenly.
    """
    if keep == "spread":
        return (2 * position + 1) * full_lengths[row] // (2 * lengths[row])
    return position + (full_lengths - lengths)[row] if keep == "last" else position


def slices_of(text: np.ndarray, starts: Indices, ends: Indices) -> pa.Array:
    """The byte ranges of a buffer as one string array."""
    sizes = ends - starts
    gathered = text[gather_indices(starts, sizes)]
    buffers = [None, pa.py_buffer(offsets_of(sizes)), pa.py_buffer(gathered)]
    return pa.Array.from_buffers(pa.large_string(), len(sizes), buffers)
