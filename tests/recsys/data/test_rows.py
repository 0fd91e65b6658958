import numpy as np
import pytest

from recsys.data.rows import AllRows, JoinedRows, ListedRows, Permutation


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000, 65_537])
def test_is_a_permutation(n: int) -> None:
    assert np.array_equal(np.sort(Permutation(n, 7)(np.arange(n))), np.arange(n))


def test_any_slice_is_computed_independently() -> None:
    permutation = Permutation(10_000, 3, 1)
    assert np.array_equal(permutation(np.arange(10_000))[500:600], permutation(np.arange(500, 600)))


def test_seeds_and_epochs_differ() -> None:
    orders = [Permutation(1000, *seed)(np.arange(1000)) for seed in ((0, 0), (0, 1), (1, 0))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.mean(orders[a] == orders[b]) < 0.02


def test_is_well_mixed() -> None:
    n = 50_000
    order = Permutation(n, 11)(np.arange(n))
    # A value is uncorrelated with its position and with the next value.
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 0.02
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    # The first tenth has about a tenth of each range of rows.
    share = np.histogram(order[: n // 10], bins=20, range=(0, n))[0] / (n / 200)
    assert np.all(np.abs(share - 1) < 0.3)


def test_joined_rows_follow_each_other() -> None:
    rows = JoinedRows([ListedRows(np.array([7, 5])), AllRows(0), AllRows(3)])
    assert len(rows) == 5
    assert rows.numbers().tolist() == [7, 5, 0, 1, 2]
    assert rows(np.array([4, 1, 1, 0])).tolist() == [2, 5, 5, 7]
    assert [block.tolist() for block in rows.blocks(2)] == [[7, 5], [0, 1], [2]]
