"""Text that is not what it seems: bytes that are not UTF-8, and lists written as text."""

from pathlib import Path

import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.raw.blocks import Block, Origin
from recsys.raw.checks import check_delimited, check_utf8

LATIN = pa.array([b"ok", b"caf\xe9", b"na\xefve"]).view(pa.string())


def block(column: pa.Array) -> Block:
    n = len(column)
    return Block(pa.table({"c": column}), (Origin(Path("a.parquet"), 100, 1), Origin(Path("b.parquet"), 0, n - 1)))


@pytest.mark.parametrize(
    "column",
    [
        LATIN,
        LATIN.cast(pa.binary()).cast(pa.large_binary()).view(pa.large_string()),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), LATIN),
        pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), LATIN),
    ],
)
def test_bytes_that_are_not_utf8_are_named_by_file_and_row(column: pa.Array) -> None:
    with pytest.raises(
        InputError, match=r"^b.parquet: column 'c' has bytes that are not UTF-8 in row 0 \(b'caf\\xe9'\)"
    ):
        check_utf8(block(column))
    check_utf8(block(pa.array(["ok", "café", "日本"])))


@pytest.mark.parametrize(
    "text",
    [
        *("[1, 2]", "[5]", "[]", '["a", "b"]', "['a']", "(1, 2)", "(1,)", "{1, 2}", "[1 2 3]", " [1,2] ", "[-1]"),
        *('[{"id": 1}, {"id": 2}]', "[[1, 2], [3]]", '{"1": 2}'),
    ],
)
def test_lists_written_as_text_are_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"^b.parquet: column 'c' contains .* in row 0, which is a list written as text"
    ):
        check_delimited(block(pa.array(["1,2", text])), "c", ",")


@pytest.mark.parametrize("text", ["1,2", "[PAD]", "[CLS],12,[SEP]", "(a),(b)", "a[1]", "", None, "(unknown)"])
def test_tokens_with_brackets_are_tokens(text: str | None) -> None:
    check_delimited(block(pa.array(["1", text])), "c", ",")
