"""Data with too few clicks for a metric, a fold or a part: one line before the training, or a result."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.helpers.commands import Run
from tests.helpers.small import small_table
from tests.helpers.towers import tower_schema, tower_table
from tests.pipelines.test_bad_input import refused, replaced

RANK = ("rank", "--config", "config.yaml", "--data", "raw")
TREES = ("model.n_trees=5", "model.min_data_in_leaf=5")


def with_clicks(table: pa.Table, is_click: np.ndarray) -> pa.Table:
    return replaced(table, click=pa.array(is_click.astype(np.int8)))


@pytest.fixture
def rare(project: Path) -> Path:
    """400 rows, of which 3 are clicks."""
    pq.write_table(with_clicks(small_table(400), np.arange(400) % 150 == 7), project / "raw/train.parquet")
    return project


@pytest.mark.parametrize("model", ["dcnv2", "gbdt"])
def test_early_stopping_without_a_click(rare: Path, run: Run, model: str) -> None:
    stopping = "trainer.early_stopping={weights: {toss_score: 1}, validation_fraction: 0.05}"
    outcome = run(*RANK, "--model", model, "--out", "a", stopping)
    refused(outcome, "toss_score is undefined on the 13 monitored rows of early stopping (0 positive): raise trainer.")
    assert "epoch 1" not in outcome.out


def test_folds_without_a_click_are_measured_where_they_can_be(rare: Path, run: Run) -> None:
    for name, settings in (("a", TREES), ("b", ("model.n_trees=9", TREES[1]))):
        found = run(*RANK, "--model", "gbdt", "--out", name, "trainer.early_stopping=null", *settings)
        assert found.code == 0, found.err
    assert run("compare", "a", "b", "--replicates", "100").code == 0
    found = run("ensemble", "a", "b", "--out", "both", "--replicates", "100")
    assert found.code == 0, found.err
    single = run(*RANK, "--model", "gbdt", "--folds", "0", "--out", "c", "trainer.early_stopping=null", *TREES)
    assert single.code == 0, single.err


def test_clicks_in_one_of_the_folds_only(project: Path, run: Run) -> None:
    """No calibration and no stack can be fitted to the other folds."""
    pq.write_table(small_table(400), "raw/train.parquet")
    assert run("prepare", "--config", "config.yaml", "--train", "raw", "--out", "p").code == 0
    fold = np.empty(400, np.int64)
    from recsys.data.dataset import PreparedDataset

    dataset = PreparedDataset.open(Path("p"))
    for number in range(3):
        fold[dataset.split(f"fold_{number}").held_out_rows.numbers()] = number
    is_click = ((fold == 0) | (fold == 2)) & (np.arange(400) % 5 == 0)
    pq.write_table(with_clicks(small_table(400), is_click), "raw/train.parquet")
    for name, settings in (("a", TREES), ("b", ("model.n_trees=9", TREES[1]))):
        found = run(*RANK, "--model", "gbdt", "--folds", "0,1", "--out", name, "trainer.early_stopping=null", *settings)
        assert found.code == 0, found.err
        assert not Path(name, "calibration.json").exists()
    found = run("ensemble", "a", "b", "--out", "both", "--replicates", "100")
    assert found.code == 0, found.err
    assert json.loads(Path("both/metrics.json").read_text())["method"] == "logit_mean"
    refused(
        run("ensemble", "a", "b", "--out", "other", "--replicates", "100", "--method", "logistic"),
        "no rows of both classes outside one of them: pass --method logit_mean",
    )


def test_a_sweep_whose_metric_is_undefined(rare: Path, run: Run) -> None:
    sweep = ("sweep", "--config", "config.yaml", "--data", "raw", "--model", "gbdt", "trainer.early_stopping=null")
    outcome = run(*sweep, "--folds", "full", "--out", "s", "model.n_trees=2,3")
    refused(outcome, "--metric logloss is undefined on the 0 evaluation rows of full (0 positive): pass other --folds")
    outcome = run(*sweep, "--metric", "gauc", "--out", "s", "model.n_trees=2,3")
    refused(outcome, "--metric gauc needs users: name schema.user in the config, or pass another --metric")
    assert not Path("s").exists()


def test_an_ensemble_of_rows_without_a_click(project: Path, run: Run) -> None:
    table = small_table(400)
    is_last_day = np.array([str(day) == "7" for day in table["day"].to_pylist()])
    pq.write_table(with_clicks(table, ~is_last_day & (np.arange(400) % 3 == 0)), "raw/train.parquet")
    for name in "ab":
        found = run(*RANK, "--model", "gbdt", "--folds", "holdout", "--out", name, *TREES, f"trainer.seed={ord(name)}")
        assert found.code == 0, found.err
        assert json.loads(Path(name, "metrics.json").read_text())["overall"]["ap"] is None
    refused(run("compare", "a", "b"), "0 of them positive: a comparison needs rows of both classes")
    refused(run("ensemble", "a", "b", "--out", "c"), "0 of them positive: an ensemble needs rows of both classes")


def test_retrieval_without_clicks_to_learn_from(project: Path, run: Run) -> None:
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["schema"] |= tower_schema()
    del config["schema"]["segments"]
    config["retrieval"] = {"model": {"embedding_dim": 4, "output_dim": 4}, "trainer": {"epochs": 1}}
    config["files"]["valid"] = ["valid.parquet"]
    Path("config.yaml").write_text(yaml.safe_dump(config))
    table, n = tower_table(300), np.arange(300)
    pq.write_table(with_clicks(table, n == 0), "raw/train.parquet")
    pq.write_table(with_clicks(table.slice(0, 50), n[:50] < 0), "raw/valid.parquet")
    retrieval = ("retrieval", "--config", "config.yaml", "--data", "raw", "--split", "full", "--out")
    refused(run(*retrieval, "a"), "has no positives among its evaluation rows")
    pq.write_table(with_clicks(table.slice(0, 50), n[:50] < 9), "raw/valid.parquet")
    outcome = run(*retrieval, "b")
    refused(outcome, "all clicks of split 'full' are in one part, so that none is left to train on: add rows, or set")
    assert "epoch 1" not in outcome.out

    config["files"]["test"] = ["test.parquet"]
    Path("config.yaml").write_text(yaml.safe_dump(config))
    pq.write_table(with_clicks(table.slice(0, 50), n[:50] < 9), "raw/test.parquet")
    pq.write_table(with_clicks(table.slice(0, 50), n[:50] < 0), "raw/valid.parquet")
    pq.write_table(with_clicks(table, n % 3 == 0), "raw/train.parquet")
    outcome = run(*retrieval, "c", "trainer.early_stopping={}")
    refused(outcome, "trainer.early_stopping needs positives among the 50 valid rows, they have none: set it to null")
    assert "epoch 1/1" not in outcome.out
