"""`trainer.seeds`: fits of every split with several seeds, whose logits are averaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
import pytest

import pipelines.rank
from recsys.runs.predictions import read_predictions
from tests.helpers.commands import Run

RANK = ("rank", "--config", "config.yaml", "--data", "raw")
DEEP = ("--model", "dcnv2", "trainer.epochs=1")
TREES = ("--model", "gbdt", "model.n_trees=10", "model.min_data_in_leaf=5", "trainer.trees_per_epoch=5")


def metrics_of(run: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(Path(run, "metrics.json").read_text())
    return metrics


@pytest.mark.parametrize("model", [DEEP, TREES])
def test_each_seed_is_the_run_of_that_seed_and_the_mean_is_reported(
    model: tuple[str, ...], project: Path, run: Run
) -> None:
    outcome = run(*RANK, *model, "trainer.seed=5", "trainer.seeds=2", "--out", "both")
    assert outcome.code == 0, outcome.err
    assert "2 seeds x splits: fold_0, fold_1, fold_2" in outcome.out
    fits = metrics_of("both")["train"]["fits"]
    names = ["fold_0", "fold_0-seed_1", "fold_1", "fold_1-seed_1", "fold_2", "fold_2-seed_1"]
    assert list(fits) == names
    assert sorted(path.name for path in Path("both/ckpt").iterdir()) == names
    both = read_predictions(Path("both")).predictions
    assert both.raw_by_seed.shape == both.natural_by_seed.shape == (2000, 2)
    assert both.logits.natural == pytest.approx(both.natural_by_seed.mean(axis=1), abs=1e-12)
    assert [len(logits) for logits in both.by_seed()] == [2000, 2000]
    assert np.array_equal(both.by_seed()[1].natural, both.natural_by_seed[:, 1])
    if model == DEEP:  # trees share their number over seeds
        for number in range(2):
            assert run(*RANK, *model, f"trainer.seed={5 + number}", "--out", f"one{number}").code == 0
            one = read_predictions(Path(f"one{number}")).predictions
            assert np.array_equal(one.raw_by_seed[:, 0], both.raw_by_seed[:, number])


def test_seeds_of_one_split_share_a_calibrator_of_the_rows_that_they_monitored(project: Path, run: Run) -> None:
    overfitted = ("model.n_trees=50", "model.learning_rate=1", "model.min_data_in_leaf=2")
    worst = "trainer.early_stopping={weights: {logloss: 1}, patience: 12, validation_fraction: 0.3}"
    outcome = run(*RANK, "--model", "gbdt", *overfitted, worst, "--folds", "0", "trainer.seeds=2", "--out", "a")
    assert outcome.code == 0, outcome.err
    metrics = metrics_of("a")
    assert metrics["calibration"]["chosen"] != "none"
    assert metrics["overall"]["logloss"] < metrics["raw"]["logloss"] - 0.05
    n_monitored = metrics["calibration"]["monitored"]["none"]["n_rows"]
    (n_of_one,) = {fit["n_rows_trained"] // len(fit["epochs"]) for fit in metrics["train"]["fits"].values()}
    assert n_monitored == pytest.approx(2 * 3 / 7 * n_of_one, abs=4)  # of both seeds, which hold out other rows
    gain = metrics["calibration"]["gains"][metrics["calibration"]["chosen"]]
    assert gain["n_clusters"] < n_monitored  # a row that both monitored is one cluster

    # a submission has the mean of the calibrated logits of both seeds
    submit = ("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "s.csv", "--scale", "natural")
    assert run(*submit).code == 0
    reported = read_predictions(Path("a"))
    p = dict(zip(*(pa_csv.read_csv("s.csv")[name].to_pylist() for name in ("id", "click")), strict=True))
    submitted = np.array([p[row] for row in reported.row_id.to_pylist()])
    assert submitted == pytest.approx(reported.logits.p, rel=1e-5)
    assert np.abs(np.log(submitted / reported.predictions.by_seed()[0].p)).mean() > 0.05


def test_a_killed_run_resumes_at_the_seed_that_is_missing(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*RANK, *DEEP, "trainer.seeds=2", "--folds", "0,1", "--out")
    assert run(*command, "whole").code == 0
    fit_split, n_fits = pipelines.rank.fit_split, []

    def killed(*args: Any) -> None:
        if len(n_fits) == 3:
            raise KeyboardInterrupt
        n_fits.append(args)
        fit_split(*args)

    with monkeypatch.context() as patch:
        patch.setattr(pipelines.rank, "fit_split", killed)
        assert run(*command, "again").code == 130
    outcome = run(*command, "again")
    assert outcome.code == 0, outcome.err
    assert "fold_1  is already trained" in outcome.out
    assert "fold_1-seed_1  is already trained" not in outcome.out
    assert Path("again/oof.csv").read_bytes() == Path("whole/oof.csv").read_bytes()
