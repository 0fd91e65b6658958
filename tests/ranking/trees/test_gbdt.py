"""GBDT compared with LightGBM on the same matrix."""

from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
import torch

from ranking.models import build_trainer
from ranking.trees.config import GBDTConfig, GBDTTrainerConfig
from ranking.trees.gbdt import GBDTTrainer
from ranking.trees.lightgbm_trees import lightgbm_parameters
from ranking.trees.rows import TableSequence
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import AllRows
from recsys.errors import InputError
from recsys.system.world import World
from recsys.training.config import EarlyStopping, LossConfig
from recsys.training.log import Log
from recsys.training.update.finite import DivergenceError
from tests.helpers.small import SMALL_SCHEMA, prepare_small, small_schema, small_table

SIZES = {"n_trees": 20, "num_leaves": 7, "min_data_in_leaf": 20, "min_data_per_group": 20}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("gbdt")
    sequences = SMALL_SCHEMA["sequences"] | {"seen": {"kind": "delimited", "max_length": 5, "statistics": True}}
    return prepare_small(small_table(3000), folder / "raw", folder / "prepared", small_schema(sequences=sequences))


def build(dataset: PreparedDataset, folder: Path, trainer: GBDTTrainerConfig, **sizes: object) -> GBDTTrainer:
    config = GBDTConfig.model_validate(SIZES | sizes)
    return GBDTTrainer(config, dataset.split("fold_0"), None, trainer, folder, Log(), "fold_0")


def test_blocks_slices_and_single_rows_agree(dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranking.trees.rows.READ_ROWS", 100)
    split = dataset.split("fold_0")
    table = TableSequence(split, split.fit_rows)
    whole = table.read(np.arange(len(table)))
    assert np.array_equal(table[150:350], whole[150:350], equal_nan=True)
    for place in (0, 99, 100, 731, len(table) - 1, 5):
        assert np.array_equal(table[place], whole[place], equal_nan=True)


def test_columns_are_ids_then_numbers_with_nulls_flags_and_statistics(dataset: PreparedDataset) -> None:
    split = dataset.split("fold_0")
    rows = np.arange(200)
    ids, numbers = split.table(rows)
    batch = split.batch(rows, ())
    assert ids.T.reshape(-1).tolist() == batch.sparse.values().tolist()
    n_measured = len(split.schema.measured)
    assert np.isnan(numbers[:, 0]).any()
    assert np.array_equal(np.isnan(numbers[:, 0]), numbers[:, n_measured] == 1)
    assert np.array_equal(np.nan_to_num(numbers), batch.dense.numpy())
    assert {"seen_length", "seen_entropy"} <= set(split.schema.measured)
    assert {"seen_first", "seen_last"} <= set(split.schema.categorical)


@pytest.mark.parametrize("boosting", ["gbdt", "dart"])
def test_agrees_with_lightgbm_on_the_same_matrix(dataset: PreparedDataset, tmp_path: Path, boosting: str) -> None:
    trainer = build(dataset, tmp_path, GBDTTrainerConfig(early_stopping=None, unseen_share=0), boosting=boosting)
    trainer.fit()
    split = dataset.split("fold_0")
    fitted = split.fit_rows.numbers()
    matrix = np.concatenate(split.table(fitted), axis=1)
    categorical = list(range(len(split.schema.categorical)))
    label = dataset.store.labels(fitted)
    weight = np.where(label == 1, (label == 0).sum() / (label == 1).sum(), 1)
    data = lgb.Dataset(
        matrix, label, weight=weight, categorical_feature=categorical, params=lightgbm_parameters(trainer._config, 0)
    )
    model = lgb.train(lightgbm_parameters(trainer._config, 0), data, num_boost_round=20)
    held_out = split.held_out_rows.numbers()
    expected = model.predict(np.concatenate(split.table(held_out), axis=1), raw_score=True)
    assert np.allclose(trainer.predict(split.held_out_rows, "scoring"), expected, atol=1e-5)


def test_best_epoch_is_kept_and_chosen_on_validation_rows(dataset: PreparedDataset, tmp_path: Path) -> None:
    stopping = EarlyStopping(weights={"roc_auc": 1.0}, validation_fraction=0.2)
    settings = GBDTTrainerConfig(early_stopping=stopping, trees_per_epoch=5, patience_trees=10)
    trainer = build(dataset, tmp_path, settings, n_trees=400, learning_rate=0.5)
    progress = trainer.fit().progress
    monitored = [epoch.monitored for epoch in progress.epochs]
    assert len(monitored) == np.argmax(monitored) + 1 + 2 < 80
    kept = lgb.Booster(model_file=tmp_path / "model.txt")
    assert kept.num_trees() == 5 * (np.argmax(monitored) + 1)
    split = dataset.split("fold_0")
    assert len(trainer._rows) + len(trainer.monitored_rows) == len(split.fit_rows)
    assert trainer.fit().progress.best_value == progress.best_value


def test_natural_logits_do_not_depend_on_the_class_weight(dataset: PreparedDataset, tmp_path: Path) -> None:
    rows, natural = dataset.split("fold_0").held_out_rows, []
    for weight in (1.0, 8.0):
        settings = GBDTTrainerConfig(early_stopping=None, loss=LossConfig(pos_weight=weight))
        trainer = build(dataset, tmp_path / str(weight), settings)
        trainer.fit()
        natural.append(trainer.link.logits(trainer.predict(rows, "scoring")).natural)
    assert abs(np.mean(natural[0]) - np.mean(natural[1])) < 0.25
    assert np.corrcoef(*natural)[0, 1] > 0.9


def test_settings_reach_lightgbm_by_its_names(dataset: PreparedDataset, tmp_path: Path) -> None:
    sizes = {"feature_fraction": 0.31, "bagging_fraction": 0.41, "max_bin": 17, "cat_smooth": 3.5, "drop_rate": 0.21}
    trainer = build(dataset, tmp_path, GBDTTrainerConfig(), boosting="dart", n_trees=2, **sizes)
    trainer.fit()
    (path,) = tmp_path.rglob("model.txt")
    model = path.read_text()
    for name, value in sizes.items():
        assert f"[{name}: {value}]" in model


def test_losses_of_deep_models_are_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trainer.loss.name=focal: gbdt supports only log_loss"):
        build(dataset, tmp_path, GBDTTrainerConfig(loss=LossConfig(name="focal")))
    for key in ("self_ensemble", "branches"):
        with pytest.raises(InputError, match=f"trainer.loss.{key} is for deep models: remove it for gbdt"):
            build(dataset, tmp_path, GBDTTrainerConfig(loss=LossConfig.model_validate({key: 1.0})))


def test_several_processes_and_no_rows_are_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    split, two = dataset.split("fold_0"), World(0, 2, torch.device("cpu"))
    with pytest.raises(InputError, match="gbdt grows its trees in one process.*start it without torchrun"):
        build_trainer(GBDTConfig(), GBDTTrainerConfig(), split, None, tmp_path, Log(), two)
    split = replace(
        split, fit_rows=AllRows(1), monitored=None
    )  # the only row becomes a validation row of early stopping
    with pytest.raises(InputError, match="split 'fold_0' has no rows left to train on"):
        GBDTTrainer(GBDTConfig(), split, None, GBDTTrainerConfig(), tmp_path, Log(), "fold_0")


@pytest.mark.parametrize("stopping", [EarlyStopping(), None], ids=["early stopping", "all trees"])
def test_scores_that_are_not_finite_are_an_error(
    dataset: PreparedDataset, tmp_path: Path, stopping: EarlyStopping | None
) -> None:
    trainer = build(dataset, tmp_path, GBDTTrainerConfig(early_stopping=stopping), learning_rate=1e300)
    with pytest.raises(DivergenceError, match="the loss is not finite: lower model.learning_rate"):
        trainer.fit()


def test_probabilities_that_round_to_one_can_be_monitored(dataset: PreparedDataset, tmp_path: Path) -> None:
    trainer = build(dataset, tmp_path, GBDTTrainerConfig(), learning_rate=100.0)
    assert trainer.fit().progress.best_value is not None


def test_an_error_of_lightgbm_is_one_line(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="LightGBM cannot train with these settings and rows .*change model"):
        build(dataset, tmp_path, GBDTTrainerConfig(early_stopping=None), bagging_fraction=1e-9).fit()
