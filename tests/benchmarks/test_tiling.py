from pathlib import Path

import numpy as np
import pytest

from benchmarks.tiling import tile
from recsys.data.dataset import PreparedDataset


@pytest.mark.parametrize("n_rows", [700, 2000, 70_003])
def test_tiled_rows_repeat_the_rows_of_the_base(small: PreparedDataset, tmp_path: Path, n_rows: int) -> None:
    tile(small, n_rows, tmp_path / "tiled")
    tiled = PreparedDataset.open(tmp_path / "tiled")
    assert tiled.n_rows == n_rows == sum(group.n_rows for group in tiled.groups)
    rows = np.random.default_rng(0).integers(0, n_rows, 300)
    base = rows % small.n_rows
    assert np.array_equal(tiled.store.read_sparse(rows), small.store.read_sparse(base))
    assert np.array_equal(tiled.store.read_measured(rows), small.store.read_measured(base), equal_nan=True)
    for found, expected in zip(
        tiled.store.read_tokens("seen", rows), small.store.read_tokens("seen", base), strict=True
    ):
        assert np.array_equal(found, expected)
    assert np.array_equal(tiled.store.labels(rows), small.store.labels(base))
    held_out = tiled.split("fold_1").held_out_rows
    numbers = held_out.numbers()
    assert np.unique(numbers % small.n_rows).size <= len(small.split("fold_1").held_out_rows)
    assert sum(group.n_positive for group in tiled.groups) == int(tiled.store.labels(np.arange(n_rows)).sum())
