"""Hashes of the content of rows, which tell copies of a row: they must not be fitted on and evaluated on."""

import numpy as np
import pyarrow as pa
from numba import njit

from recsys.data.jagged import row_and_position
from recsys.data.vocabulary import Codes
from recsys.raw.tokens import as_array, encode_values, list_bounds
from recsys.schema.kinds import ValueForm
from recsys.system.hashing import hash_ids, mix

_NULL = np.uint64(0x9E3779B97F4A7C15)


class RowHasher:
    """Hashes [n] rows, column by column."""

    def __init__(self, n_rows: int) -> None:
        self.hashes = np.zeros(n_rows, np.uint64)

    def add_hashes(self, hashes: np.ndarray) -> None:
        """Adds a column of [n] uint64 hashes."""
        _add(self.hashes, hashes)

    def add_numbers(self, numbers: np.ndarray) -> None:
        """Adds a column of [n] numbers, as float32: as they are stored."""
        with np.errstate(over="ignore"):
            stored = np.where(np.isnan(numbers), np.float32(np.nan), numbers).astype(np.float32) + np.float32(0)
        _add(self.hashes, stored.view(np.uint32).astype(np.uint64))  # -0.0 + 0 is 0.0

    def add_codes(self, codes: Codes) -> None:
        """Adds a column of [n] categorical values."""
        _add(self.hashes, np.append(hash_ids(codes.values), _NULL)[codes.codes])


def hash_lists(column: pa.ChunkedArray, form: ValueForm) -> np.ndarray:
    """Returns [n] uint64 hashes of whole lists; null tokens do not count, a null list equals an empty one."""
    tokens, lengths = list_bounds(as_array(column))
    return hash_tokens(encode_values(tokens, form=form), lengths)


def hash_tokens(codes: Codes, lengths: np.ndarray) -> np.ndarray:
    """Returns [n] uint64 hashes of sequences.

    Args:
        codes: the tokens, end to end; null tokens do not count.
        lengths: [n] number of tokens of each row.
    """
    row, _ = row_and_position(lengths)
    is_token = codes.codes >= 0
    token_row = row[is_token]
    position = np.arange(len(token_row)) - np.searchsorted(token_row, token_row)
    token_hashes = hash_ids(codes.values)[codes.codes[is_token]]
    with np.errstate(over="ignore"):
        token_hashes = mix(token_hashes + position.astype(np.uint64) * _NULL, 0)
        sums = np.append(np.uint64(0), np.cumsum(token_hashes, dtype=np.uint64))
        bounds = np.searchsorted(token_row, np.arange(len(lengths) + 1))
        return sums[bounds[1:]] - sums[bounds[:-1]]


@njit(nogil=True, cache=True)
def _add(hashes, column):  # type: ignore[no-untyped-def]
    """Mixes one more value into each hash, with the multiplication and shift of SplitMix64."""
    for row in range(len(hashes)):
        value = (hashes[row] ^ column[row]) * np.uint64(0xBF58476D1CE4E5B9)
        hashes[row] = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
