"""Order columns: numbers, dates and times of any type in one order, never text."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.raw.order.moments import Timeline, join_moments, read_moments
from recsys.raw.order.time_split import days_of, split_by_time
from recsys.schema.config import TimeSplit

A, B = Path("a.parquet"), Path("b.parquet")
DAY_US = 86_400 * 10**6


def timeline(*columns: pa.Array, is_untyped: bool = False) -> Timeline:
    parts = [read_moments(column, Path(f"{index}.parquet"), "t", is_untyped) for index, column in enumerate(columns)]
    return join_moments(parts, "t")


def ranks(*columns: pa.Array) -> list[int]:
    joined = timeline(*columns)
    return [rank if valid else 0 for rank, valid in zip(joined.dense_ranks(True), joined.is_valid, strict=True)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([10, 2], pa.int8()), pa.array([9, 2], pa.int64())),
        (pa.array([10, 2], pa.uint64()), pa.array([9.0, 2.0], pa.float32())),
        (pa.array([10.5, 2.5]), pa.array([Decimal("9.5"), Decimal("2.50")])),
        (pa.array([2**53 + 1, 2**53]), pa.array([2.0**53 + 0, 2.0**53])),
        (pa.array([2**64 - 1, 5], pa.uint64()), pa.array([2**62, 5])),
    ],
)
def test_numbers_of_any_type_have_their_exact_order(first: pa.Array, second: pa.Array) -> None:
    values = [*first.to_pylist(), *second.to_pylist()]
    distinct = sorted(set(values))
    assert ranks(first, second) == [distinct.index(value) + 1 for value in values]


def test_times_of_any_unit_and_zone_and_iso_text() -> None:
    utc = pa.array([0, 3_600_000], pa.timestamp("ms", "UTC"))
    seoul = pa.array([1, 3_600_000_000_000], pa.timestamp("ns", "Asia/Seoul"))
    text = pa.array(["1970-01-01T09:00:00+09:00", "1970-01-01T00:30Z"])
    assert ranks(utc, seoul, text) == [1, 4, 2, 4, 1, 3]
    naive = pa.array([DAY_US, None], pa.timestamp("us"))
    dates = pa.array([1, 2], pa.date32())
    assert ranks(naive, dates, pa.array(["1970-01-02", "1970-01-02 00:00:01"])) == [1, 0, 1, 3, 1, 2]


def test_dates_beyond_the_range_of_nanoseconds_keep_their_order_and_day() -> None:
    far = pa.array(["9999-12-31", "1600-01-01"]).cast(pa.timestamp("us"))
    near = pa.array([5, 86_400 * 10**9 + 5], pa.timestamp("ns"))
    assert ranks(far, near) == [4, 1, 2, 3]
    assert days_of(timeline(far, near), "d").names == ("1600-01-01", "1970-01-01", "1970-01-02", "9999-12-31")
    split = split_by_time(timeline(far, near), TimeSplit(column="t", test_from="1970-01-01 00:00:01"))
    assert split.tolist() == [2, 0, 0, 2]


def test_a_category_of_iso_dates_is_read_as_its_text() -> None:
    text = ["2025-01-10", "2025-01-09", None]
    assert ranks(pa.array(text).dictionary_encode()) == ranks(pa.array(text)) == [2, 1, 0]


def test_nan_is_null() -> None:
    assert timeline(pa.array([1.0, np.nan, None])).is_valid.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["10", "9"], "contains the text '10', whose order is not known: numbers in text need schema.numbers_as_text"),
        (["20250131"], "numbers in text need"),
        (["1/31/2025"], "contains the text '1/31/2025', whose order is not known: write numbers, dates"),
        (["Monday"], "'Monday', whose order is not known"),
        (["day1", "day10"], "'day1', whose order is not known"),
        (["2025-02-30"], "a date or time that does not exist"),
        (
            ["2025-01-01", "2025-01-01T00:00Z"],
            "'2025-01-01T00:00Z', which has a time zone, and '2025-01-01', which has",
        ),
        ([True, False], "is bool, which has no order in time"),
    ],
)
def test_values_without_a_known_order_are_refused(values: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^a.parquet: the day .*{message}"):
        read_moments(pa.array(values), A, "the day (column 'd')")


def test_kinds_that_have_no_common_order_name_both_files() -> None:
    naive = read_moments(pa.array([0], pa.timestamp("us")), A, "t")
    for other, described in (
        (pa.array([0], pa.timestamp("us", "UTC")), "times with a zone in b.parquet"),
        (pa.array([0]), "numbers in b.parquet"),
    ):
        with pytest.raises(InputError, match=f"t contains times without a zone in a.parquet, but {described}"):
            join_moments([naive, read_moments(other, B, "t")], "t")


def test_files_without_types_may_write_numbers_as_text() -> None:
    joined = timeline(pa.array(["10", "9"]), pa.array(["9.5", None]), is_untyped=True)
    assert joined.values[joined.is_valid].tolist() == [10, 9, 9.5]


def test_equal_times_keep_the_order_of_the_files_if_ties_count() -> None:
    assert timeline(pa.array([5, 1, 5])).dense_ranks(has_ties=False).tolist() == [2, 1, 3]
