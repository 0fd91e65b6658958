"""Categorical values as codes, and lists of tokens as jagged sequences, without a Python loop over rows.

Shapes: T tokens of all rows, end to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.jagged import gather_indices, offsets_of, row_and_position
from recsys.data.vocabulary import Codes
from recsys.raw.values import canonical_text
from recsys.schema.kinds import AS_WRITTEN, ValueForm

Indices = np.ndarray


@dataclass(frozen=True)
class Jagged:
    """Sequences of rows end to end: row i has `tokens[offsets[i]:offsets[i + 1]]`."""

    tokens: pa.Array
    offsets: np.ndarray
    """[n + 1] int64."""
    full_lengths: np.ndarray
    """[n] int32: tokens before truncation."""


def encode_values(column: pa.Array | pa.ChunkedArray, name: str = "a column", form: ValueForm = AS_WRITTEN) -> Codes:
    """Encodes a column as indices into its distinct values; NaN counts as null. Error messages contain `name`."""
    array = as_array(column)
    if pa.types.is_dictionary(array.type):
        return _encode_dictionary(array, name, form)
    encoded = null_for_nan(array).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    return Codes(codes, canonical_text(encoded.dictionary, name, form))


def _encode_dictionary(array: pa.DictionaryArray, name: str, form: ValueForm) -> Codes:
    """Encodes a dictionary array; entries of the dictionary that no row has are left out."""
    indices = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    used = np.unique(indices[indices >= 0])
    entries = encode_values(array.dictionary.take(pa.array(used)), name, form)
    code_of_index = np.full(len(array.dictionary) + 1, -1, np.int32)  # the last entry is for null
    code_of_index[used] = entries.codes
    return Codes(code_of_index[indices], entries.values)


def join_codes(parts: Sequence[Codes]) -> Codes:
    """Concatenates codes; equal texts get equal codes."""
    texts = pa.chunked_array([part.values for part in parts], pa.string()).combine_chunks()
    encoded = texts.dictionary_encode()
    code_of_value = np.append(np.asarray(encoded.indices).astype(np.int32), -1)  # the last entry is for null
    starts = np.cumsum([0, *(len(part.values) for part in parts)])
    codes = [np.where(p.codes >= 0, p.codes + start, -1) for p, start in zip(parts, starts[:-1], strict=True)]
    return Codes(code_of_value[np.concatenate(codes)], encoded.dictionary)


def null_for_nan(array: pa.Array) -> pa.Array:
    """Returns an array with null in place of NaN, and the values of a dictionary in place of their indices."""
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return pc.if_else(pc.is_nan(array), None, array) if pa.types.is_floating(array.type) else array


def as_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Returns a column as one contiguous array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def text_of(column: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """Returns a string column as one contiguous array; null becomes an empty string."""
    return pc.fill_null(as_array(column).cast(pa.large_string()), "")


def parse_list(column: pa.Array | pa.ChunkedArray, max_length: int, keep: str) -> Jagged:
    """Truncates each list to `max_length` tokens; a null list has no tokens; null and NaN tokens are dropped."""
    array = as_array(column)
    array = array.cast(pa.large_list(array.type.value_type))
    n = len(array)
    full_lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    lengths = np.minimum(full_lengths, max_length)
    row, position = row_and_position(lengths)
    token_indices = np.asarray(array.offsets)[:-1][row] + kept_positions(row, position, lengths, full_lengths, keep)
    tokens = null_for_nan(array.values.take(pa.array(token_indices)))
    is_valid = np.asarray(pc.is_valid(tokens))
    offsets = offsets_of(np.bincount(row[is_valid], minlength=n))
    return Jagged(tokens.filter(pa.array(is_valid)), offsets, full_lengths.astype(np.int32))


def list_bounds(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Returns the tokens of lists end to end, null for NaN, and the [n] lengths; a null list has length 0."""
    array = array.cast(pa.large_list(array.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return null_for_nan(array.flatten()), lengths


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
