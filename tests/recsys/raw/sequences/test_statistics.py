import math

import numpy as np
import pyarrow as pa
import pytest

from recsys.raw.sequences.delimited import read_delimited
from recsys.raw.sequences.statistics import count_statistics, list_statistics
from tests.helpers.entropy import plain


def test_by_hand() -> None:
    found = read_delimited(pa.chunked_array([["7,7,9,7", "", None, "144"]]), ",", 1, "last").statistics
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert np.allclose(found, [[4, 2, 0.5, entropy], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]])


def test_agrees_with_a_plain_counter_over_several_blocks() -> None:
    rng = np.random.default_rng(0)
    rows = [list(rng.zipf(1.5, rng.integers(0, 40)).clip(max=10**12)) for _ in range(9000)]
    texts = pa.array([",".join(map(str, row)) for row in rows])
    expected = np.array([plain(row) for row in rows])
    assert np.allclose(read_delimited(pa.chunked_array([texts]), ",", 1, "last").statistics, expected, atol=1e-5)
    lists = pa.array([[int(token) for token in row] for row in rows], pa.list_(pa.int64()))
    assert np.allclose(list_statistics(lists), expected, atol=1e-5)


def test_null_tokens_of_lists_do_not_count() -> None:
    assert list_statistics(pa.array([[1, None, 1], None]))[:, 0].tolist() == [2, 0]


def test_many_distinct_tokens_are_counted_by_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    codes, row = rng.integers(0, 50, 400), np.sort(rng.integers(0, 20, 400))
    expected = count_statistics(codes, row, 20, 50)
    monkeypatch.setattr("recsys.raw.sequences.statistics._MAX_CELLS", 1)
    assert np.array_equal(count_statistics(codes, row, 20, 50), expected)
