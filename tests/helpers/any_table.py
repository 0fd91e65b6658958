"""Hypothesis strategies for columns of a parquet file, and a reference for how their values are normalized."""

import math
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

TEXT = st.text(max_size=5) | st.sampled_from(
    ["", " ", "a", " a", "a ", "é", "日本", "\x00", "a,b", "\n", '"', "nan", "5"]
)
FLOATS = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 5.0, 3e38, -3e38, 1e-45])
DOUBLES = st.floats() | st.sampled_from([math.nan, math.inf, 1e308, -1e308, 2.0**53, 5.0, 0.1])


def integers(bits: int, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 5, 6])


VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.dictionary(pa.int32(), pa.string()): TEXT,
    pa.dictionary(pa.int8(), pa.large_string()): TEXT,
    pa.dictionary(pa.int16(), pa.float64()): st.sampled_from([0.5, 1.0, 7.0]),
    pa.int8(): integers(8),
    pa.int64(): integers(64),
    pa.uint64(): integers(64, signed=False),
    pa.float16(): st.floats(width=16).map(np.float16),
    pa.float32(): FLOATS,
    pa.float64(): DOUBLES,
    pa.bool_(): st.booleans(),
    pa.decimal128(9, 2): st.decimals(-999, 999, places=2) | st.sampled_from([Decimal("5.00"), Decimal("0.50")]),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("ms", "UTC"): st.integers(-(10**12), 10**13),
    pa.time64("us"): st.times(),
    pa.duration("s"): st.integers(-(10**9), 10**9),
    pa.binary(): st.binary(max_size=3),
    pa.null(): st.none(),
    pa.list_(pa.int8()): st.lists(integers(8), max_size=4),
    pa.struct([("a", pa.int8())]): st.just({"a": 1}),
}
LISTS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.list_(pa.int64()): st.lists(st.none() | integers(64), max_size=6),
    pa.large_list(pa.string()): st.lists(st.none() | TEXT, max_size=6),
    pa.list_(pa.float32()): st.lists(FLOATS, max_size=6),
    pa.list_(pa.int16(), 2): st.lists(integers(16), min_size=2, max_size=2),
    pa.list_(pa.list_(pa.int8())): st.lists(st.lists(integers(8), max_size=2), max_size=3),
    pa.list_(pa.struct([("a", pa.int8())])): st.lists(st.just({"a": 1}), max_size=2),
    pa.list_(pa.null()): st.lists(st.none(), max_size=3),
    pa.map_(pa.string(), pa.int8()): st.just([("a", 1)]),
    pa.string(): TEXT,
}


def columns(kinds: dict[pa.DataType, st.SearchStrategy[Any]], n: int) -> st.SearchStrategy[pa.Array]:
    """[n] values of some type: often nulls, and often few distinct values, so that counts reach min_count."""

    def of_type(dtype: pa.DataType) -> st.SearchStrategy[pa.Array]:
        distinct = st.lists(st.none() | kinds[dtype], min_size=1, max_size=4)
        values = distinct.flatmap(lambda few: st.lists(st.sampled_from(few), min_size=n, max_size=n))
        return (values | st.lists(kinds[dtype], min_size=n, max_size=n)).map(lambda v: pa.array(v, dtype))

    return st.sampled_from(list(kinds)).flatmap(of_type)


def key(value: Any) -> Hashable:
    """The vocabulary key of a value: stripped text, whole numbers as int, null and NaN as None."""
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (float, np.floating, Decimal)):
        return int(value) if math.isfinite(value) and value == int(value) else float(value)
    return value if isinstance(value, (int, bytes)) else str(value)
