import numpy as np
import pytest
import torch

from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.data.loader import Loader
from recsys.data.rows import GroupRows, Permutation, PermutedSlice
from recsys.system.world import World


def test_every_row_once_in_a_seeded_order(small: PreparedDataset) -> None:
    split = small.split("fold_0")
    n = len(split.fit_rows)
    epochs = [
        [batch.row.numpy() for batch in Loader(split, split.fit_rows, 256, shuffle=Permutation(n, 0, epoch))]
        for epoch in (0, 0, 1)
    ]
    everyone = np.sort(split.fit_rows(np.arange(n)))
    for epoch in epochs:
        assert [len(rows) for rows in epoch[:-1]] == [256] * (len(epoch) - 1)
        assert np.array_equal(np.sort(np.concatenate(epoch)), everyone)
    assert all(np.array_equal(a, b) for a, b in zip(epochs[0], epochs[1], strict=True))
    assert not np.array_equal(epochs[0][0], epochs[2][0])


def test_rows_are_shuffled_not_batches(small: PreparedDataset) -> None:
    split = small.split("full")
    loader = Loader(split, split.fit_rows, 200, shuffle=Permutation(2000, 5))
    # The rows of a batch of 200 span most of the 2,000 rows.
    assert all(np.ptp(batch.row.numpy()) > 1500 for batch in loader)


def test_in_order_without_a_shuffle(small: PreparedDataset) -> None:
    split = small.split("full")
    rows = np.concatenate([batch.row.numpy() for batch in Loader(split, split.fit_rows, 300)])
    assert np.array_equal(rows, split.fit_rows(np.arange(2000)))


def test_a_reader_that_stops_early_stops_the_thread(small: PreparedDataset) -> None:
    split = small.split("full")
    for _ in Loader(split, split.fit_rows, 10):
        break


def test_an_error_reaches_the_reader(small: PreparedDataset) -> None:
    split = small.split("full")
    with pytest.raises(KeyError):
        list(Loader(split, split.fit_rows, 100, sequences=["no such sequence"]))


def test_threads_that_make_batches_for_a_gpu_keep_their_order(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = []
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: (pinned.append(len(batch)), batch)[1])
    monkeypatch.setattr("recsys.data.loader.n_cores", lambda: 8)
    split, order = small.split("full"), Permutation(2000, 5)
    world = World(0, 1, torch.device("cuda"))
    for a, b in zip(
        Loader(split, split.fit_rows, 64, shuffle=order, first=3, world=world),
        Loader(split, split.fit_rows, 64, shuffle=order, first=3),
        strict=True,
    ):
        assert torch.equal(a.row, b.row)
    assert sum(pinned) == 2000 - 3 * 64


def test_no_rows(small: PreparedDataset) -> None:
    split = small.split("full")
    assert list(Loader(split, GroupRows(np.arange(3), [3], []), 10)) == []


def test_group_rows_by_hand() -> None:
    indices = np.array([4, 5, 0, 1, 2, 3], np.uint32)  # group 0: 4 5; group 1: none; group 2: 0 1 2; group 3: 3
    rows = GroupRows(indices, [2, 0, 3, 1], [0, 1, 3])
    assert len(rows) == 3
    assert rows(np.array([2, 0, 1])).tolist() == [3, 4, 5]


def test_slices_of_a_permutation_are_disjoint() -> None:
    everyone = GroupRows(np.arange(100, dtype=np.uint32), [100], [0])
    order = Permutation(100, 1)
    a, b = PermutedSlice(everyone, order, 0, 30), PermutedSlice(everyone, order, 30, 100)
    assert sorted([*a(np.arange(30)), *b(np.arange(70))]) == list(range(100))
