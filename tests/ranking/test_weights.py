"""LightGBM with weights of rows: whole weights equal repeated rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from ranking.trees.gbdt import GBDTConfig, GBDTTrainer, GBDTTrainerConfig
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import AllRows
from recsys.training.log import Log
from tests.helpers.small import prepare_small, small_schema, small_table

EXACT = GBDTConfig(
    n_trees=20,
    learning_rate=0.1,
    num_leaves=7,
    min_data_in_leaf=1,
    feature_fraction=1,
    bagging_fraction=1,
    l2=0,
    categorical="ordered",
)
"""No setting that counts rows, draws them or adds a term to their sums of weights."""


def fit(dataset: PreparedDataset, folder: Path) -> GBDTTrainer:
    trainer = GBDTTrainerConfig.model_validate({"early_stopping": None, "trees_per_epoch": 20, "unseen_share": 0})
    gbdt = GBDTTrainer(EXACT, dataset.split("full"), None, trainer, folder, Log(), "full")
    gbdt.fit()
    return gbdt


def test_whole_weights_equal_repeated_rows(tmp_path: Path) -> None:
    table = small_table(1200).drop_columns(["id"])
    coarse = np.clip(np.round(2 * np.nan_to_num(table["x_1"].to_numpy())) / 2, -1.5, 1.5)  # every value has a bin
    table = table.set_column(table.column_names.index("x_1"), "x_1", [coarse])
    weight = np.random.default_rng(0).integers(0, 4, 1200)
    schema = {"id": None, "numeric": ["x_1", "x_10"], "sequences": {}, "segments": {}, "categorical": ["color"]}
    many = table.take(pa.array(np.repeat(np.arange(1200), weight)))
    settings = {"numeric_transform": "none", "clip_quantile": 0, "min_count": 1}
    repeated = prepare_small(many, tmp_path / "a", tmp_path / "repeated", small_schema(**schema), **settings)
    table, schema = table.append_column("w", [weight]), schema | {"weight": "w"}
    weighted = prepare_small(table, tmp_path / "b", tmp_path / "weighted", small_schema(**schema), **settings)
    assert weighted.split("full").prior.pos_weight == repeated.split("full").prior.pos_weight
    trees, expected = fit(weighted, tmp_path / "one"), fit(repeated, tmp_path / "two")
    found = trees.predict(AllRows(1200), "")
    is_copied, last_copy = weight > 0, np.cumsum(weight) - 1
    assert np.abs(found[is_copied] - expected.predict(AllRows(len(many)), "")[last_copy[is_copied]]).max() < 1e-4
