"""Batches of resident rows are those of the host, in the same order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.data.loader import Batches, Loader
from recsys.data.resident.draws import as_fraction, mix, permuted
from recsys.data.resident.loader import ResidentLoader, choose_readers, resident_batches
from recsys.data.resident.rows import ResidentRows, resident_bytes
from recsys.data.rows import Permutation
from recsys.data.split import Split, UnseenIds
from recsys.errors import InputError
from recsys.schema.feature_selection import FeatureConfig
from recsys.system import hashing
from recsys.system.world import World
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.helpers.vector_data import SIZE, prepared_vectors, vector_table

CPU = torch.device("cpu")
SEQUENCES = ("seen", "steps")


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 4**6, 70_001])
def test_the_permutation_is_that_of_the_host(n: int) -> None:
    permutation = Permutation(n, 3, 1, 4)
    assert np.array_equal(permuted(permutation, CPU).numpy(), permutation(np.arange(n)))


def test_hashes_are_those_of_the_host() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64)
    on_device = torch.from_numpy(hashes.view(np.int64))
    for seed in (0, 1, 2**40):
        expected = hashing.mix(hashes, seed)
        assert np.array_equal(mix(on_device, seed).numpy().view(np.uint64), expected)
        fractions = as_fraction(torch.from_numpy(expected.view(np.int64))).numpy()
        assert np.array_equal(fractions, hashing.as_fraction(expected))


def assert_same_batch(found: Batch, expected: Batch) -> None:
    for name in ("row", "label", "is_real"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    torch.testing.assert_close(found.dense, expected.dense, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.weight, expected.weight, atol=1e-6, rtol=1e-6)
    for a, b in ((found.sparse, expected.sparse), (found.sequences, expected.sequences)):
        assert a.keys() == b.keys()
        assert a.stride() == b.stride()
        assert torch.equal(a.values(), b.values())
        assert torch.equal(a.lengths(), b.lengths())
        assert a.offset_per_key() == b.offset_per_key()
        assert torch.equal(a.offsets(), b.offsets())
        assert (a.weights_or_none() is None) == (b.weights_or_none() is None)
        if b.weights_or_none() is not None:
            torch.testing.assert_close(a.weights(), b.weights(), atol=1e-6, rtol=1e-6)


def assert_same_batches(
    batches: Batches,
    split: Split,
    *,
    shuffle: bool,
    world: World | None = None,
    sequences: Sequence[str] = SEQUENCES,
) -> None:
    resident = resident_batches(batches, ResidentRows.of(split.store, CPU))
    assert resident is not None
    order = Permutation(len(split.fit_rows), 7, 1) if shuffle else None
    options = (split.fit_rows, 128, sequences, order, 2, world)
    expected = list(Loader(batches, *options))
    found = list(ResidentLoader(resident, *options))
    assert len(found) == len(expected) > 3
    for a, b in zip(found, expected, strict=True):
        assert_same_batch(a, b)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_those_of_the_host(small: PreparedDataset, shuffle: bool) -> None:
    split = small.split("fold_0")
    assert_same_batches(split, split, shuffle=shuffle)
    assert_same_batches(UnseenIds(split, 0.1, 5), split, shuffle=shuffle)


@pytest.mark.parametrize("rank", [0, 2, 4])
def test_shares_of_processes_are_padded_alike(small: PreparedDataset, rank: int) -> None:
    split = small.split("fold_1")
    assert_same_batches(UnseenIds(split, 0.1, 5), split, shuffle=True, world=World(rank, 5, CPU))


def test_vectors(tmp_path: Path) -> None:
    table = vector_table(1000)
    vectors = [None if row % 7 == 0 else vector for row, vector in enumerate(table["image"].to_pylist())]
    table = table.set_column(table.column_names.index("image"), "image", [vectors])
    split = prepared_vectors(table, tmp_path).split("full")
    assert split.schema.dense[-1] == f"isnull(image_0+{SIZE - 1})"
    assert_same_batches(split, split, shuffle=True, sequences=("seen",))


@pytest.mark.parametrize("transform", ["standardize", "log", "quantile_normal", "none"])
def test_every_transform(tmp_path: Path, transform: str) -> None:
    table = small_table(1500, seed=4)
    data = prepare_small(table, tmp_path / "raw", tmp_path / "prepared", numeric_transform=transform)
    split = data.split("full")
    assert_same_batches(split, split, shuffle=True)


def test_selected_features_and_weights(tmp_path: Path) -> None:
    table = small_table(1500)
    table = table.append_column("w", [np.random.default_rng(0).uniform(0.5, 2, 1500)])
    schema = small_schema(weight="w")
    data = prepare_small(table, tmp_path / "raw", tmp_path / "prepared", schema)
    split = data.split("full", FeatureConfig(leave_out=("color",)))
    assert_same_batches(split, split, shuffle=True)


def test_batches_that_only_a_host_makes(small: PreparedDataset) -> None:
    class OfTheHost:
        def batch(self, rows: np.ndarray, sequences: Sequence[str]) -> Batch:
            raise NotImplementedError

    split, host = small.split("full"), OfTheHost()
    assert choose_readers(host, split, "auto", CPU) == (host, split)
    with pytest.raises(InputError, match="trainer.data=resident: only the host can make the batches of this task"):
        choose_readers(host, split, "resident", CPU)


def test_rows_are_loaded_once_for_all_splits(small: PreparedDataset) -> None:
    rows = ResidentRows.of(small.split("fold_0").store, CPU)
    assert ResidentRows.of(small.split("fold_1").store, CPU) is rows
    tensors = [rows.sparse, rows.measured, rows.label, *(t for pair in rows.tokens.values() for t in pair)]
    held = sum(tensor.nbytes for tensor in tensors)
    assert held <= resident_bytes(small.store) <= 1.2 * held
