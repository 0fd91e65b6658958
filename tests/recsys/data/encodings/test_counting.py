"""Counts of rows and clicks by value and group, against a plain loop."""

import numpy as np
import pytest

from recsys.data.encodings import counting
from recsys.data.groups import NO_LABEL


def test_counts_of_each_value_and_group(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n, n_groups, n_codes = 500, 4, (7, 3)
    codes = np.stack([rng.integers(0, 99, n), rng.integers(0, n_codes[0], n), rng.integers(0, n_codes[1], n)], axis=1)
    label, group = rng.choice([0, 1, NO_LABEL], n).astype(np.uint8), rng.integers(0, n_groups, n).astype(np.uint8)
    monkeypatch.setattr(counting, "BLOCK_ROWS", 64)
    done: list[int] = []
    counts = counting.count_values(
        lambda rows: codes[rows].astype(np.int32), label, group, (1, 2), n_codes, n_groups, done.append
    )
    assert sum(done) == n
    assert len(done) == 8
    for column, values in zip((1, 2), counts, strict=True):
        expected = np.zeros((2, n_codes[column - 1], n_groups), int)
        for row in range(n):
            if label[row] != NO_LABEL:
                expected[0, codes[row, column], group[row]] += 1
                expected[1, codes[row, column], group[row]] += label[row]
        assert np.array_equal(values.n_rows, expected[0])
        assert np.array_equal(values.n_clicks, expected[1])
