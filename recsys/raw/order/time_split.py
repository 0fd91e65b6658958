"""Splits rows by time: at given times, and by calendar day."""

import datetime as dt
import math
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.groups import NO_DAY, PARTITIONS, Partition
from recsys.errors import InputError
from recsys.raw.order.moments import TICKS_PER_S, WEEKDAYS, Timeline, read_moments
from recsys.schema.config import TimeSplit

_S_PER_DAY = 86_400
MAX_DAYS = 3_660
"""Maximum number of distinct numbers that count as days: ten years."""
_MIN_EPOCH = 10**9
"""Numbers from here on are no days, but seconds, milliseconds or so since 1970, or hours such as 2025013110."""


def split_by_time(timeline: Timeline, times: TimeSplit) -> np.ndarray:
    """Returns the [n] uint8 partitions of rows that all have a time.

    Raises:
        InputError: for a time that cannot be compared with the column, or that leaves a partition without rows.
    """
    split = np.full(len(timeline.values), PARTITIONS.index("train"), np.uint8)
    starts: tuple[tuple[Partition, float | str | None], ...]
    starts = (("valid", times.valid_from), ("test", times.test_from))
    for name, start in starts:
        if start is not None:
            split[_is_from(timeline, start, f"schema.split.{name}_from", times.column)] = PARTITIONS.index(name)
    known = f"column {times.column!r} has {time_range(timeline)}"
    for name, start in starts:
        n_rows = np.count_nonzero(split == PARTITIONS.index(name))
        if start is not None and n_rows == 0:
            end = " and before test_from" if name == "valid" else ""
            raise InputError(
                f"schema.split.{name}_from: no row is from {_shown(start)} on{end}; {known}: give a time within that "
                "range, in its unit"
            )
    if not np.any(split == PARTITIONS.index("train")):
        start = times.test_from if times.valid_from is None else times.valid_from
        raise InputError(
            f"schema.split: no row is before {_shown(start)}; {known}: give times within that range, in its unit"
        )
    return split


def time_range(timeline: Timeline) -> str:
    """Returns the first and the last time as text."""
    values = timeline.values[timeline.is_valid]
    return f"{_display(timeline, values.min())} to {_display(timeline, values.max())}"


def _display(timeline: Timeline, value: np.generic) -> str:
    exact = timeline.ranked[int(value)] if timeline.ranked else value.item()
    if timeline.kind == "number":
        return f"{exact:g}" if isinstance(exact, float) and not exact.is_integer() else f"{int(exact)}"
    seconds = exact // TICKS_PER_S[timeline.unit or "s"]
    return str(np.datetime64(seconds, "s")).replace("T", " ") + ("" if timeline.zone is None else "Z")


def _shown(start: float | str | None) -> str:
    return str(int(start) if isinstance(start, float) and start.is_integer() else start)


def _is_from(timeline: Timeline, start: float | str, key: str, column: str) -> np.ndarray:
    """Returns [n] bool: whether each row's time is at or after a start."""
    if timeline.kind == "number":
        threshold = _number(start, key, column)
        if timeline.ranked:
            return timeline.values >= bisect_left(timeline.ranked, threshold)
        if timeline.values.dtype == np.int64:
            threshold = math.ceil(threshold) if math.isfinite(threshold) else threshold
        return timeline.values >= threshold
    ticks = _ticks(timeline, start, key, column)
    return timeline.values >= (bisect_left(timeline.ranked, ticks) if timeline.ranked else ticks)


def _number(start: float | str, key: str, column: str) -> int | float:
    try:
        number = int(start) if isinstance(start, str) else start
    except ValueError:
        try:
            number = float(start)
        except ValueError:
            number = math.nan
    if math.isnan(number):
        raise InputError(
            f"{key}: {start!r} cannot be compared with column {column!r}, which contains numbers: give one"
        )
    return number


def _ticks(timeline: Timeline, start: float | str, key: str, column: str) -> int:
    """Returns the first tick of the timeline at or after a start; a start without a zone is in that of the column."""
    zone = timeline.zone
    if not isinstance(start, str):
        raise InputError(
            f"{key}: {_shown(start)} is a number, but column {column!r} contains dates or times "
            f"({time_range(timeline)}): give a date or time such as 2025-01-31 10:00"
        )
    moments = read_moments(pa.array([start]), Path(key), "the time")
    if moments.kind == "zoned time" and zone is None:
        raise InputError(f"{key}: {start!r} has a time zone, but column {column!r} has none: remove the zone")
    unit = moments.values.type.unit
    ticks = moments.values.cast(pa.int64())[0].as_py()
    if moments.kind == "time" and zone is not None:
        ticks -= _utc_offset_s(ticks / TICKS_PER_S[unit], zone) * TICKS_PER_S[unit]
    return -(-ticks * TICKS_PER_S[timeline.unit or unit] // TICKS_PER_S[unit])  # rounded up


def _utc_offset_s(local_s: float, zone: str) -> int:
    """Returns the seconds that local time is ahead of UTC."""
    local = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=local_s)
    if zone[0] in "+-":
        tz: dt.tzinfo = dt.datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").tzinfo or dt.UTC
    else:
        try:
            tz = ZoneInfo(zone)
        except ZoneInfoNotFoundError as error:
            raise InputError(f"the time zone {zone!r} is not known to this machine: install tzdata") from error
    return int((local.replace(tzinfo=tz).utcoffset() or dt.timedelta()).total_seconds())


@dataclass(frozen=True)
class Days:
    """The days of rows."""

    index: np.ndarray
    """[n] int16: position among the sorted days; NO_DAY for a row without one."""
    names: tuple[str, ...]
    """Increasing: numbers, ISO dates, or names of weekdays."""


def days_of(timeline: Timeline, column: str) -> Days:
    """Returns the days of [n] rows: whole numbers, weekdays from Monday on, or the calendar days of times.

    Raises:
        InputError: for numbers that are not whole, or too many to be days.
    """
    if timeline.kind == "number":
        days, inverse = np.unique(timeline.values[timeline.is_valid], return_inverse=True)
        shown = [_display(timeline, day) for day in days[[0, -1]]] if len(days) else []
        if not timeline.ranked and (not np.all(np.isfinite(days)) or np.any(days != np.floor(days))):
            raise InputError(f"day column {column!r} contains numbers that are not whole: write whole numbers or dates")
        if timeline.ranked or len(days) > MAX_DAYS or np.any(np.abs(days) >= _MIN_EPOCH):
            raise InputError(
                f"day column {column!r} contains {len(days):,} different numbers from {shown[0]} to {shown[1]}, which "
                "are not days: write dates or timestamps, such as pandas.to_datetime(column, unit='s') makes"
            )
        names = tuple(str(int(day)) for day in days)
    elif timeline.kind == "weekday":
        days, inverse = np.unique(timeline.values[timeline.is_valid], return_inverse=True)
        names = tuple(WEEKDAYS[day] for day in days)
    else:
        seconds = timeline.seconds()
        if timeline.zone is not None:
            seconds = _local_seconds(seconds, timeline.zone)
        days, inverse = np.unique(np.floor_divide(seconds, _S_PER_DAY), return_inverse=True)
        names = tuple(str(np.datetime64(int(day), "D")) for day in days)
        if len(days) > np.iinfo(np.int16).max:
            raise InputError(
                f"day column {column!r} contains {len(days):,} different days from {names[0]} to {names[-1]}, which "
                "are too many: correct its unit"
            )
    index = np.full(len(timeline.values), NO_DAY, np.int16)
    index[timeline.is_valid] = inverse
    return Days(index, names)


def _local_seconds(seconds: np.ndarray, zone: str) -> np.ndarray:
    try:
        local = pc.local_timestamp(pa.array(seconds).cast(pa.timestamp("s", zone)))
    except pa.ArrowException as error:
        raise InputError(f"the time zone {zone!r} is not known to this machine ({error}): install tzdata") from error
    return local.cast(pa.int64()).to_numpy(zero_copy_only=False)
