from pathlib import Path

import numpy as np
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.schema.feature_selection import FeatureConfig
from tests.helpers.small import prepare_small, small_schema, small_table

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
        (FeatureConfig(min_count=2), "a min_count of 2 for 'color' is below the 3 of the prepared data"),
    ):
        with pytest.raises(InputError, match=message):
            crossed.split("full", features)
