"""One set of predictions: what a run over folds reports is what gates, ensembles and submissions use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from ranking.scoring import read_calibration
from recsys.evaluation.metrics import measure
from recsys.runs.metrics import read_metrics
from recsys.runs.predictions import read_predictions
from recsys.system.files import write_json
from recsys.system.seal import seal
from tests.helpers.commands import Run
from tests.helpers.small import small_table

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "gbdt", "evaluation.metric=wll")
OVERFITTED = ("model.n_trees=40", "model.learning_rate=1", "model.min_data_in_leaf=2", "trainer.early_stopping=null")
MILD = ("model.n_trees=10", "model.min_data_in_leaf=5")


def metrics_of(run: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(Path(run, "metrics.json").read_text())
    return metrics


@pytest.fixture
def overfitted(project: Path, run: Run) -> str:
    """A finished run whose raw logits are far too extreme."""
    outcome = run(*RANK, *OVERFITTED, "--out", "a")
    assert outcome.code == 0, outcome.err
    assert "before calibration" in outcome.out
    return "a"


def test_report_gates_and_submission_have_the_calibrated_loss(overfitted: str, run: Run) -> None:
    metrics = metrics_of(overfitted)
    raw, overall = metrics["raw"]["wll"], metrics["overall"]["wll"]
    assert raw > overall + 0.1
    assert metrics["calibration"]["loss"] == "wll"
    reported = read_predictions(Path(overfitted))
    read = measure(reported.label, reported.logits)
    assert read == read_metrics(Path(overfitted)).overall  # to the last digit
    assert measure(reported.label, reported.predictions.raw).wll == raw

    pq.write_table(small_table(1500, seed=9), "new.parquet")
    submit = ("submit", "--run", overfitted, "--test", "new.parquet", "--labels", "new.parquet", "--out", "s.csv")
    outcome = run(*submit)
    assert outcome.code == 0, outcome.err
    submitted = json.loads(Path("s.json").read_text())["metrics"]
    assert submitted["estimated by the run"]["wll"] == overall
    # three fits are averaged, so that new rows are predicted a little better than out-of-fold ones
    assert submitted["by the labels"]["wll"] == pytest.approx(overall, abs=0.05)


def test_every_fit_is_calibrated_before_the_average(overfitted: str, run: Run) -> None:
    """A calibration with a step: the mean of calibrated logits is not the calibrated mean of logits."""
    path = Path(overfitted, "calibration.json")
    steps = {"kind": "isotonic", "knots": [-2.0, -1.9, 2.0, 2.1], "rates": [0.1, 0.2, 0.2, 0.6]}
    p = {}
    for name, calibrator in (("raw", {}), ("stepped", steps)):
        write_json(path, {"calibrator": calibrator})
        seal(Path(overfitted))
        submit = ("submit", "--run", overfitted, "--test", "raw/train.parquet", "--out", f"{name}.csv")
        outcome = run(*submit, "--scale", "natural")
        assert outcome.code == 0, outcome.err
        p[name] = pa_csv.read_csv(f"{name}.csv")["click"].to_numpy()
    logit = np.log(p["raw"] / (1 - p["raw"]))
    calibrated_mean = read_calibration(Path(overfitted)).calibrator.natural_logit(logit)
    difference = np.abs(np.log(p["stepped"] / (1 - p["stepped"])) - calibrated_mean)
    assert (difference > 0.1).mean() > 0.1


def test_an_ensemble_reads_calibrated_members_and_scores_with_them(overfitted: str, run: Run) -> None:
    assert run(*RANK, *MILD, "--out", "b").code == 0
    outcome = run("ensemble", "a", "b", "--out", "both", "--replicates", "100")
    assert outcome.code == 0, outcome.err
    metrics, members = metrics_of("both"), {name: metrics_of(name) for name in "ab"}
    assert metrics["members"]["a"] == members["a"]["overall"]
    assert set(metrics["method_by_fold"]) == {"0", "1", "2"}
    best = min(member["overall"]["wll"] for member in members.values())
    assert metrics["overall"]["wll"] < best + 0.03
    reported = read_predictions(Path("both"))
    assert measure(reported.label, reported.logits) == read_metrics(Path("both")).overall
    pq.write_table(small_table(1500, seed=9), "new.parquet")
    submit = ("submit", "--run", "both", "--test", "new.parquet", "--labels", "new.parquet", "--out", "s.csv")
    assert run(*submit).code == 0
    submitted = json.loads(Path("s.json").read_text())["metrics"]["by the labels"]
    assert submitted["wll"] == pytest.approx(metrics["overall"]["wll"], abs=0.05)


def as_earlier_version(run: Path) -> None:
    """Rewrites a run folder as earlier versions wrote it: uncalibrated, with the model's own logits."""
    table, metrics = pa_csv.read_csv(run / "oof.csv"), json.loads((run / "metrics.json").read_text())
    links = read_metrics(run).links
    shift = np.array([np.log(links[f"fold_{fold}"].trained_weight) for fold in table["fold"].to_pylist()])
    natural = table["raw_logit"].to_numpy()
    p = 1 / (1 + np.exp(-natural))
    columns = {"logit": (natural + shift).astype(np.float32), "p": p}
    old = {name: table[name] for name in ("row_id", "fold", "label")} | {k: pa.array(v) for k, v in columns.items()}
    pa_csv.write_csv(pa.table(old), run / "oof.csv")
    calibrator = json.loads((run / "calibration.json").read_text())["calibrator"]
    write_json(run / "calibration.json", calibrator)
    metrics["overall"] = metrics.pop("raw")
    metrics["calibration"] = {key: metrics["calibration"][key] for key in ("chosen", "fitted_on", "figures")}
    write_json(run / "metrics.json", metrics)
    seal(run)


def test_a_run_of_an_earlier_version_is_read_stacked_and_scored(overfitted: str, run: Run) -> None:
    assert run(*RANK, *MILD, "--out", "b").code == 0
    raw = read_predictions(Path("a")).predictions.raw
    assert run("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "before.csv").code == 0
    as_earlier_version(Path("a"))
    found = read_predictions(Path("a"))
    assert found.logits.natural == pytest.approx(raw.natural, abs=1e-5)
    assert np.array_equal(found.logits.natural, found.predictions.raw.natural)
    assert read_metrics(Path("a")).raw is None
    assert run("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "after.csv").code == 0
    before, after = (pa_csv.read_csv(f"{name}.csv")["click"].to_numpy() for name in ("before", "after"))
    assert np.array_equal(before, after)
    outcome = run("ensemble", "a", "b", "--out", "both", "--replicates", "100")
    assert outcome.code == 0, outcome.err
    assert run("compare", "a", "both", "--replicates", "100").code == 0
