import pyarrow as pa
import pytest

from recsys.raw.tokens import Jagged, canonical_text, encode_values, parse_list


def rows_of(jagged: Jagged) -> list[list[str]]:
    tokens = jagged.tokens.to_pylist()
    return [tokens[a:b] for a, b in zip(jagged.offsets[:-1], jagged.offsets[1:], strict=True)]


@pytest.mark.parametrize(("keep", "expected"), [("last", [[2, 3], [], [], [5]]), ("first", [[1, 2], [], [], [5]])])
def test_list_by_hand(keep: str, expected: list) -> None:
    column = pa.array([[1, 2, 3], [], None, [5, None]], pa.list_(pa.int16()))
    jagged = parse_list(column, 2, keep)
    assert rows_of(jagged) == expected
    assert jagged.full_lengths.tolist() == [3, 0, 0, 2]


def test_list_reads_a_slice() -> None:
    column = pa.array([[1], [2, 3], [4]], pa.large_list(pa.int64())).slice(1)
    assert rows_of(parse_list(column, 5, "last")) == [[2, 3], [4]]


def test_text_of_a_value_does_not_depend_on_its_type() -> None:
    for values in (pa.array([5], pa.int8()), pa.array([5.0], pa.float32()), pa.array([" 5 "])):
        assert canonical_text(values).to_pylist() == ["5"]


def test_large_integers_keep_every_digit() -> None:
    big = 2**62 + 1
    assert canonical_text(pa.array([big, -big])).to_pylist() == [str(big), str(-big)]


def test_null_and_nan_have_the_code_minus_one() -> None:
    codes = encode_values(pa.array([1.0, None, float("nan"), 1.0], pa.float32()))
    assert codes.codes.tolist() == [0, -1, -1, 0]


def test_dictionary_columns_are_read() -> None:
    codes = encode_values(pa.chunked_array([pa.array(["a", None, "b"]).dictionary_encode()]))
    assert [codes.values[c].as_py() if c >= 0 else None for c in codes.codes] == ["a", None, "b"]


def test_fractional_floats_keep_their_digits() -> None:
    assert canonical_text(pa.array([0.5, -3.0])).to_pylist() == ["0.5", "-3"]
