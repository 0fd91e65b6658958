"""The rules for single values give what the Arrow functions give that prepared the training rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.raw.derive import cross
from recsys.raw.values import canonical_text
from recsys.schema.kinds import ValueForm
from recsys.system.hashing import hash_ids, hash_text
from serving.runtime.plain_text import is_plain, joined, plain_text
from serving.runtime.vocabulary import ValueIndex, write_index

FORMS = [ValueForm(kind=kind, text_as=text_as) for kind in (None, "text") for text_as in ("text", "whole numbers")]
NUMBERS = [ValueForm(kind="number"), ValueForm(kind="number", float_bits=32), ValueForm()]
TEXTS = st.one_of(
    st.text(max_size=8),
    st.text(alphabet=" +-.0123456789eE", max_size=6),
    st.text(alphabet="ab&\\ 0", max_size=5),
    st.integers(-(2**70), 2**70).map(str),
)


@given(TEXTS, st.sampled_from(FORMS))
@example("05", FORMS[1])
@example("-0", FORMS[1])
@example("5.0", FORMS[3])
@example("\x1f", FORMS[0])
def test_text(text: str, form: ValueForm) -> None:
    if (plain := plain_text(text, pa.string(), form)) is not None:
        assert [plain] == canonical_text(pa.array([text]), form=form).to_pylist()


@given(TEXTS)
@example("007")
@example("1e3")
@example("+5")
def test_text_beside_numbers(text: str) -> None:
    plain = plain_text(text, pa.string(), ValueForm(kind="number"))
    if plain is not None:
        form = ValueForm(kind="number", text_as="numbers")
        assert [plain] == canonical_text(pa.array([text]), form=form).to_pylist()


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.floats(-1e6, 1e6).map(round).map(float)))
@example(-0.0)
@example(2.0**53)
def test_numbers(value: float) -> None:
    dtype = pa.int64() if isinstance(value, int) else pa.float64()
    for form in NUMBERS:
        if (plain := plain_text(value, dtype, form)) is not None:
            assert [plain] == canonical_text(pa.array([value], dtype), form=form).to_pylist()


def test_values_with_a_rule() -> None:
    """Common values are not left to Arrow."""
    for value, dtype, form, expected in [
        ("mobile app", pa.string(), FORMS[2], "mobile app"),
        ("31", pa.string(), FORMS[3], "31"),
        (7, pa.int64(), NUMBERS[0], "7"),
        (7.0, pa.float64(), NUMBERS[0], "7"),
        (True, pa.bool_(), ValueForm(kind="boolean"), "true"),
    ]:
        assert plain_text(value, dtype, form) == expected
    for value, dtype, form in [
        (7, pa.int64(), FORMS[2]),  # a number in a column of text is an error, or is compared as a number
        (True, pa.bool_(), NUMBERS[0]),
        (0.5, pa.float64(), NUMBERS[0]),
        ("2024-01-01", pa.string(), ValueForm(kind="time")),
    ]:
        assert plain_text(value, dtype, form) is None


@given(st.one_of(TEXTS, st.integers(-(2**64), 2**64).map(str)))
def test_hashes(text: str) -> None:
    if text == text.strip():
        assert hash_text(text) == int(hash_ids(pa.array([text]))[0])


@given(st.lists(st.one_of(st.none(), TEXTS.filter(is_plain)), min_size=2, max_size=3))
def test_combinations(parts: list[str | None]) -> None:
    expected = cross([pa.chunked_array([pa.array([part], pa.string())]) for part in parts])
    assert [joined(parts)] == expected.to_pylist()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ValueIndex:
    folder: Path = tmp_path_factory.mktemp("index")
    write_index(pa.array(["7", "mobile", "a&b", "-3", "x"]), folder)
    return ValueIndex(folder)


@pytest.mark.parametrize("texts", [["7", "mobile", "a&b", "-3", "x", "other", "8", ""], ["z" * 300]])
def test_codes(index: ValueIndex, texts: list[Any]) -> None:
    expected = index.codes(pa.array([*texts, None], pa.string()))
    np.testing.assert_array_equal([index.code(text) for text in [*texts, None]], expected)
    assert index.codes_of_texts(texts) == expected[:-1].tolist()


def test_an_empty_index(tmp_path: Path) -> None:
    write_index(pa.array([], pa.string()), tmp_path)
    empty = ValueIndex(tmp_path)
    np.testing.assert_array_equal([empty.code("a"), empty.code(None)], empty.codes(pa.array(["a", None])))
