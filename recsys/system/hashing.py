"""Hashes of row ids: the only source of randomness in folds and samples, independent of the layout of the files."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FINALIZER = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""Shifts and factors of SplitMix64's finalizer, before its last shift by 31."""
_INTEGER = re.compile(r"^(?:0|-?[1-9]\d{0,18})$", re.ASCII)
_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_BASIS = np.uint64(0xCBF29CE484222325)


def mix(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Decorrelates 64-bit values under a seed: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014).

    Args:
        hashes: [n] uint64.
        seed: any integer; only its low 64 bits are used.

    Returns:
        [n] uint64, a bijection of the input.
    """
    with np.errstate(over="ignore"):
        z = hashes + GOLDEN * np.uint64((seed + 1) % 2**64)
        for shift, factor in FINALIZER:
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


def hash_ids(ids: pa.Array) -> np.ndarray:
    """Hashes [n] ids to uint64: an integer, also as text, is its own hash; other text is hashed by FNV-1a.

    White space around text does not count.

    Args:
        ids: integers or text.
    """
    if pa.types.is_integer(ids.type) and not (
        pa.types.is_uint64(ids.type) and len(ids) and pc.max(ids).as_py() >= 2**63
    ):
        return ids.cast(pa.int64()).to_numpy(zero_copy_only=False).view(np.uint64)
    array = pc.utf8_trim_whitespace(pc.cast(ids, pa.large_string()))
    _, offset_buffer, data = array.buffers()
    bounds = np.frombuffer(offset_buffer, np.int64, len(array) + 1, array.offset * 8)
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    starts, lengths = bounds[:-1], np.diff(bounds)
    hashes = np.full(len(array), _FNV_BASIS)
    with np.errstate(over="ignore"):
        for position in range(int(lengths.max(initial=0))):
            row_numbers = np.flatnonzero(lengths > position)
            hashes[row_numbers] = (hashes[row_numbers] ^ text[starts[row_numbers] + position]) * _FNV_PRIME
    return _with_integers(hashes, array)


def hash_text(text: str) -> int:
    """The hash of one text without white space at its ends, equal to that of `hash_ids`."""
    if _INTEGER.match(text) and -(2**63) <= (number := int(text)) < 2**63:
        return number % 2**64
    value, prime = int(_FNV_BASIS), int(_FNV_PRIME)
    for byte in text.encode():
        value = (value ^ byte) * prime % 2**64
    return value


def _with_integers(hashes: np.ndarray, text: pa.Array) -> np.ndarray:
    """Replaces the hashes of text that writes an int64 number."""
    rows = np.flatnonzero(np.asarray(pc.match_substring_regex(text, _INTEGER.pattern)))
    if len(rows) == 0:
        return hashes
    numbers = text.take(pa.array(rows))
    is_negative = np.asarray(pc.starts_with(numbers, "-"))
    magnitude = pc.utf8_ltrim(numbers, "-").cast(pa.uint64()).to_numpy(zero_copy_only=False)
    is_int64 = magnitude <= np.where(is_negative, np.uint64(2**63), np.uint64(2**63 - 1))
    with np.errstate(over="ignore"):
        hashes[rows[is_int64]] = np.where(is_negative, np.uint64(0) - magnitude, magnitude)[is_int64]
    return hashes


def as_fraction(hashes: np.ndarray) -> np.ndarray:
    """Maps [n] uint64 hashes to float64 in [0, 1)."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
