from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.vocabulary import RARE_ID, Vocabulary
from recsys.errors import InputError
from recsys.raw.derive import cross
from recsys.raw.tokens import encode_values
from recsys.schema.kinds import AS_WRITTEN, ValueForm
from serving.runtime import values as values_module
from serving.runtime import vocabulary as vocabulary_module
from serving.runtime.values import RawColumn, Values
from serving.runtime.vocabulary import ValueIndex, write_index

TEXTS = ["5", "red", "7", "-3", "2.5", "true", "", "a&b", "0.1", "9223372036854775807", "blü", "2025-01-01"]
TYPES: dict[str, tuple[pa.DataType, Any]] = {
    "int": (pa.int64(), st.sampled_from([5, 7, -3, 0, 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float64(), st.sampled_from([5.0, 2.5, -3.0, 0.1, -0.0]) | st.floats(-1e6, 1e6)),
    "text": (pa.string(), st.sampled_from(["5", " red ", "red", "5.0", "\x1fred", "a&b", ""]) | st.text(max_size=3)),
    "boolean": (pa.bool_(), st.booleans()),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ValueIndex:
    folder = tmp_path_factory.mktemp("index")
    write_index(pa.array(TEXTS), folder)
    return ValueIndex(folder)


def reference() -> Vocabulary:
    return Vocabulary(pa.array(TEXTS), np.zeros((len(TEXTS), 1), np.int64), 0, 1)


@pytest.mark.parametrize("kind", list(TYPES))
def test_codes_equal_those_of_prepared_rows(kind: str, index: ValueIndex) -> None:
    dtype, values = TYPES[kind]
    form = ValueForm(kind="number" if kind in ("int", "float") else "text" if kind == "text" else "boolean")
    feature = Values("f", ["f"], [form], index)

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.none() | values, min_size=1, max_size=6))
    def check(column: list[Any]) -> None:
        array = pa.array(column, dtype)
        expected = reference().encode(encode_values(array))
        for given_as in (column, array, array.dictionary_encode()):
            np.testing.assert_array_equal(feature.codes([RawColumn("f", given_as)]), expected)
        for value, code in zip(column, expected, strict=True):
            assert feature.code(value) in (None, code)

    check()


def test_codes_of_crosses(tmp_path: Path) -> None:
    a, b = pa.array(["x", "x", None, "a&b", ""]), pa.array([1, None, None, 2, 3])
    write_index(cross([pa.chunked_array([a]), pa.chunked_array([b])]).drop_null(), tmp_path)
    feature = Values("c", ["a", "b"], [AS_WRITTEN, AS_WRITTEN], ValueIndex(tmp_path))
    for _ in range(2):  # the second time from the table
        columns = [RawColumn("a", a.to_pylist()), RawColumn("b", b.to_pylist())]
        assert feature.codes(columns).tolist() == [2, 3, 0, 4, 5]
    assert feature.codes([RawColumn("a", ["x"]), RawColumn("b", [2])]).tolist() == [RARE_ID]


def test_memory_is_bounded(index: ValueIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values_module, "MAX_REMEMBERED", 10)
    monkeypatch.setattr(vocabulary_module, "MAX_REMEMBERED", 10)
    feature = Values("f", ["f"], [ValueForm(kind="number")], index)
    for start in range(0, 100, 4):
        column = [5, *range(start + 100, start + 108), 7]
        assert feature.codes([RawColumn("f", column)]).tolist() == [2, *[RARE_ID] * 8, 4]
        assert len(feature._tables[int]) <= 10
        texts = ["5", *map(str, column[1:9]), "7"]
        assert index.codes_of_texts(texts) == [2, *[RARE_ID] * 8, 4]
        assert len(index._seen) <= 10
    dtypes = [pa.decimal128(precision, 2) for precision in range(5, 38)]
    for dtype in dtypes:
        assert feature.codes([RawColumn("f", pa.array([5, 7], dtype))]).tolist() == [2, 4]
    assert len(feature._tables) <= 16


@pytest.mark.parametrize(
    ("form", "values", "message"),
    [
        (ValueForm(kind="text"), [1], "kind number, but the training data has text"),
        (ValueForm(kind="number"), [True], "kind boolean"),
        (ValueForm(kind="number"), [1, "a"], "several types \\(int, str\\)"),
        (ValueForm(kind="number"), [2.0**60], "not exact"),
        (ValueForm(kind="number"), [{}], "a value of type dict"),
        (ValueForm(kind="number"), [10**30], "cannot be read"),
        (ValueForm(kind="time"), ["soon"], "column 'f'"),
        (ValueForm(kind="text", text_as="whole numbers"), [1], "text such as '007'"),
    ],
)
def test_values_that_training_rows_cannot_have(
    form: ValueForm, values: list[Any], message: str, index: ValueIndex
) -> None:
    with pytest.raises(InputError, match=message):
        Values("f", ["f"], [form], index, numbers_refused="007").codes([RawColumn("f", values)])


def test_text_beside_numbers_is_read_as_numbers(index: ValueIndex) -> None:
    feature = Values("f", ["f"], [ValueForm(kind="number", float_bits=32)], index)
    assert feature.codes([RawColumn("f", ["05", "5e0", "7.0", "red"])]).tolist() == [2, 2, 4, 3]
    assert feature.codes([RawColumn("f", [0.1, float(np.float32(0.1)), float("nan")])]).tolist() == [10, 10, 0]
    assert feature.codes([RawColumn("f", [np.int32(5), np.int64(7)])]).tolist() == [2, 4]
