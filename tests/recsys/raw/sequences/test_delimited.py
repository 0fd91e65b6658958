import numpy as np
import pyarrow as pa
import pytest

from recsys.data.vocabulary import Codes
from recsys.raw.sequences import delimited
from recsys.raw.sequences.delimited import ParsedSequences, read_delimited
from tests.helpers.entropy import plain


def texts_of(codes: Codes) -> list[str | None]:
    return [codes.values[code].as_py() if code >= 0 else None for code in codes.codes.tolist()]


def rows_of(found: ParsedSequences) -> list[list[str | None]]:
    kept = texts_of(found.kept)
    return [kept[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def plain_parse(text: str | None, max_length: int, keep: str) -> list[str]:
    tokens = text.split(",") if text else []
    kept = tokens[-max_length:] if keep == "last" else tokens[:max_length]
    return [token for token in kept if token]


@pytest.mark.parametrize("keep", ["first", "last"])
@pytest.mark.parametrize("max_length", [1, 2, 50])
def test_by_hand(keep: str, max_length: int) -> None:
    texts = ["9,18,269", "", None, "7", "a,,b", ",", "é,ü", "1,2,3,4,", "x" * 300 + ",y"]
    found = read_delimited(pa.array(texts), ",", max_length, keep)
    assert rows_of(found) == [plain_parse(text, max_length, keep) for text in texts]
    assert found.full_lengths.tolist() == [len(text.split(",")) if text else 0 for text in texts]


def test_slices_and_chunks() -> None:
    chunked = pa.chunked_array([["1,2"], ["3", "4,5,6"]])
    assert rows_of(read_delimited(chunked.slice(1), ",", 2, "last")) == [["3"], ["5", "6"]]


@pytest.mark.parametrize("alphabet", ["12", "0123456789", "ab,,", "é日x", "\x00a", "abcdefgh" * 2])
@pytest.mark.parametrize("keep", ["first", "last"])
@pytest.mark.parametrize("least_codes", [1, 1024])
def test_agrees_with_plain_reading(monkeypatch: pytest.MonkeyPatch, alphabet: str, keep: str, least_codes: int) -> None:
    """With and without growth of the token table."""
    monkeypatch.setattr(delimited, "_INITIAL_CODES", least_codes)
    rng = np.random.default_rng(len(alphabet))
    longest = 20 if len(alphabet) > 10 else 3
    texts = [
        ",".join("".join(rng.choice(list(alphabet), rng.integers(1, longest))) for _ in range(rng.integers(0, 12)))
        for _ in range(50)
    ]
    texts[3:5] = [None, ",,"]
    found = read_delimited(pa.chunked_array([texts[:20], texts[20:]]), ",", 4, keep)
    assert rows_of(found) == [plain_parse(text, 4, keep) for text in texts]
    whole = [text.split(",") if text else [] for text in texts]
    assert found.full_lengths.tolist() == [len(row) for row in whole]
    assert texts_of(found.first) == [row[0] or None if row else None for row in whole]
    assert texts_of(found.last) == [row[-1] or None if row else None for row in whole]
    expected = np.array([plain([token for token in row if token]) for row in whole])
    assert np.allclose(found.statistics, expected, atol=1e-6)


def test_tokens_with_the_same_hash_have_distinct_codes() -> None:
    """Bytes after the eighth are hashed: these two texts have the same hash and different bytes."""
    prime = 0x100000001B3

    def key(text: bytes) -> int:
        value = int.from_bytes(text[:8], "little")
        for byte in text[8:]:
            value = (value ^ byte) * prime % 2**64
        return value

    # key = (head ^ tail) * prime: a change of the head's first byte compensates a change of the tail.
    one, other = b"abcdefgh" + b"x", bytes([ord("a") ^ ord("x") ^ ord("y")]) + b"bcdefgh" + b"y"
    assert key(one) == key(other)
    texts = [f"{one.decode()},{other.decode()},{one.decode()}"]
    found = read_delimited(pa.array(texts), ",", 5, "last")
    assert rows_of(found) == [texts[0].split(",")]
    assert found.statistics[0, :2].tolist() == [3, 2]


def test_no_rows() -> None:
    found = read_delimited(pa.chunked_array([pa.array([], pa.string())]), ",", 4, "last")
    assert found.offsets.tolist() == [0]
    assert found.statistics.shape == (0, 4)
    assert len(found.kept.codes) == len(found.first.codes) == 0
