import json
import re
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pytest

from tests.helpers.commands import Run
from tests.pipelines.conftest import Kept

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "dcnv2")


@pytest.fixture
def runs(project: Path, run: Run, kept: Kept) -> list[str]:
    def train() -> None:
        for name, settings in (("a", []), ("b", ["trainer.seed=1", "model.embedding_dim=8"])):
            outcome = run(*RANK, "--out", name, *settings)
            assert outcome.code == 0, outcome.err

    kept(train)
    return ["a", "b"]


def test_ensemble_writes_a_run_folder(runs: list[str], run: Run) -> None:
    outcome = run("ensemble", "--runs", *runs, "--out", "both", "--replicates", "100")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("both/metrics.json").read_text())
    assert list(metrics["members"]) == runs
    assert set(metrics["methods"]) == {"logit_mean", "rank_mean", "weights", "greedy", "logistic"}
    metric = metrics["named_metrics"][0]
    assert metric == "logloss"
    assert metrics["methods"][metrics["method"]][metric] == min(found[metric] for found in metrics["methods"].values())
    assert metrics["members"]["a"] == json.loads(Path("a/metrics.json").read_text())["overall"] | {
        "ece": pytest.approx(metrics["members"]["a"]["ece"])
    }
    assert list(metrics["folds"]) == ["0", "1", "2"]
    assert {"DONE", "stack.json", "calibration.json", "reliability.png"} <= {
        path.name for path in Path("both").iterdir()
    }
    assert re.search(r"calibration, cross-fitted *\n.*\n. method .* log loss .*\n.*\n. none +. +0\.", outcome.out)
    assert "chosen calibration: " in outcome.out
    compared = run("compare", "a", "both", "--replicates", "100")
    assert compared.code == 0, compared.err
    again = run("ensemble", "--runs", *runs, "--out", "both", "--replicates", "100")
    assert "run folder: both" in again.out


def test_the_mean_of_logits_by_hand(runs: list[str], run: Run) -> None:
    outcome = run("ensemble", *runs, "--out", "mean", "--method", "logit_mean", "--replicates", "100")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("mean/metrics.json").read_text())
    assert metrics["without"]["a"]["ap"] == pytest.approx(metrics["members"]["b"]["ap"])
    assert metrics["without"]["b"]["wll"] == pytest.approx(metrics["members"]["a"]["wll"])
    logit = {}
    for name in (*runs, "mean"):
        table = pa_csv.read_csv(f"{name}/oof.csv")
        column = "raw_logit" if name == "mean" else "logit"  # the mean is calibrated once more
        logit[name] = dict(zip(table["row_id"].to_pylist(), table[column].to_pylist(), strict=True))
    assert len(logit["mean"]) == 2000
    for row in list(logit["a"])[:50]:
        assert logit["mean"][row] == pytest.approx(np.mean([logit[name][row] for name in runs]), abs=1e-9)


def test_runs_that_cannot_be_joined_are_refused(runs: list[str], run: Run) -> None:
    assert "needs at least two runs, got 1" in run("ensemble", "--runs", "a").err
    assert "have the same name" in run("ensemble", "--runs", "a", "a").err
    outcome = run(*RANK, "--out", "one", "--folds", "0")
    assert outcome.code == 0, outcome.err
    refused = run("ensemble", "a", "one", "--method", "logistic")
    assert refused.code == 2
    assert "have only '0'" in refused.err
    assert run("ensemble", "a", "one", "--out", "c", "--replicates", "100").code == 0
