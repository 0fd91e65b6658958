"""Canonical text: one text for one value, whatever type a file gives it.

`5`, `5.0`, `Decimal("5.00")` and `" 5"` are `"5"`; an instant has one text in any unit and zone; a date is the midnight
of that date without a zone.
"""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.schema.kinds import AS_WRITTEN, ValueForm

_EXACT_BITS = {16: 11, 32: 24, 64: 53}
"""By bit width of a float type: whole numbers up to 2 to this power are exact."""
_FLOATS = {16: np.float16, 32: np.float32, 64: np.float64}
_MAX_DIGITS = 77
"""Digits of the largest number that a column can have, of decimal256 and one more."""
_WHOLE = r"^(?:\+|(-))?0*(\d+)(?:\.0*)?$"
_WHOLE_WITH_POINT = r"^(-?)(0|[1-9]\d*)\.0+$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?$"


def canonical_text(values: pa.Array, name: str = "a column", form: ValueForm = AS_WRITTEN) -> pa.Array:
    """Converts values to their canonical text.

    Args:
        values: [n] values of one type of a single kind (see `recsys.schema.kinds`).
        name: the column, for messages.
        form: what values of several types have in common.

    Raises:
        InputError: for a whole number beyond the exact range of its float type: it may be a rounded value; for a
            fraction in a narrower type than that of the values it is compared with.
    """
    dtype = values.type
    if pa.types.is_floating(dtype):
        return _float_text(values, name, form)
    if pa.types.is_decimal(dtype):
        return _decimal_text(values, name, form)
    if pa.types.is_timestamp(dtype) and dtype.tz is not None:
        values = values.cast(pa.timestamp(dtype.unit, "UTC"))
    text = values if pa.types.is_string(dtype) else pc.cast(values, pa.string())
    if pa.types.is_temporal(dtype):
        text = pc.replace_substring_regex(text, r"(?:\.0*|(\.\d*?)0*)(Z)?$", r"\1\2")
        text = pc.replace_substring_regex(text, r" 00:00:00$", "")
    text = pc.utf8_trim_whitespace(text)
    if form.text_as == "text" or pa.types.is_temporal(dtype) or not _is_text(dtype):
        return text
    if form.text_as == "whole numbers":
        return _without_minus_zero(pc.replace_substring_regex(text, _WHOLE_WITH_POINT, r"\1\2"))
    return _number_text(text, form)


def _is_text(dtype: pa.DataType) -> bool:
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)


def _without_minus_zero(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(text, "-0"), "0", text)


def _number_text(text: pa.Array, form: ValueForm) -> pa.Array:
    """Reads [n] texts as numbers; text that is not a number is unchanged."""
    whole = _without_minus_zero(pc.replace_substring_regex(text, _WHOLE, r"\1\2"))
    is_fraction = pc.and_(pc.match_substring_regex(text, NUMBER), pc.invert(pc.match_substring_regex(text, _WHOLE)))
    rows = np.flatnonzero(np.asarray(pc.fill_null(is_fraction, False)))
    if len(rows) == 0:
        return whole
    numbers = pc.cast(text.take(pa.array(rows)), pa.float64())
    exact = np.abs(np.asarray(numbers)) < 2.0 ** _EXACT_BITS[64]
    result = whole.to_numpy(zero_copy_only=False)
    for row in rows[~exact]:  # such as 9223372036854775807e0
        result[row] = _large_number(result[row])
    result[rows[exact]] = _float_text(numbers.filter(pa.array(exact)), "text", form).to_numpy(zero_copy_only=False)
    return pa.array(result, pa.string())


def _large_number(text: str) -> str:
    number = Decimal(text)
    is_writable = number.adjusted() < _MAX_DIGITS and number == number.to_integral_value()
    return str(int(number)) if is_writable else text


def _decimal_text(values: pa.Array, name: str, form: ValueForm) -> pa.Array:
    text = pc.cast(values, pa.string())
    if pc.any(pc.match_substring(text, "E")).as_py():  # Arrow writes 0E-10
        text = pa.array([None if t is None else format(Decimal(t), "f") for t in text.to_pylist()], pa.string())
    text = pc.replace_substring_regex(text, r"^(-?\d+)(?:\.0*|(\.\d*?)0*)$", r"\1\2")
    text = _without_minus_zero(text)
    if form.float_bits is None:
        return text
    rows = np.flatnonzero(np.asarray(pc.fill_null(pc.match_substring(text, "."), False)))
    if len(rows) == 0:
        return text
    result = text.to_numpy(zero_copy_only=False)
    # from text, which is rounded correctly; Arrow multiplies by a power of ten
    fractions = pc.cast(text.take(pa.array(rows)), pa.float64())
    result[rows] = _float_text(fractions, name, form).to_numpy(zero_copy_only=False)
    return pa.array(result, pa.string())


def _float_text(values: pa.Array, name: str, form: ValueForm) -> pa.Array:
    dtype = values.type
    numbers = values.to_numpy(zero_copy_only=False)
    is_whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
    limit = 2.0 ** _EXACT_BITS[dtype.bit_width]
    if len(inexact := np.flatnonzero(is_whole & (np.abs(numbers.astype(np.float64)) >= limit))):
        raise InputError(
            f"{name} contains {float(numbers[inexact[0]]):.0f} as {dtype}, which is not exact for whole numbers from "
            f"{limit:.0f} on: write such ids as integers or text"
        )
    if form.float_bits is not None and len(fractions := np.flatnonzero(~is_whole & np.isfinite(numbers))):
        if dtype.bit_width < form.float_bits:
            raise InputError(
                f"{name} contains the fraction {float(numbers[fractions[0]]):g} as {dtype}, but it was prepared from "
                f"{form.float_bits}-bit numbers, which it cannot equal: write it as {form.float_bits}-bit floats"
            )
        if dtype.bit_width > form.float_bits:
            with np.errstate(over="ignore"):
                numbers = numbers.astype(_FLOATS[form.float_bits])
            values = pa.array(numbers, from_pandas=False)
            is_whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
    whole_numbers = np.where(is_whole, numbers, 0).astype(np.float64).astype(np.int64)
    as_integer = pc.cast(pa.array(whole_numbers), pa.string())
    return pc.if_else(pa.array(is_whole), as_integer, pc.cast(values, pa.string()))
