import numpy as np
import pyarrow as pa
import pytest

from recsys.prepare import delimited
from recsys.prepare.delimited import read_delimited
from recsys.prepare.tokens import Codes
from tests.recsys.prepare.test_statistics import plain
from tests.recsys.prepare.test_tokens import plain_parse


def texts_of(codes: Codes) -> list[str | None]:
    return [codes.values[code].as_py() if code >= 0 else None for code in codes.codes.tolist()]


@pytest.mark.parametrize("alphabet", ["12", "0123456789", "ab,,", "é日x", "\x00a", "abcdefgh" * 2])
@pytest.mark.parametrize("keep", ["first", "last"])
@pytest.mark.parametrize("block_rows", [1, 7, 64])
def test_against_a_plain_reading(monkeypatch: pytest.MonkeyPatch, alphabet: str, keep: str, block_rows: int) -> None:
    monkeypatch.setattr(delimited, "_LEAST_ROWS", block_rows)
    monkeypatch.setattr(delimited, "_BLOCK_BYTES", 1)
    rng = np.random.default_rng(len(alphabet))
    longest = 20 if len(alphabet) > 10 else 3
    texts = [
        ",".join("".join(rng.choice(list(alphabet), rng.integers(1, longest))) for _ in range(rng.integers(0, 12)))
        for _ in range(50)
    ]
    texts[3:5] = [None, ",,"]
    found = read_delimited(pa.chunked_array([texts[:20], texts[20:]]), ",", 4, keep)
    kept = texts_of(found.kept)
    assert [kept[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)] == [
        plain_parse(text, 4, keep) for text in texts
    ]
    whole = [text.split(",") if text else [] for text in texts]
    assert found.full_lengths.tolist() == [len(row) for row in whole]
    assert texts_of(found.first) == [row[0] or None if row else None for row in whole]
    assert texts_of(found.last) == [row[-1] or None if row else None for row in whole]
    expected = np.array([plain([token for token in row if token]) for row in whole])
    assert np.allclose(found.statistics, expected, atol=1e-6)


def test_no_rows() -> None:
    found = read_delimited(pa.chunked_array([pa.array([], pa.string())]), ",", 4, "last")
    assert found.offsets.tolist() == [0]
    assert found.statistics.shape == (0, 4)
    assert len(found.kept.codes) == len(found.first.codes) == 0
