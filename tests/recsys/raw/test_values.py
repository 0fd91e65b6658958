"""Canonical text: one text for one value of any type."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.raw.values import canonical_text
from recsys.schema.kinds import ValueForm

NUMBERS, CSV = ValueForm(text_as="numbers"), ValueForm(text_as="whole numbers")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([5, 0], pa.int8()),
        pa.array([5, 0], pa.uint64()),
        pa.array([5.0, -0.0], pa.float16()),
        pa.array([5.0, -0.0]),
        pa.array([Decimal("5.000"), Decimal("-0.000")], pa.decimal128(9, 3)),
        pa.array([Decimal(5), Decimal("0E-10")], pa.decimal128(30, 10)),
        pa.array([Decimal(5), Decimal(0)], pa.decimal256(40, 0)),
        pa.array([" 5", "0\t"], pa.large_string()),
    ],
)
def test_equal_numbers_have_equal_text(values: pa.Array) -> None:
    assert canonical_text(values).to_pylist() == ["5", "0"]


def test_numbers_beyond_64_bits_of_a_sign_are_exact() -> None:
    assert canonical_text(pa.array([2**64 - 1], pa.uint64())).to_pylist() == ["18446744073709551615"]
    assert canonical_text(pa.array([Decimal(2**64 - 1)], pa.decimal128(20, 0))).to_pylist() == ["18446744073709551615"]


def test_text_is_read_as_numbers_where_it_stands_beside_numbers() -> None:
    text = pa.array(["1.0", " 01", "1e0", "+1", "-0.0", ".50", "0.5", "abc", "1e30", "", None])
    assert canonical_text(text, form=NUMBERS).to_pylist() == [
        *("1", "1", "1", "1", "0", "0.5", "0.5", "abc", "1" + "0" * 30, "", None)
    ]
    assert canonical_text(text).to_pylist()[:3] == ["1.0", "01", "1e0"]


def test_text_of_csv_files_keeps_its_zeros_but_not_the_point_of_a_whole_number() -> None:
    text = pa.array(["5.0", "007", "1.10", "-3.00", "-0.0", "1.0.0"])
    assert canonical_text(text, form=CSV).to_pylist() == ["5", "007", "1.10", "-3", "0", "1.0.0"]


def test_fractions_of_two_widths_meet_at_the_narrower_one() -> None:
    narrow = ValueForm(float_bits=32)
    as_written = canonical_text(pa.array([0.1, 2.25], pa.float32()), form=narrow).to_pylist()
    assert as_written == ["0.1", "2.25"]
    assert canonical_text(pa.array([0.1, 2.25]), form=narrow).to_pylist() == as_written
    widened = pa.array([float(np.float32(0.1)), 2.25])
    assert canonical_text(widened, form=narrow).to_pylist() == as_written
    decimals = pa.array([Decimal("0.10"), Decimal("2.25")])
    assert canonical_text(decimals, form=narrow).to_pylist() == as_written


def test_a_fraction_narrower_than_the_prepared_ones_is_refused() -> None:
    with pytest.raises(InputError, match=r"column 'c' contains the fraction 0.1 as float, but .* 64-bit"):
        canonical_text(pa.array([0.1], pa.float32()), "column 'c'", ValueForm(float_bits=64))
    whole = canonical_text(pa.array([7.0], pa.float32()), form=ValueForm(float_bits=64))
    assert whole.to_pylist() == ["7"]


def test_an_instant_has_one_text_in_any_unit_and_zone() -> None:
    seconds = 1_700_000_000
    values = [
        pa.array([seconds], pa.timestamp("s", "UTC")),
        pa.array([seconds * 10**9], pa.timestamp("ns", "Asia/Seoul")),
        pa.array([seconds * 1000], pa.timestamp("ms", "-05:00")),
    ]
    assert {canonical_text(value)[0].as_py() for value in values} == {"2023-11-14 22:13:20Z"}
    naive = canonical_text(pa.array([seconds], pa.timestamp("s")))
    assert naive.to_pylist() == ["2023-11-14 22:13:20"]


def test_a_date_is_its_midnight() -> None:
    day = dt.date(2024, 2, 29)
    for dtype in (pa.date32(), pa.date64(), pa.timestamp("us")):
        assert canonical_text(pa.array([day]).cast(dtype)).to_pylist() == ["2024-02-29"]
