"""Numeric columns as NumPy numbers."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.transforms import MAX_NUMBER
from recsys.raw.tokens import as_array


def read_numbers(column: pa.Array | pa.ChunkedArray, offset: float = 0.0) -> np.ndarray:
    """Reads [n] float64 numbers minus an offset: NaN where null, infinite beyond `MAX_NUMBER`.

    Whole numbers are subtracted as integers: float64 cannot tell all of them apart from 2^53 on.
    """
    array = as_array(column)
    exact = exact_numbers(array)
    numbers = exact.astype(np.float64) - offset
    if offset and exact.dtype == np.int64:
        is_small = np.abs(numbers) < 2.0**62  # beyond, int64 could overflow
        numbers[is_small] = exact[is_small] - np.int64(offset)
    if array.null_count and exact.dtype == np.int64:
        numbers[np.asarray(pc.is_null(array))] = np.nan
    is_large = np.abs(numbers) > MAX_NUMBER
    return np.where(is_large, np.copysign(np.inf, numbers), numbers) if np.any(is_large) else numbers


def narrowed(numbers: np.ndarray) -> np.ndarray:
    """float64 numbers as float32, infinite beyond `MAX_NUMBER`."""
    is_large = np.abs(numbers) > MAX_NUMBER
    if is_large.any():
        numbers = np.where(is_large, np.copysign(np.inf, numbers), numbers)
    return numbers.astype(np.float32)


def numbers_of_text(text: pa.Array) -> pa.Array:
    """Reads text as int64, else as uint64, else as float64.

    Raises:
        pa.ArrowInvalid: if some text is not a number, such as `0x1F`, which Arrow's integers accept.
    """
    is_hexadecimal = pc.any(pc.match_substring(text, "x", ignore_case=True)).as_py()
    for dtype in () if is_hexadecimal else (pa.int64(), pa.uint64()):
        try:
            return text.cast(dtype)
        except pa.ArrowInvalid:
            continue
    return text.cast(pa.float64())


def exact_numbers(array: pa.Array) -> np.ndarray:
    """Reads [n] numbers: int64 if their type is whole and they fit (0 for null), else float64 (NaN for null)."""
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_integer(array.type) or (pa.types.is_decimal(array.type) and array.type.scale <= 0):
        try:
            return array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            pass
    return pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
