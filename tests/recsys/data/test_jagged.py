import numpy as np

from recsys.data.jagged import gather_indices, offsets_of, row_and_position


def test_rows_positions_and_offsets_by_hand() -> None:
    lengths = np.array([2, 0, 3])
    row, position = row_and_position(lengths)
    assert row.tolist() == [0, 0, 2, 2, 2]
    assert position.tolist() == [0, 1, 0, 1, 2]
    assert offsets_of(lengths).tolist() == [0, 2, 2, 5]
    assert offsets_of(lengths[:0]).tolist() == [0]


def test_indices_of_slices_in_any_order() -> None:
    assert gather_indices(np.array([10, 3, 0]), np.array([2, 0, 3])).tolist() == [10, 11, 0, 1, 2]
    assert gather_indices(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
