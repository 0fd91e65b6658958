"""Counts of earlier rows against a loop over all pairs of rows."""

import numpy as np
import pytest

from recsys.data.encodings.past import PastEncoding, count_past
from recsys.data.encodings.rates import BetaPrior
from recsys.data.encodings.table import ValueCounts
from recsys.data.groups import NO_LABEL

N, N_CODES = 400, 7


def log(seed: int = 0) -> dict[str, np.ndarray]:
    """Rows with many equal times, some without a time or a label, in parts that are mostly in the order of time."""
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 60, N)
    part = np.clip(time // 20 + (rng.random(N) < 0.1), 0, 3).astype(np.uint8)
    time[rng.random(N) < 0.05] = 0
    label = rng.integers(0, 2, N).astype(np.uint8)
    label[rng.random(N) < 0.05] = NO_LABEL
    return {"codes": rng.integers(0, N_CODES, N).astype(np.int32), "label": label, "part": part, "time_rank": time}


def count(rows: dict[str, np.ndarray]) -> np.ndarray:
    order = np.argsort(rows["time_rank"], kind="stable")
    return count_past(**rows, by_time=order[rows["time_rank"][order] > 0], n_codes=N_CODES)


def test_counts_by_a_loop_over_pairs_of_rows() -> None:
    rows = log()
    codes, label, part, time = (rows[name].tolist() for name in ("codes", "label", "part", "time_rank"))
    expected = []
    for i in range(N):
        clicks = [
            label[j]
            for j in range(N)
            if codes[j] == codes[i] and 0 < time[j] < time[i] and part[j] <= part[i] and label[j] != NO_LABEL
        ]
        expected.append([len(clicks), sum(clicks)])
    found = count(rows)
    assert found.tolist() == expected
    assert found[:, 0].max() > 20


def test_a_label_reaches_no_row_of_its_time_or_before() -> None:
    rows = log()
    before = count(rows)
    for row in np.flatnonzero((rows["label"] != NO_LABEL) & (rows["time_rank"] > 0))[::17]:
        label = rows["label"].copy()
        label[row] = 1 - label[row]
        changed = np.flatnonzero((count(rows | {"label": label}) != before).any(axis=1))
        assert (rows["time_rank"][changed] > rows["time_rank"][row]).all()
        assert (rows["part"][changed] >= rows["part"][row]).all()
        assert row not in changed


def test_the_order_of_rows_does_not_matter() -> None:
    rows, shuffled = log(), np.random.default_rng(1).permutation(N)
    assert np.array_equal(count({name: of[shuffled] for name, of in rows.items()}), count(rows)[shuffled])


def test_no_rows() -> None:
    assert count({name: of[:0] for name, of in log().items()}).shape == (0, 2)


def test_encodings_of_fitting_rows_and_of_others() -> None:
    """Two groups; the model is fitted to the first. Mean and deviation are those of the fitting rows' own counts."""
    counts = ValueCounts(np.array([[40, 5], [60, 5]]), np.array([[30, 1], [10, 2]]))
    past = np.array([[0, 0], [9, 6], [20, 5], [3, 0]], np.int32)
    codes, group = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    fitted = PastEncoding.fit(counts, [0], ["past_count", "past_ctr"], 0, past[:3], np.array([True, False]))
    prior = BetaPrior.fit(np.array([40, 60]), np.array([30, 10]))
    assert prior.mean == pytest.approx(0.4)

    def raw(rows: int, clicks: int) -> list[float]:
        odds = (clicks + prior.strength * 0.4) / (rows - clicks + prior.strength * 0.6)
        return [np.log(1 + rows), np.log(odds / (0.4 / 0.6))]

    of_rows = np.array([raw(0, 0), raw(9, 6), raw(20, 5)])
    assert of_rows[0].tolist() == pytest.approx([0, 0])
    mean, deviation = of_rows.mean(axis=0), of_rows.std(axis=0)
    others = (np.array([raw(40, 30), raw(60, 10)]) - mean) / deviation
    expected = np.concatenate([(of_rows - mean) / deviation, others[1:]])  # the last row is of another group
    assert fitted(codes, group, past) == pytest.approx(expected, abs=1e-5)
    assert fitted(codes, None, None) == pytest.approx(others[codes], abs=1e-5)
    past[1] = -1  # no counts of its own
    assert fitted(codes, group, past)[1] == pytest.approx(others[0], abs=1e-5)
