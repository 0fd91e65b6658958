"""XGBoost and CatBoost by `model.library`, each against the library itself on the same matrix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranking.trees import libraries
from ranking.trees.config import GBDTConfig, GBDTTrainerConfig, TreeLibrary
from ranking.trees.gbdt import GBDTTrainer, has_all_trees, remove_all_trees
from recsys.data.dataset import PreparedDataset
from recsys.defaults import DataSize
from recsys.errors import InputError
from recsys.training.config import EarlyStopping
from recsys.training.log import Log
from tests.helpers.small import prepare_small, small_table

SIZES = {"n_trees": 20, "num_leaves": 7, "learning_rate": 0.2}
OTHERS: list[TreeLibrary] = ["xgboost", "catboost"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("trees")
    return prepare_small(small_table(3000), folder / "raw", folder / "prepared")


def build(
    dataset: PreparedDataset, folder: Path, library: TreeLibrary, trainer: GBDTTrainerConfig, **sizes: Any
) -> GBDTTrainer:
    config = GBDTConfig.model_validate(SIZES | {"library": library} | sizes)
    return GBDTTrainer(config, dataset.split("fold_0"), None, trainer, folder, Log(), "fold_0")


def matrix(dataset: PreparedDataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The table, labels and class weights of rows."""
    label = dataset.store.labels(rows)
    weight = np.where(label == 1, (label == 0).sum() / (label == 1).sum(), 1)
    return np.concatenate(dataset.split("fold_0").table(rows), axis=1).astype(np.float32), label, weight


@pytest.mark.parametrize("categorical", ["native", "ordered"])
def test_agrees_with_xgboost(dataset: PreparedDataset, tmp_path: Path, categorical: str) -> None:
    xgb = pytest.importorskip("xgboost")
    settings = GBDTTrainerConfig(early_stopping=None, unseen_share=0)
    trainer = build(dataset, tmp_path, "xgboost", settings, categorical=categorical, min_data_in_leaf=20)
    trainer.fit()
    split = dataset.split("fold_0")
    table, label, weight = matrix(dataset, split.fit_rows.numbers())
    n_ids = len(split.schema.categorical) if categorical == "native" else 0
    types = ["c"] * n_ids + ["q"] * (table.shape[1] - n_ids)
    data = xgb.QuantileDMatrix(table, label, weight=weight, feature_types=types, enable_categorical=True, max_bin=255)
    parameters = {
        **{"objective": "binary:logistic", "tree_method": "hist", "grow_policy": "lossguide", "max_depth": 0},
        **{"max_leaves": 7, "learning_rate": 0.2, "min_child_weight": 20 * weight.mean() / 4, "seed": 0},
        **{"colsample_bytree": 0.7, "subsample": 0.8, "reg_lambda": 1.0, "max_bin": 255},
    }
    model = xgb.train(parameters, data, num_boost_round=20)
    held_out = xgb.DMatrix(
        matrix(dataset, split.held_out_rows.numbers())[0], feature_types=types, enable_categorical=True
    )
    found = trainer.predict(split.held_out_rows, "scoring")
    assert np.allclose(found, model.predict(held_out, output_margin=True), atol=1e-4)


@pytest.mark.parametrize("categorical", ["native", "ordered"])
def test_agrees_with_catboost(dataset: PreparedDataset, tmp_path: Path, categorical: str) -> None:
    catboost = pytest.importorskip("catboost")
    settings = GBDTTrainerConfig(early_stopping=None, unseen_share=0)
    trainer = build(dataset, tmp_path, "catboost", settings, categorical=categorical)
    trainer.fit()
    split = dataset.split("fold_0")
    n_ids = len(split.schema.categorical) if categorical == "native" else 0

    def texts(table: np.ndarray) -> list[list[Any]]:
        return [[*(str(int(value)) for value in row[:n_ids]), *row[n_ids:]] for row in table]

    table, label, weight = matrix(dataset, split.fit_rows.numbers())
    model = catboost.CatBoostClassifier(
        **{"iterations": 20, "learning_rate": 0.2, "depth": 3, "rsm": 0.7, "bootstrap_type": "Bernoulli"},
        **{"subsample": 0.8, "l2_leaf_reg": 1.0, "border_count": 254, "random_seed": 0, "thread_count": 1},
        **{"allow_writing_files": False, "logging_level": "Silent"},
    ).fit(catboost.Pool(texts(table), label, cat_features=list(range(n_ids)), weight=weight))
    expected = model.predict(texts(matrix(dataset, split.held_out_rows.numbers())[0]), prediction_type="RawFormulaVal")
    assert np.allclose(trainer.predict(split.held_out_rows, "scoring"), expected, atol=1e-4)


@pytest.mark.parametrize("library", OTHERS)
def test_the_best_round_is_kept_and_another_can_be(
    dataset: PreparedDataset, tmp_path: Path, library: TreeLibrary
) -> None:
    pytest.importorskip(library)
    stopping = EarlyStopping(weights={"roc_auc": 1.0}, validation_fraction=0.2)
    settings = GBDTTrainerConfig(early_stopping=stopping, trees_per_epoch=5, patience_trees=15)
    trainer = build(dataset, tmp_path, library, settings, n_trees=400, learning_rate=0.5)
    progress = trainer.fit().progress
    monitored = [epoch.monitored for epoch in progress.epochs]
    assert len(monitored) < 80  # growth stopped
    assert progress.best_value == max(value for value in monitored if value is not None)
    rows = dataset.split("fold_0").held_out_rows
    best = trainer.predict(rows, "scoring")
    forest = libraries.load_forest(library, tmp_path / libraries.tree_file(library))
    assert forest.n_trees == min(5 * (progress.best_epoch + 1), 400)
    assert has_all_trees(tmp_path)
    trainer.keep_epochs(2)
    again = build(dataset, tmp_path, library, settings)
    kept = again.predict(rows, "scoring")
    assert np.array_equal(kept, trainer.predict(rows, "scoring"))
    assert not np.allclose(kept, best)
    trainer.keep_epochs(progress.best_epoch + 1)
    assert np.allclose(trainer.predict(rows, "scoring"), best, atol=1e-5)
    remove_all_trees(tmp_path)
    assert not has_all_trees(tmp_path)


def test_dart_of_xgboost_keeps_the_trees_of_its_best_round(dataset: PreparedDataset, tmp_path: Path) -> None:
    """DART scales earlier trees later, so that they cannot be cut off the grown ones."""
    pytest.importorskip("xgboost")
    stopping = EarlyStopping(weights={"roc_auc": 1.0}, validation_fraction=0.2)
    settings = GBDTTrainerConfig(early_stopping=stopping, trees_per_epoch=5, patience_trees=15)
    trainer = build(dataset, tmp_path, "xgboost", settings, boosting="dart", n_trees=60, learning_rate=0.5)
    progress = trainer.fit().progress
    assert trainer.monitored_rows is not None
    logit = trainer.predict(trainer.monitored_rows, "scoring")
    assert not has_all_trees(tmp_path)
    label = dataset.store.labels(trainer.monitored_rows.numbers())
    pairs = logit[label == 1][:, None] - logit[label == 0]
    assert np.mean((pairs > 0) + 0.5 * (pairs == 0)) == pytest.approx(progress.best_value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"library": "catboost", "boosting": "dart"}, "boosting is not a setting of catboost"),
        ({"library": "catboost", "min_data_in_leaf": 5}, "min_data_in_leaf is not a setting of catboost"),
        ({"library": "xgboost", "cat_smooth": 3.0}, "cat_smooth is not a setting of xgboost"),
    ],
)
def test_settings_that_a_library_lacks_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GBDTConfig.model_validate(settings)


@pytest.mark.parametrize("library", OTHERS)
def test_sizes_follow_the_data(library: TreeLibrary) -> None:
    resolved = GBDTConfig(library=library).resolved(DataSize(100_000, 2_000, "cpu"))
    lightgbm = GBDTConfig().resolved(DataSize(100_000, 2_000, "cpu"))
    assert (resolved.n_trees, resolved.num_leaves) == (lightgbm.n_trees, lightgbm.num_leaves)
    assert (resolved.min_data_in_leaf == "auto") == (library == "catboost")


@pytest.mark.parametrize("library", OTHERS)
def test_a_library_that_is_not_installed_is_named(
    dataset: PreparedDataset, tmp_path: Path, library: TreeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"{library} is not installed: pip install"):
        build(dataset, tmp_path, library, GBDTTrainerConfig()).fit()
