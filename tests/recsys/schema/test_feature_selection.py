from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.resident.loader import resident_batches
from recsys.data.resident.rows import ResidentRows
from recsys.errors import InputError
from recsys.schema.feature_selection import FeatureConfig
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.helpers.vector_data import prepared_vectors, vector_schema, vector_table

ROWS = np.arange(300)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("crossed")
    schema = small_schema(crosses={"both": ["color", "shop"]}, target_item="shop", towers={"item": ["shop", "both"]})
    return prepare_small(small_table(), folder / "raw", folder / "prepared", schema)


def test_left_out_features_are_in_no_batch(crossed: PreparedDataset) -> None:
    whole, less = crossed.split("fold_0"), crossed.split("fold_0", FeatureConfig(leave_out=("b*",)))
    assert whole.schema.categorical == ("color", "shop", "both")
    assert less.schema.categorical == ("color", "shop")
    assert less.schema.towers["item"] == ("shop",)
    assert "both" not in less.schema.num_embeddings
    batch, same = less.batch(ROWS, []), whole.batch(ROWS, [])
    assert batch.sparse.keys() == ["color", "shop"]
    for name in batch.sparse.keys():  # noqa: SIM118 (a KeyedJaggedTensor does not iterate)
        assert batch.sparse[name].values().tolist() == same.sparse[name].values().tolist()
    assert less.table(ROWS)[0].tolist() == whole.table(ROWS)[0][:, :2].tolist()


def test_left_out_numbers_are_in_no_batch_but_as_steps(crossed: PreparedDataset) -> None:
    whole, less = crossed.split("fold_0"), crossed.split("fold_0", FeatureConfig(leave_out_numeric=("x_1", "x_10")))
    assert whole.schema.dense == ("x_1", "x_2", "x_10", "isnull(x_1+1)")
    assert less.schema.dense == ("x_2", "isnull(x_2)")  # both columns are null in the same rows
    assert less.schema.measured == ("x_2", "x_1", "x_10")
    batch, same = less.batch(ROWS, ["steps"]), whole.batch(ROWS, ["steps"])
    assert batch.dense.tolist() == same.dense[:, [1, 3]].tolist()
    assert batch.sequences.values().tolist() == same.sequences.values().tolist()
    assert batch.sequences.weights().tolist() == same.sequences.weights().tolist()
    resident = resident_batches(less, ResidentRows.of(less.store, torch.device("cpu")))
    assert resident is not None
    row = torch.from_numpy(ROWS)
    (found,) = resident.batches(row, [300], ["steps"], [{"steps": int(resident.lengths(row, "steps").sum())}])
    assert torch.equal(found.dense, batch.dense)
    assert torch.equal(found.sequences.weights(), batch.sequences.weights())


def test_left_out_encodings(tmp_path: Path) -> None:
    encodings = {"color": ["ctr"], "shop": ["past_ctr"], "seen": ["count"], "color*shop": ["count", "ctr"]}
    schema = small_schema(encodings=encodings, encodings_past={"order": "day"})
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "prepared", schema)
    whole = dataset.split("fold_0")
    for left_out in (("color",), ("shop",), ("seen",), ("color*shop", "seen"), tuple(encodings)):
        less = dataset.split("fold_0", FeatureConfig(leave_out_encodings=left_out))
        kept = [name for name in whole.schema.dense if not any(name.endswith(f"({of})") for of in left_out)]
        assert less.schema.dense == tuple(kept)
        columns = [whole.schema.dense.index(name) for name in kept]
        assert torch.equal(less.batch(ROWS, []).dense, whole.batch(ROWS, []).dense[:, columns])


def test_a_left_out_vector_is_that_without_the_column(tmp_path: Path) -> None:
    table = vector_table(300)
    whole = prepared_vectors(table, tmp_path / "whole")
    plain = prepared_vectors(table, tmp_path / "plain", vector_schema(vectors=[]))
    less, expected = whole.split("full", FeatureConfig(leave_out_numeric=("image",))), plain.split("full")
    assert less.schema.vectors == ()
    assert less.schema.dense == expected.schema.dense
    rows = np.arange(100)
    assert torch.equal(less.batch(rows, []).dense, expected.batch(rows, []).dense)
    with pytest.raises(InputError, match="features.leave_out_numeric: 'image_1' is not a column.*did you mean 'image'"):
        whole.split("full", FeatureConfig(leave_out_numeric=("image_1",)))


def test_higher_min_count_equals_preparing_with_it(tmp_path: Path) -> None:
    low = prepare_small(small_table(), tmp_path / "raw", tmp_path / "low", min_count=3)
    high = prepare_small(small_table(), tmp_path / "raw", tmp_path / "high", min_count=40)
    features = FeatureConfig(min_count=5, min_count_by_column={"sh*": 40, "color": 40, "seen": 40})
    found, expected = low.split("fold_1", features), high.split("fold_1")
    assert found.schema.num_embeddings == expected.schema.num_embeddings
    assert found.schema.num_embeddings["shop"] < low.split("fold_1").schema.num_embeddings["shop"]
    for name in ("color", "shop"):
        a, b = (split.batch(ROWS, ["seen"]) for split in (found, expected))
        assert a.sparse[name].values().tolist() == b.sparse[name].values().tolist()
        assert a.sequences["seen"].values().tolist() == b.sequences["seen"].values().tolist()


def test_invalid_feature_selections_are_named(crossed: PreparedDataset) -> None:
    for features, message in (
        (FeatureConfig(leave_out=("colour",)), "features.leave_out: 'colour' is not a column.*did you mean 'color'"),
        (FeatureConfig(leave_out=("shop",)), "'shop' is schema.target_item: keep it"),
        (FeatureConfig(leave_out_numeric=("x_3",)), "features.leave_out_numeric: 'x_3' is not a column"),
        (FeatureConfig(leave_out_encodings=("color",)), "features.leave_out_encodings: 'color' is not a column"),
        (FeatureConfig(min_count=2), "a min_count of 2 for 'color' is below the 3 of the prepared data"),
    ):
        with pytest.raises(InputError, match=message):
            crossed.split("full", features)
