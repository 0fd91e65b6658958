"""Calibration of runs with one fit: fitted to the rows that early stopping monitored, not to the reported ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

import pipelines.rank
from ranking.scoring import read_calibration
from recsys.evaluation.logits import probability
from recsys.evaluation.metrics import measure
from recsys.runs.predictions import read_predictions
from tests.helpers.commands import Run
from tests.helpers.small import small_table
from tests.pipelines.test_bad_input import refused, replaced

RANK = ("rank", "--config", "config.yaml", "--data", "raw")
OVERCONFIDENT = {
    "dcnv2": ("--model", "dcnv2", "model.linear_part=false", "trainer.epochs=20", "trainer.learning_rate=0.03"),
    "gbdt": ("--model", "gbdt", "model.n_trees=50", "model.learning_rate=1", "model.min_data_in_leaf=2"),
}
# the highest log loss chooses the epoch: the most overfitted one
WORST = ("trainer.early_stopping={weights: {logloss: 1}, patience: 20, validation_fraction: 0.3}",)
TREES = ("--model", "gbdt", "model.n_trees=5", "model.min_data_in_leaf=5")


def metrics_of(run: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(Path(run, "metrics.json").read_text())
    return metrics


def flip(table: pa.Table, rows: np.ndarray) -> pa.Table:
    label = table["click"].to_numpy()
    return replaced(table, click=pa.array(np.where(rows, 1 - label, label).astype(np.int8)))


@pytest.mark.parametrize(("model", "folds"), [("dcnv2", "holdout"), ("gbdt", "0")])
def test_an_overconfident_model_is_calibrated(project: Path, run: Run, model: str, folds: str) -> None:
    outcome = run(*RANK, *OVERCONFIDENT[model], *WORST, "--folds", folds, "--out", "a")
    assert outcome.code == 0, outcome.err
    metrics = metrics_of("a")
    calibration = metrics["calibration"]
    chosen, n_monitored = calibration["chosen"], calibration["monitored"]["none"]["n_rows"]
    assert f"calibration, cross-fitted over {n_monitored:,} monitored rows\n" in outcome.out
    assert "calibration, fitted to monitored rows, measured on the reported rows\n" in outcome.out
    assert "isotonic" in outcome.out  # each kind that was tried
    assert "WLL" not in outcome.out  # the run names other metrics
    assert f"chosen calibration: {chosen}, log loss lower by" in outcome.out
    assert (calibration["fitted_on"], chosen == "none") == ("monitored rows", False)
    raw, calibrated = calibration["figures"]["none"], calibration["figures"][chosen]
    assert (raw, calibrated) == (metrics["raw"], metrics["overall"])
    assert "before calibration" in outcome.out
    assert calibrated["wll"] < raw["wll"] - 0.05
    assert calibrated["logloss"] < raw["logloss"] - 0.05
    assert calibrated["roc_auc"] == pytest.approx(raw["roc_auc"])

    (fit,) = metrics["train"]["fits"].values()
    n_trained = fit["n_rows_trained"] // len(fit["epochs"])
    assert n_monitored == pytest.approx(3 / 7 * n_trained, abs=2)
    assert n_trained + n_monitored + metrics["overall"]["n_rows"] == 2000
    # by the weights of the best epoch, which are saved
    best = fit["epochs"][fit["best_epoch"]]["monitored"]
    assert calibration["monitored"]["none"]["logloss"] == pytest.approx(best, rel=1e-6)

    # the figures are those of the written calibrator, and a submission applies it
    calibrator, reported = read_calibration(Path("a")).calibrator, read_predictions(Path("a"))
    assert calibrator.kind == chosen
    natural = calibrator.natural_logit(reported.predictions.raw.natural)
    assert np.array_equal(natural, reported.logits.natural)  # what gates, ensembles and compare read
    expected = measure(reported.label, reported.logits)
    assert calibrated["wll"] == pytest.approx(expected.wll, rel=1e-12)
    submit = ("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "s.csv", "--scale", "natural")
    assert run(*submit).code == 0
    submitted = pa_csv.read_csv("s.csv")
    p = dict(zip(submitted["id"].to_pylist(), submitted["click"].to_pylist(), strict=True))
    found = np.array([p[row] for row in reported.row_id.to_pylist()])
    assert np.abs(np.log(found / probability(natural))).mean() < 5e-3  # bf16 rounding depends on the batch
    assert np.abs(np.log(found / reported.predictions.raw.p)).mean() > 0.1
    assert Path("a/reliability.png").is_file()


def test_calibration_never_sees_the_reported_rows(project: Path, run: Run) -> None:
    table = small_table()
    is_last_day = np.array([str(day) == "7" for day in table["day"].to_pylist()])
    for name, rows in (("a", table), ("b", flip(table, is_last_day))):
        pq.write_table(rows, "raw/train.parquet")
        outcome = run(*RANK, *OVERCONFIDENT["gbdt"], *WORST, "--folds", "holdout", "--out", name)
        assert outcome.code == 0, outcome.err
    assert Path("a/calibration.json").read_bytes() == Path("b/calibration.json").read_bytes()
    a, b = (metrics_of(name)["calibration"] for name in "ab")
    assert a["monitored"] == b["monitored"]
    assert a["figures"]["none"]["roc_auc"] == pytest.approx(1 - b["figures"]["none"]["roc_auc"])


def test_a_data_set_with_valid_and_test_rows_is_calibrated_on_valid(project: Path, run: Run) -> None:
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["files"] |= {"valid": ["valid.parquet"], "test": ["test.parquet"]}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    for name, n_rows, seed in (("train", 1500, 0), ("valid", 400, 1), ("test", 300, 2)):
        pq.write_table(small_table(n_rows, seed), f"raw/{name}.parquet")
    for name in "ab":
        outcome = run(*RANK, *OVERCONFIDENT["gbdt"], *WORST, "--out", name)
        assert outcome.code == 0, outcome.err
        assert outcome.out.count("valid: the rows that early stopping monitored.") == 1
        table = pq.read_table("raw/test.parquet")
        pq.write_table(flip(table, np.ones(300, bool)), "raw/test.parquet")
    assert Path("a/calibration.json").read_bytes() == Path("b/calibration.json").read_bytes()
    metrics = metrics_of("a")
    calibration = metrics["calibration"]
    chosen = calibration["chosen"]
    assert chosen != "none"
    # valid rows are reported by calibrators of other valid rows, test rows by that of all valid rows
    assert metrics["splits"]["valid"]["wll"] < calibration["monitored"]["none"]["wll"] - 0.05
    assert calibration["figures"] == {"none": metrics["raw"], chosen: metrics["overall"]}
    assert metrics["splits"]["test"] == metrics["overall"]


def test_a_full_run_without_reported_rows(project: Path, run: Run) -> None:
    outcome = run(*RANK, *OVERCONFIDENT["gbdt"], *WORST, "--folds", "full", "--out", "a")
    assert outcome.code == 0, outcome.err
    assert "calibration, cross-fitted over 600 monitored rows\n" in outcome.out
    calibration = metrics_of("a")["calibration"]
    assert calibration["figures"] == {}
    assert read_calibration(Path("a")).calibrator.kind == calibration["chosen"] != "none"
    assert not Path("a/reliability.png").exists()
    assert run("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "s.csv").code == 0


def test_a_run_killed_after_its_fit_is_calibrated_when_it_resumes(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*RANK, *OVERCONFIDENT["gbdt"], *WORST, "--folds", "holdout", "--out")
    assert run(*command, "whole").code == 0

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    for name in ("killed", "earlier"):
        with monkeypatch.context() as patch:
            patch.setattr(pipelines.rank, "calibrate_on_monitored", killed)
            assert run(*command, name).code == 130
    monkeypatch.setattr(pipelines.rank, "fit_split", killed)
    part = Path("killed.partial/parts/holdout.monitored.npz")
    saved = part.read_bytes()
    part.write_bytes(saved[:-100])
    refused(run(*command, "killed"), "holdout.monitored.npz is damaged")
    part.write_bytes(saved)
    assert run(*command, "killed").code == 0
    assert Path("killed/calibration.json").read_bytes() == Path("whole/calibration.json").read_bytes()
    assert metrics_of("killed")["calibration"] == metrics_of("whole")["calibration"]

    # an earlier version saved no predictions of monitored rows
    summary = Path("earlier.partial/parts/holdout.json")
    values = json.loads(summary.read_text())
    del values["monitored"]
    summary.write_text(json.dumps(values))
    assert run(*command, "earlier").code == 0
    assert metrics_of("earlier")["calibration"]["chosen"] is None
    assert not Path("earlier/calibration.json").exists()


@pytest.mark.parametrize(("is_click", "n_positive"), [(False, 0), (True, 67)])
def test_monitored_rows_of_one_class_are_not_calibrated_on(
    project: Path, run: Run, is_click: bool, n_positive: int
) -> None:
    """The last day has both classes; all monitored rows, which are few, have the class of most fitting rows."""
    table = small_table(800)
    is_last_day = np.array([str(day) == "7" for day in table["day"].to_pylist()])
    label = np.where(is_last_day, np.arange(800) % 2 == 0, is_click ^ (np.arange(800) % 500 == 3))
    pq.write_table(replaced(table, click=pa.array(label.astype(np.int8))), "raw/train.parquet")
    stopping = "trainer.early_stopping.weights={logloss: -1}"
    outcome = run(*RANK, *TREES, "--folds", "holdout", "--out", "a", stopping)
    assert outcome.code == 0, outcome.err
    reason = metrics_of("a")["calibration"]["reason"]
    assert f"monitored have {n_positive} positive and" in reason
    assert f"no calibration: {reason}" in " ".join(outcome.out.split())
    assert not Path("a/calibration.json").exists()
    assert run("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "s.csv").code == 0


def test_without_early_stopping_there_is_no_calibration(project: Path, run: Run) -> None:
    outcome = run(*RANK, *TREES, "--folds", "holdout", "--out", "a", "trainer.early_stopping=null")
    assert outcome.code == 0, outcome.err
    assert "calibration" not in outcome.out
    assert metrics_of("a")["calibration"]["chosen"] is None
    assert not Path("a/calibration.json").exists()
