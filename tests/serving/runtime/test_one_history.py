"""A history that is read as a single text has the tokens, ends and statistics of the compiled pass."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.schema.features import TokenFeature
from recsys.schema.kinds import ValueForm
from serving.runtime.histories import TokenReader
from serving.runtime.vocabulary import ValueIndex, write_index

TEXTS = st.one_of(
    st.none(),
    st.lists(st.sampled_from(["7", "12", "a", "", "31", "9", "05", "b c"]), max_size=12).map(",".join),
    st.text(alphabet="ab1, 0.\t\u00a0", max_size=12),
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ValueIndex:
    folder: Path = tmp_path_factory.mktemp("index")
    write_index(pa.array(["7", "a", "31", "5", "b"]), folder)
    return ValueIndex(folder)


def reader_of(index: ValueIndex, keep: Literal["first", "last", "spread"], form: ValueForm) -> TokenReader:
    sequence = TokenFeature(name="seen", column="seen", vocabulary="seen", delimiter=",", max_length=5, keep=keep)
    return TokenReader(sequence, form, index, {"first": (form, index), "last": (form, index)}, has_statistics=True)


@given(TEXTS, st.sampled_from(["first", "last", "spread"]), st.sampled_from(["text", "whole numbers", "numbers"]))
def test_one_text_equals_the_compiled_pass(
    index: ValueIndex,
    text: str | None,
    keep: Literal["first", "last", "spread"],
    text_as: Literal["text", "whole numbers", "numbers"],
) -> None:
    reader = reader_of(index, keep, ValueForm(text_as=text_as))
    one, compiled = reader.read([text]), reader.read(pa.array([text], pa.string()))
    np.testing.assert_array_equal(one.codes, compiled.codes)
    np.testing.assert_array_equal(one.offsets, compiled.offsets)
    for end in ("first", "last"):
        np.testing.assert_array_equal(one.ends[end], compiled.ends[end])
    np.testing.assert_allclose(one.statistics, compiled.statistics, rtol=1e-6)
    assert one.codes.dtype == compiled.codes.dtype == np.int32


def test_plain_texts_are_read_without_arrow(index: ValueIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(index, "last", ValueForm())
    monkeypatch.setattr(TokenReader, "_array", None)
    tokens = reader.read(["7,31,,7,a,b,x"])
    assert tokens.codes.tolist() == index.codes_of_texts(["7", "a", "b", "x"])  # of the last five, one is empty
    assert tokens.statistics[0, :3].tolist() == [6, 5, np.float32(5 / 6)]
    assert reader.read([None]).offsets.tolist() == [0, 0]
