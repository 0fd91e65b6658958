"""Encodings of a split: no row is encoded by its own label or its own fold."""

import numpy as np
import pytest

from recsys.data.encodings.table import EncodingTable, ValueCounts
from recsys.data.groups import Group

N_FOLDS = 5


def make_groups(fold: np.ndarray, label: np.ndarray) -> list[Group]:
    return [
        Group(
            partition="train",
            fold=number,
            is_holdout=False,
            n_rows=int(np.sum(fold == number)),
            n_positive=int(label[fold == number].sum()),
        )
        for number in range(N_FOLDS)
    ]


def count(codes: np.ndarray, fold: np.ndarray, label: np.ndarray, n_codes: int) -> ValueCounts:
    cells = codes * N_FOLDS + fold
    rows, clicks = (np.bincount(cells, weight, n_codes * N_FOLDS) for weight in (None, label))
    return ValueCounts(rows.reshape(n_codes, N_FOLDS), clicks.reshape(n_codes, N_FOLDS))


def fit(codes: np.ndarray, fold: np.ndarray, label: np.ndarray, held_out: int, n_codes: int) -> EncodingTable:
    fit_groups = [index for index in range(N_FOLDS) if index != held_out]
    return EncodingTable.fit(count(codes, fold, label, n_codes), make_groups(fold, label), fit_groups, ["count", "ctr"])


def correlation(encoded: np.ndarray, label: np.ndarray) -> float:
    return float(np.corrcoef(encoded, label)[0, 1])


def test_counts_by_hand() -> None:
    fold = np.repeat(np.arange(N_FOLDS), 4)
    codes = np.tile([2, 2, 3, 3], N_FOLDS)
    codes[fold == 1] = 3
    table = fit(codes, fold, np.tile([1, 0], 10), held_out=0, n_codes=4)
    # value 2 has 2 rows in each of the folds 2, 3 and 4; value 3 has 4 in fold 1 and 2 in each of them
    raw = np.log1p([6, 10])
    # the rows of fold 1, all of value 3, see the folds 2, 3 and 4: 6 of 12 rows, as 8 of 16; the others: see below
    own = np.log1p([8] * 4 + [16 / 3] * 6 + [32 / 3] * 6)
    mean, sd = own.mean(), own.std()
    assert table(np.array([2, 3]), None)[:, 0] == pytest.approx((raw - mean) / sd, rel=1e-5)
    # a fitting row of fold 2 sees folds 1, 3 and 4: 4 and 8 of 12 rows, as 16/3 and 32/3 of 16
    inner = np.log1p([16 / 3, 32 / 3])
    assert table(np.array([2, 3]), np.array([2, 2]))[:, 0] == pytest.approx((inner - mean) / sd, rel=1e-5)
    assert table(np.array([2]), np.array([0])).tolist() == table(np.array([2]), None).tolist()


def test_random_labels_leave_no_signal_in_any_row() -> None:
    rng = np.random.default_rng(0)
    n, n_codes = 20_000, 8_000  # two or three rows a value
    codes, fold, label = rng.integers(2, n_codes, n), rng.integers(0, N_FOLDS, n), rng.integers(0, 2, n)
    table = fit(codes, fold, label, held_out=0, n_codes=n_codes)
    encoded = table(codes, fold)[:, 1]
    for number in range(N_FOLDS):
        rows = fold == number
        assert abs(correlation(encoded[rows], label[rows])) < 4 / np.sqrt(rows.sum())
    rows = fold != 0
    own_label_counted = table(codes, None)[:, 1]  # as rows outside the fitting rows are encoded
    assert correlation(own_label_counted[rows], label[rows]) > 0.3


def test_values_are_of_the_size_of_one_whatever_single_folds_say() -> None:
    """Three values with one rate: some folds seem to have an effect, others none, so that their rates hardly differ."""
    largest = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n_rows = rng.integers(2000, 6000, (3, N_FOLDS))
        counts = ValueCounts(n_rows, rng.binomial(n_rows, 0.02))
        groups = make_groups(np.arange(N_FOLDS), np.ones(N_FOLDS))
        largest.append(np.abs(EncodingTable.fit(counts, groups, [1, 2, 3, 4], ["ctr"]).values).max())
    assert max(largest) < 20


def test_the_label_of_a_row_does_not_reach_its_own_encoding() -> None:
    rng = np.random.default_rng(1)
    n, n_codes = 400, 30
    codes, fold, label = rng.integers(2, n_codes, n), rng.integers(0, N_FOLDS, n), rng.integers(0, 2, n)
    row = int(np.flatnonzero(fold == 3)[0])
    flipped = label.copy()
    flipped[row] = 1 - flipped[row]
    before, after = (fit(codes, fold, labels, 0, n_codes).values[1] for labels in (label, flipped))

    def raw_of_part(values: np.ndarray, part: int) -> np.ndarray:  # without the scale, which all rows share
        return (values[part] - values[part].mean()) / values[part].std()

    assert raw_of_part(after, 3) == pytest.approx(raw_of_part(before, 3), abs=1e-5)
    assert not np.allclose(raw_of_part(after, 2), raw_of_part(before, 2), atol=1e-3)
    held_out = label.copy()
    held_out[fold == 0] = 1 - held_out[fold == 0]
    assert np.array_equal(fit(codes, fold, held_out, 0, n_codes).values, fit(codes, fold, label, 0, n_codes).values)
