"""Encodings of tokens by hand: the counts of tokens, and the columns of a row."""

import numpy as np
import pytest

from recsys.data.encodings import counting
from recsys.data.encodings.counting import count_values
from recsys.data.encodings.rates import BetaPrior
from recsys.data.encodings.table import EncodingTable, ValueCounts
from recsys.data.encodings.tokens import TokenEncoding, pool_tokens
from recsys.data.groups import NO_LABEL, Group
from recsys.schema.encodings import encoded_columns

ROWS = [[2, 3, 2], [3], [], [2, 2], [3, 4], [4]]
LABEL = np.array([1, 0, 1, 0, 1, NO_LABEL], np.uint8)
GROUP = np.array([0, 0, 0, 1, 1, 1], np.uint8)


def read_tokens(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    of_rows = [ROWS[row] for row in rows]
    return np.array([code for row in of_rows for code in row], np.int32), np.array([len(row) for row in of_rows])


def no_codes(rows: np.ndarray) -> np.ndarray:
    raise AssertionError("the schema has no categorical feature")


@pytest.mark.parametrize("block_rows", [2, 100])
def test_a_row_counts_once_for_each_of_its_tokens(block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BLOCK_ROWS", block_rows)
    (counts,) = count_values(no_codes, LABEL, GROUP, [], [], 2, read_tokens=[read_tokens], n_tokens=[5])
    assert counts.n_rows.tolist() == [[0, 0], [0, 0], [1, 1], [2, 1], [0, 1]]
    assert counts.n_clicks.tolist() == [[0, 0], [0, 0], [1, 0], [1, 1], [0, 1]]


def test_mean_maximum_and_last_tokens() -> None:
    values = np.array([[[0, 0, 1, -2, 7], [0, 0, 10, 20, 30]]], np.float32)  # one encoding, two parts
    codes, lengths = read_tokens(np.arange(6))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    pooled = pool_tokens(values, np.array([0, 1, 1, 0, 1, 0]), codes, offsets)
    assert pooled.tolist() == [
        [-0.5, 1, 1, -2, 1],  # 2, 3, 2: its distinct tokens are 2 and 3
        [20, 20, 20, 0, 0],
        [0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0],
        [25, 30, 30, 20, 0],
        [7, 7, 7, 0, 0],
    ]


def test_names_of_the_columns() -> None:
    assert encoded_columns("ad", ("count", "ctr")) == ("count(ad)", "ctr(ad)")
    assert encoded_columns("seen", ("ctr",), ("mean", "last_1")) == ("ctr_mean(seen)", "ctr_last_1(seen)")


def test_no_row_is_encoded_by_its_own_fold() -> None:
    groups = [Group(partition="train", fold=fold, is_holdout=False, n_rows=9, n_positive=4) for fold in range(3)]
    n_rows = np.array([[0, 0, 0], [0, 0, 0], [4, 6, 8], [8, 2, 1]])
    n_clicks = np.array([[0, 0, 0], [0, 0, 0], [3, 1, 2], [1, 1, 0]])
    table = EncodingTable.fit(ValueCounts(n_rows, n_clicks), groups, (0, 1), ("count", "ctr"), is_standardized=False)
    encoding = TokenEncoding(table, np.zeros(10), np.ones(10))
    found = encoding(np.array([2, 3, 2, 3, 2, 3], np.int32), np.array([2, 2, 2, 0]), np.array([0, 1, 2, 0]))
    for row, counted in enumerate([(1,), (0,), (0, 1)]):
        rows, clicks = (of[:, list(counted)].sum(axis=1).astype(float) for of in (n_rows, n_clicks))
        count = np.log1p(rows * (20 / rows.sum()))  # 20 pairs of a fitting row and a token
        rate = BetaPrior.fit(rows, clicks).log_odds(rows, clicks)
        expected = [f(of[2:]) for of in (count, rate) for f in (np.mean, np.max, lambda t: t[1], lambda t: t[0])]
        assert found[row, [0, 1, 2, 3, 5, 6, 7, 8]] == pytest.approx(expected, rel=1e-6)
    assert found[3].tolist() == [0] * 10
