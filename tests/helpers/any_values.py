"""Values of every kind, the Arrow types that hold them, and a reference for which of them are equal.

A time is a Python int of nanoseconds: since midnight, or since 1970-01-01 as written (naive) or in UTC (an instant).
"""

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

Kind = Literal["number", "boolean", "text", "naive", "instant", "clock", "null"]
Value = Any
"""None, int, Decimal, float (NaN or -0.0 only), bool or str."""

SECOND_NS, DAY_NS = 10**9, 86_400 * 10**9
EPOCH = date(1970, 1, 1).toordinal()
FLOAT_TYPES: dict[int, Any] = {16: np.float16, 32: np.float32, 64: np.float64}
EXACT_BITS = {16: 11, 32: 24, 64: 53}
UNIT_NS = {"s": SECOND_NS, "ms": 10**6, "us": 10**3, "ns": 1}
ZONES = ("UTC", "Asia/Seoul", "America/New_York", "+09:00")


@dataclass(frozen=True)
class Form:
    """An Arrow type that a writer may give to a column, and the kind of its values."""

    kind: Kind
    dtype: pa.DataType

    @property
    def plain(self) -> pa.DataType:
        """The type of the values: that of the dictionary, if there is one."""
        return self.dtype.value_type if pa.types.is_dictionary(self.dtype) else self.dtype

    @property
    def width(self) -> int | None:
        """Bits of a float type; None for other types."""
        return self.plain.bit_width if pa.types.is_floating(self.plain) else None

    @property
    def unit_ns(self) -> int:
        """Nanoseconds of one step of a time type."""
        if pa.types.is_date(self.plain):
            return DAY_NS
        return UNIT_NS[self.plain.unit]


DICTIONARY = pa.dictionary
NULL = Form("null", pa.null())
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
NUMBERS = [
    *INTEGERS, DICTIONARY(pa.int16(), pa.int64()), DICTIONARY(pa.int32(), pa.uint64()),
    pa.float16(), pa.float32(), pa.float64(), DICTIONARY(pa.int16(), pa.float64()), DICTIONARY(pa.int8(), pa.float32()),
    pa.decimal128(5, 2), pa.decimal128(20, 0), pa.decimal128(38, 12), pa.decimal256(45, 3),
]  # fmt: skip
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
TEXTS += [DICTIONARY(pa.int32(), pa.string()), DICTIONARY(pa.int8(), pa.large_string())]
FORMS: dict[Kind, list[Form]] = {
    "number": [Form("number", dtype) for dtype in NUMBERS],
    "boolean": [Form("boolean", pa.bool_())],
    "text": [Form("text", dtype) for dtype in TEXTS],
    "naive": [Form("naive", t) for t in (pa.date32(), pa.date64(), *(pa.timestamp(unit) for unit in UNIT_NS))],
    "instant": [Form("instant", pa.timestamp(unit, zone)) for unit in UNIT_NS for zone in ZONES],
    "clock": [Form("clock", t) for t in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))],
}


def nanoseconds(year: int, month: int, day: int, of_day: int = 0) -> int:
    return (date(year, month, day).toordinal() - EPOCH) * DAY_NS + of_day


SMALL: list[Value] = [0, -0.0, 1, 2, 3, -1, 100]
LARGE: list[Value] = [2**11, 2**24 - 1, 2**24, 2**31, -(2**31), 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1]
LARGE += [2**63 - 1, 2**63, 2**63 + 5, 2**64 - 1, -(2**63)]
DYADIC: list[Value] = [Decimal("0.5"), Decimal("2.25"), Decimal("-0.75")]
FRACTIONS: list[Value] = [*DYADIC, *map(Decimal, ("0.1", "0.3", "100.7", "0.1000000001"))]
WORDS = ["a", " a", "a\t", "b", "", " ", "A", "é", "日本", "1", "1.0", "1a", "True", "\u3000b"]
DAYS = [nanoseconds(2024, 1, day) for day in (1, 2, 3, 9, 10)] + [nanoseconds(2024, 3, 10), nanoseconds(1969, 12, 31)]
FAR_DAYS = [nanoseconds(1600, 2, 29), nanoseconds(2500, 1, 1), nanoseconds(9999, 12, 31)]
OF_DAY = [10 * 3600 * SECOND_NS, 23 * 3600 * SECOND_NS + 10**6, 3 * 3600 * SECOND_NS + 500, SECOND_NS, 1]
MOMENTS = DAYS + [day + time for day in DAYS[:3] for time in OF_DAY]
VALUES: dict[Kind, list[list[Value]]] = {
    "number": [SMALL, [*SMALL, *FRACTIONS], FRACTIONS, [*SMALL, *LARGE]],
    "boolean": [[True, False]],
    "text": [WORDS],
    "naive": [DAYS, MOMENTS, [*MOMENTS, *FAR_DAYS]],
    "instant": [MOMENTS, [*MOMENTS, *FAR_DAYS]],
    "clock": [[0, *OF_DAY]],
}


@dataclass(frozen=True)
class Domain:
    """The values that a column may take, of one kind."""

    kind: Kind
    values: tuple[Value, ...]


def domains(*kinds: Kind, numbers: Sequence[list[Value]] = tuple(VALUES["number"])) -> st.SearchStrategy[Domain]:
    """Two to five values of one of the kinds."""

    def of_kind(kind: Kind) -> st.SearchStrategy[Domain]:
        pools = numbers if kind == "number" else VALUES[kind]
        few = st.sampled_from(pools).flatmap(
            lambda pool: st.lists(st.sampled_from(pool), min_size=2, max_size=5, unique_by=repr)
        )
        return few.map(lambda values: Domain(kind, tuple(values)))

    return st.sampled_from(kinds).flatmap(of_kind)


def is_missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def holds(form: Form, value: Value) -> bool:
    """Returns whether a writer can write a value of the form's kind with its type; a float type rounds fractions."""
    dtype = form.plain
    if form.kind in ("boolean", "text"):
        return True
    if form.kind != "number":
        return value % form.unit_ns == 0 and abs(value // form.unit_ns) < 2**63
    if form.width is not None:
        with np.errstate(over="ignore"):
            return isinstance(value, Decimal) or float(FLOAT_TYPES[form.width](float(value))) == value
    if isinstance(value, float):
        return False  # only a float type has -0.0
    if pa.types.is_decimal(dtype):
        scaled = Fraction(value) * 10**dtype.scale
        return scaled.denominator == 1 and abs(scaled) < 10**dtype.precision
    low, high = (-(2 ** (dtype.bit_width - 1)), 2 ** (dtype.bit_width - 1) - 1)
    if pa.types.is_unsigned_integer(dtype):
        low, high = 0, 2**dtype.bit_width - 1
    return isinstance(value, int) and low <= value <= high


def is_exact(form: Form, value: Value) -> bool:
    """Returns whether a value is not a whole number at or beyond the exact range of a float type."""
    return form.width is None or is_missing(value) or abs(held(form, value)) < 2 ** EXACT_BITS[form.width]


def held(form: Form, value: Value) -> Fraction:
    """Returns the number that a column of the form holds after a value was written."""
    return Fraction(value if form.width is None else float(FLOAT_TYPES[form.width](float(value))))


def array(form: Form, values: Iterable[Value]) -> pa.Array:
    """Writes values as an Arrow array of the form's type."""
    dtype, items = form.plain, list(values)
    if form.kind in ("naive", "instant", "clock"):
        storage = pa.int32() if dtype.bit_width == 32 else pa.int64()
        step = 10**6 if pa.types.is_date64(dtype) else form.unit_ns
        written = pa.array([None if value is None else value // step for value in items], storage).cast(dtype)
    elif form.width is not None:
        number = FLOAT_TYPES[form.width] if form.width == 16 else float
        written = pa.array([None if value is None else number(float(value)) for value in items], dtype)
    elif pa.types.is_decimal(dtype):
        written = pa.array([None if value is None else Decimal(value) for value in items], dtype)
    else:
        written = pa.array(items, dtype)
    return written.dictionary_encode().cast(form.dtype) if pa.types.is_dictionary(form.dtype) else written


def spellings(domain: Domain) -> list[str]:
    """Returns texts of a domain's values, as writers of text files write them."""
    if domain.kind == "number":
        digits = [str(value) for value in domain.values]
        wholes = [text for text in digits if "." not in text]
        changed = [f" {text}" for text in digits] + [f"{text}e0" for text in digits] + [f"{text}.0" for text in wholes]
        return [*digits, *changed, *(f"0{text}" for text in wholes if not text.startswith("-"))]
    if domain.kind in ("naive", "instant"):
        zones = ("",) if domain.kind == "naive" else ("Z", "+09:00")
        microseconds = [value for value in domain.values if value % 1000 == 0 and value < FAR_DAYS[-1]]
        return [text for value in microseconds for zone in zones for text in iso_texts(value, zone)]
    return [str(value) for value in domain.values]


def iso_texts(value: int, zone: str) -> list[str]:
    """Returns ISO 8601 texts of a time; a zone is "", "Z" or "+09:00"."""
    day, of_day = divmod(value + 9 * 3600 * SECOND_NS * (zone == "+09:00"), DAY_NS)
    calendar = date.fromordinal(EPOCH + day).isoformat()
    seconds, rest = divmod(of_day, SECOND_NS)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    clock += f".{rest // 1000:06}" if rest else ""
    dates = [calendar, f" {calendar}"] if not of_day and not zone else []
    return [*dates, f"{calendar}T{clock}{zone}", f"{calendar} {clock}{zone}"]


_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{6}))?)?(Z|\+09:00)?")


def meaning(form: Form, value: Value, width: int | None = None, reads_numbers: bool = False) -> Hashable:
    """Returns the identity of a value: kind and exact value; None for a missing value.

    Args:
        form: the form of the column that holds the value.
        value: the value as written.
        width: narrowest width of the float columns that share a table, if there are any.
        reads_numbers: whether texts are read as numbers where they are numbers.
    """
    if is_missing(value):
        return None
    if form.kind == "number":
        return _number(held(form, value), width)
    if form.kind == "text":
        text = value.strip()
        if reads_numbers and _NUMBER.fullmatch(text):
            return _number(Fraction(text), width)
        return "text", text
    return form.kind, value


def _number(value: Fraction, width: int | None) -> Hashable:
    if value.denominator == 1:
        return "number", int(value)
    return "number", value if width is None else Fraction(float(FLOAT_TYPES[width](float(value))))


def moment(form: Form, value: Value) -> tuple[str, Any] | None:
    """Returns kind and exact value of an entry of an order, day or split column; text is read as an ISO 8601 time."""
    if form.kind != "text" or value is None:
        found = meaning(form, value)
        assert found is None or isinstance(found, tuple)
        return found
    iso = _ISO.fullmatch(value.strip())
    if iso is None:
        return "text", value
    calendar, hours, minutes, seconds, microseconds, zone = iso.groups()
    of_day = (int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)) * SECOND_NS
    of_day += int(microseconds or 0) * 1000 - 9 * 3600 * SECOND_NS * (zone == "+09:00")
    value_ns = (date.fromisoformat(calendar).toordinal() - EPOCH) * DAY_NS + of_day
    return ("instant" if zone else "naive"), value_ns


def local_day(value: int, zone: str) -> int:
    """Returns the calendar day of an instant in a zone, as days since 1970-01-01."""
    if zone == "+09:00":
        return (value + 9 * 3600 * SECOND_NS) // DAY_NS
    moment_utc = datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(seconds=value // SECOND_NS)
    return moment_utc.astimezone(ZoneInfo(zone)).date().toordinal() - EPOCH


def utc_of(value: int, zone: str) -> int:
    """Returns the instant of a time in a zone."""
    if zone == "+09:00":
        return value - 9 * 3600 * SECOND_NS
    local = datetime(1970, 1, 1, tzinfo=ZoneInfo(zone)) + timedelta(seconds=value // SECOND_NS)
    offset = local.utcoffset() or timedelta()
    return value - int(offset.total_seconds()) * SECOND_NS
