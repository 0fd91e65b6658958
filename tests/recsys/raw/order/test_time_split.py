"""Splits by time and by day: bounds within the data, in its unit; calendar days."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.raw.order.moments import Timeline, join_moments, read_days, read_moments
from recsys.raw.order.time_split import days_of, split_by_time
from recsys.schema.config import TimeSplit

HOURS = np.arange(0, 96, 12)  # four days


def timeline(values: pa.Array) -> Timeline:
    return join_moments([read_moments(values, Path("a.parquet"), "t")], "t")


def times(zone: str | None = None) -> Timeline:
    return timeline(pa.array(1_574_985_600 + 3600 * HOURS, pa.timestamp("s", zone)))  # from 2019-11-29 00:00 UTC


def split(moments: Timeline, **bounds: Any) -> list[int]:
    return split_by_time(moments, TimeSplit.model_validate({"column": "t"} | bounds)).tolist()


@pytest.mark.parametrize("start", ["2019-11-30", "2019-11-30 00:00", "2019-11-29T12:00:00.000001"])
def test_a_plain_date_is_its_midnight(start: str) -> None:
    assert split(times(), test_from=start) == [0, 0, 2, 2, 2, 2, 2, 2]


def test_a_start_without_a_zone_is_in_that_of_the_column() -> None:
    assert split(times("UTC"), test_from="2019-11-30") == [0, 0, 2, 2, 2, 2, 2, 2]
    assert split(times("Asia/Seoul"), test_from="2019-11-30") == [0, 0, 2, 2, 2, 2, 2, 2]  # 15:00 UTC of the 29th
    assert split(times("-12:00"), test_from="2019-11-30") == [0, 0, 0, 2, 2, 2, 2, 2]
    assert split(times("Asia/Seoul"), test_from="2019-11-30T12:00Z") == [0, 0, 0, 2, 2, 2, 2, 2]


def test_whole_numbers_are_compared_exactly() -> None:
    moments = timeline(pa.array([2**60 - 1, 2**60, 2**60 + 1, 2**60 + 2]))
    assert split(moments, test_from=2**60 + 1) == [0, 0, 2, 2]
    assert split(timeline(pa.array([1, 2, 3])), valid_from=1.5, test_from="3") == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "bounds", "message"),
    [
        ([1, 2, 3], {"test_from": 1}, r"no row is before 1(\.0)?; column 't' has 1 to 3"),
        ([1, 2, 3], {"test_from": 1000}, r"test_from: no row is from 1000(\.0)? on; column 't' has 1 to 3"),
        ([1, 2, 3], {"valid_from": 3, "test_from": 2}, "valid_from: no row is from .* and before test_from"),
        ([1, 2, 3], {"test_from": "soon"}, "schema.split.test_from: 'soon' cannot be compared with column 't'"),
        ([1, 2, 3], {"test_from": float("nan")}, "cannot be compared"),
    ],
)
def test_bounds_that_leave_a_partition_empty_give_the_range(values: list, bounds: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(timeline(pa.array(values)), **bounds)


@pytest.mark.parametrize(
    ("zone", "start", "message"),
    [
        (
            None,
            1_575_000_000,
            r"is a number, but column 't' contains dates or times \(2019-11-29 00:00:00 to 2019-12-02",
        ),
        (None, "2019-11-30T00:00Z", "has a time zone, but column 't' has none"),
        (None, "30.11.2019", "'30.11.2019', whose order is not known"),
        ("UTC", "2020-01-01", "no row is from 2020-01-01 on; column 't' has 2019-11-29 00:00:00Z to"),
    ],
)
def test_bounds_of_another_kind_are_refused(zone: str | None, start: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(times(zone), test_from=start)


def test_times_count_by_their_calendar_day() -> None:
    days = days_of(times(), "d")
    assert days.names == ("2019-11-29", "2019-11-30", "2019-12-01", "2019-12-02")
    assert days.index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert days_of(times("Asia/Seoul"), "d").index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert days_of(times("+12:00"), "d").names[0] == "2019-11-29"
    assert days_of(times("+12:00"), "d").index.tolist() == [0, 1, 1, 2, 2, 3, 3, 4]


def test_whole_numbers_are_days() -> None:
    days = days_of(timeline(pa.array([10.0, 9.0, 10.0])), "d")
    assert (days.names, days.index.tolist()) == (("9", "10"), [1, 0, 1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(40_000), "contains 40,000 different numbers from 0 to 39999, which are not days"),
        (
            1_700_000_000 + np.arange(3),
            "contains 3 different numbers from 1700000000 to 1700000002, which are not days",
        ),
        (np.array([1.5, 2.0]), "contains numbers that are not whole"),
    ],
)
def test_numbers_that_are_not_days_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=f"day column 'd' {message}"):
        days_of(timeline(pa.array(values)), "d")


def test_many_thousand_times_are_few_days() -> None:
    days = days_of(timeline(pa.array(np.arange(50_000) * 60, pa.timestamp("s"))), "d")
    assert len(days.names) == 35
    assert days.index.max() == 34


@pytest.mark.parametrize("column", [pa.array, lambda names: pa.array(names).dictionary_encode()])
def test_weekdays_begin_on_monday(column: Callable[[list[str]], pa.Array]) -> None:
    names = ["sunday", " Wed", "MONDAY", "Wednesday", "fri"]
    parts = [read_days(column(names), Path("a"), "day"), read_days(pa.array([None, "Mon"]), Path("b"), "day")]
    days = days_of(join_moments(parts, "day"), "d")
    assert days.names == ("Monday", "Wednesday", "Friday", "Sunday")
    assert days.index.tolist() == [3, 1, 0, 1, 2, -1, 0]


def test_weekdays_beside_other_days_are_refused() -> None:
    with pytest.raises(InputError, match="contains the text 'Mon', whose order is not known"):
        read_days(pa.array(["Mon", "2025-01-31"]), Path("a"), "the day")
    names, numbers = (
        read_days(values, Path(file), "day") for values, file in ((pa.array(["Mon"]), "a"), (pa.array([1]), "b"))
    )
    with pytest.raises(InputError, match="day contains names of weekdays in a, but numbers in b"):
        join_moments([names, numbers], "day")
    with pytest.raises(InputError, match="'Mon', whose order is not known"):  # only days may be weekdays
        read_moments(pa.array(["Mon"]), Path("a"), "the order")
