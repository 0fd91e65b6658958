"""Values that rows are ordered by: numbers, dates and times, never text. The same instant is equal in any unit or zone.

Text in ISO 8601 is read as dates and times. Other text has no order that could be meant: "10" sorts before "9".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.raw.numbers import numbers_of_text
from recsys.raw.tokens import as_array, null_for_nan
from recsys.raw.values import NUMBER
from recsys.schema.kinds import Kind, kind_of

_DATE = r"\d{4}-\d{2}-\d{2}"
_ZONE = r"(?:Z|[+-]\d{2}(?::?\d{2})?)"
_ISO = rf"^{_DATE}(?:[T ]\d{{2}}(?::\d{{2}}(?::\d{{2}}(?:\.\d{{1,9}})?)?)?{_ZONE}?)?$"
_ZONED = rf"^{_DATE}[T ].*{_ZONE}$"
TICKS_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_CURE = "write numbers, dates, timestamps or ISO-8601 text such as 2025-01-31 10:00"


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MomentKind = Kind | Literal["weekday"]


@dataclass(frozen=True)
class Moments:
    """[n] values of one kind that can be compared."""

    kind: MomentKind
    """number, time, zoned time, weekday, or null without any value."""
    values: pa.Array
    """Numbers as they are stored, timestamps (in UTC if they are zoned), or positions among WEEKDAYS; null for null and
    NaN."""
    path: Path
    """The file of the values, for messages."""
    zone: str | None = None
    """The time zone of the file's type."""


def read_days(column: pa.Array | pa.ChunkedArray, path: Path, role: str, is_untyped: bool = False) -> Moments:
    """Reads a day column: as `read_moments`, or names of weekdays, in full or three letters, in any case."""
    array = null_for_nan(as_array(column))
    if kind_of(array.type) == "text":
        encoded = pc.utf8_lower(pc.utf8_trim_whitespace(array.cast(pa.large_string()))).dictionary_encode()
        names = [name.lower() for name in WEEKDAYS]
        known = pa.array([*names, *(name[:3] for name in names)], pa.large_string())
        position = pc.index_in(encoded.dictionary, value_set=known)
        if len(position) and position.null_count == 0:
            weekday = pa.array(np.asarray(position).astype(np.int64) % len(WEEKDAYS))
            return Moments("weekday", weekday.take(encoded.indices), path)
    return read_moments(array, path, role, is_untyped)


def read_moments(column: pa.Array | pa.ChunkedArray, path: Path, role: str, is_untyped: bool = False) -> Moments:
    """Reads an order column.

    Args:
        column: [n] values.
        path: the file.
        role: the column and its role, for messages.
        is_untyped: whether text may be numbers, because the file has no types (CSV, names of folders).

    Raises:
        InputError: for booleans, times of day, and text that is not ISO 8601.
    """
    array = null_for_nan(as_array(column))
    kind, zone = kind_of(array.type), None
    if kind == "text":
        return _read_text(array, path, role, is_untyped)
    if kind not in ("number", "time", "zoned time", "null"):
        raise InputError(f"{path}: {role} is {array.type}, which has no order in time: {_CURE}")
    if kind == "zoned time":
        zone, array = array.type.tz, array.cast(pa.timestamp(array.type.unit, "UTC"))
    elif pa.types.is_date(array.type):
        array = array.cast(pa.date32()).cast(pa.timestamp("s"))
    if array.null_count == len(array):
        kind = "null"
    return Moments(kind, array, path, zone)


def _read_text(array: pa.Array, path: Path, role: str, is_untyped: bool) -> Moments:
    encoded = pc.utf8_trim_whitespace(array.cast(pa.large_string())).dictionary_encode()
    texts, indices = encoded.dictionary, encoded.indices
    if len(texts) == 0:
        return Moments("null", pa.nulls(len(array), pa.int64()), path)
    if is_untyped and pc.all(pc.match_substring_regex(texts, NUMBER)).as_py():
        return Moments("number", numbers_of_text(texts).take(indices), path)
    is_iso = np.asarray(pc.match_substring_regex(texts, _ISO))
    if not is_iso.all():
        text = texts[int(np.flatnonzero(~is_iso)[0])].as_py()
        is_number = pc.match_substring_regex(pa.array([text]), NUMBER)[0].as_py()
        cure = "numbers in text need schema.numbers_as_text, which lists their columns" if is_number else _CURE
        raise InputError(f"{path}: {role} contains the text {text!r}, whose order is not known: {cure}")
    is_zoned = np.asarray(pc.match_substring_regex(texts, _ZONED))
    if is_zoned.any() != is_zoned.all():
        zoned, naive = (texts[int(np.flatnonzero(is_zoned == flag)[0])].as_py() for flag in (True, False))
        raise InputError(
            f"{path}: {role} contains {zoned!r}, which has a time zone, and {naive!r}, which has none: write all of "
            "them with a zone, or none"
        )
    zone = "UTC" if is_zoned.all() else None
    unit = "ns" if pc.any(pc.match_substring_regex(texts, r"\.\d{7,9}")).as_py() else "us"
    try:
        times = texts.cast(pa.timestamp(unit, zone))
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: {role} contains a date or time that does not exist ({error}): correct it") from error
    return Moments("time" if zone is None else "zoned time", times.take(indices), path, zone)


@dataclass(frozen=True)
class Timeline:
    """[n] comparable values of all files."""

    kind: MomentKind
    values: np.ndarray
    """[n] int64 or float64: numbers, ticks since 1970, or positions in `ranked`; undefined where not valid."""
    ranked: tuple[Any, ...]
    """Increasing numbers or ticks, if no NumPy type holds all of them exactly; else empty."""
    is_valid: np.ndarray
    """[n] bool."""
    unit: str | None = None
    """Unit of ticks: s, ms, us or ns."""
    zone: str | None = None
    """The common time zone of the files; UTC if they differ."""

    def dense_ranks(self, has_ties: bool) -> np.ndarray:
        """Returns [n] int64 ranks of the valid values, from 1; equal values share a rank, or have that of their order.

        The ranks of other values are undefined.
        """
        ranks = np.zeros(len(self.values), np.int64)
        valid = self.values[self.is_valid]
        if has_ties:
            ranks[self.is_valid] = np.unique(valid, return_inverse=True)[1] + 1
        else:
            order = np.argsort(valid, kind="stable")
            inverse = np.empty(len(valid), np.int64)
            inverse[order] = np.arange(1, len(valid) + 1)
            ranks[self.is_valid] = inverse
        return ranks

    def seconds(self) -> np.ndarray:
        """Returns the whole seconds since 1970 of the valid values, which are times."""
        ticks_per_s, valid = TICKS_PER_S[self.unit or "s"], self.values[self.is_valid]
        if not self.ranked:
            return np.floor_divide(valid, ticks_per_s)
        return np.array([int(ticks) // ticks_per_s for ticks in self.ranked], np.int64)[valid]


def join_moments(parts: Sequence[Moments], role: str) -> Timeline:
    """Joins the moments of all files.

    Raises:
        InputError: when two files have different kinds.
    """
    first = next((part for part in parts if part.kind != "null"), None)
    is_valid = np.concatenate([np.asarray(pc.is_valid(part.values)) for part in parts])
    if first is None:
        return Timeline("null", np.zeros(len(is_valid), np.int64), (), is_valid)
    for part in parts:
        if part.kind not in (first.kind, "null"):
            raise InputError(
                f"{role} contains {_described(first)} in {first.path}, but {_described(part)} in {part.path}, which "
                "have no common order: write all files with one type"
            )
    if first.kind in ("number", "weekday"):
        return replace(_join_numbers([part.values for part in parts], is_valid), kind=first.kind)
    units = [part.values.type.unit for part in parts if part.kind != "null"]
    unit = max(units, key=lambda name: TICKS_PER_S[name])
    zones = {part.zone for part in parts if part.kind != "null"}
    zone = None if first.kind == "time" else next(iter(zones)) if len(zones) == 1 else "UTC"
    try:
        ticks = [_ticks(part, unit) for part in parts]
    except pa.ArrowInvalid:  # nanoseconds end in 2262
        exact = [tick for part in parts for tick in _exact_ticks(part, unit)]
        return Timeline(first.kind, *_ranks_of(exact), is_valid, unit, zone)
    return Timeline(first.kind, np.concatenate(ticks), (), is_valid, unit, zone)


def _ticks(part: Moments, unit: str) -> np.ndarray:
    if part.kind == "null":
        return np.zeros(len(part.values), np.int64)
    times = part.values.cast(pa.timestamp(unit, part.values.type.tz))
    return times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)


def _exact_ticks(part: Moments, unit: str) -> list[int | None]:
    if part.kind == "null":
        return [None] * len(part.values)
    factor = TICKS_PER_S[unit] // TICKS_PER_S[part.values.type.unit]
    return [None if tick is None else tick * factor for tick in part.values.cast(pa.int64()).to_pylist()]


def _ranks_of(exact: Sequence[Any]) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Returns the [n] ranks of Python numbers, 0 for None, and the numbers in order."""
    ranked = sorted({value for value in exact if value is not None})
    rank_of = {value: rank for rank, value in enumerate(ranked)}
    return np.array([rank_of.get(value, 0) for value in exact], np.int64), tuple(ranked)


def _described(part: Moments) -> str:
    described = {"time": "times without a zone", "zoned time": "times with a zone", "weekday": "names of weekdays"}
    return described.get(part.kind, "numbers")


def _join_numbers(parts: Sequence[pa.Array], is_valid: np.ndarray) -> Timeline:
    """Joins numbers as int64, else as float64, else as ranks; the order is always exact."""
    integers = [numbers for part in parts if (numbers := _as_integers(part)) is not None]
    if len(integers) == len(parts):
        return Timeline("number", np.concatenate(integers), (), is_valid)
    floats = [numbers for part in parts if (numbers := _as_floats(part)) is not None]
    if len(floats) == len(parts):
        return Timeline("number", np.concatenate(floats), (), is_valid)
    # such as uint64 from 2^63 on beside negative numbers: Python compares numbers of different types exactly
    values, ranked = _ranks_of([value for part in parts for value in part.to_pylist()])
    return Timeline("number", values, ranked, is_valid)


def _as_integers(part: pa.Array) -> np.ndarray | None:
    """Returns [n] int64, 0 for null; None for values that are not all whole or beyond int64."""
    if pa.types.is_floating(part.type):
        return None
    try:
        return part.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


def _as_floats(part: pa.Array) -> np.ndarray | None:
    """Returns [n] float64, 0 for null; None for values that float64 may not hold exactly."""
    if pa.types.is_floating(part.type):
        return part.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
    integers = _as_integers(part)
    if integers is None or np.any((integers < -(2**53)) | (integers > 2**53)):
        return None
    return integers.astype(np.float64)
