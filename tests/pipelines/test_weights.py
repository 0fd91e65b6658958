"""Weights and sampled negatives from the raw files to submissions."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import average_precision_score, log_loss

from tests.helpers.commands import Run, read_oof
from tests.helpers.small import small_table

N = 60_000
TREES = ("rank", "--model", "gbdt", "--folds", "0,1", "model.n_trees=60", "model.learning_rate=0.2")
LABELS = ("--labels", "labels.parquet")


@pytest.fixture
def sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[pa.Table, np.ndarray]:
    """A log that lost most negatives, at a rate of 0.1, and its full log (test.parquet) with the true probabilities."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 8, N), rng.integers(0, 5, N)
    p = 1 / (1 + np.exp(4.5 - 0.4 * a - 0.3 * b))
    label = (rng.random(N) < p).astype(np.int8)
    full = pa.table({"a": a, "b": b, "click": label, "kept_at": np.where(b < 2, 0.1, 0.3)})
    (tmp_path / "raw").mkdir()
    draws = rng.random(N)
    pq.write_table(full.filter((label == 1) | (draws < 0.1)).drop_columns(["kept_at"]), "raw/train.parquet")
    (tmp_path / "mixed").mkdir()
    pq.write_table(full.filter((label == 1) | (draws < full["kept_at"].to_numpy())), "mixed/train.parquet")
    pq.write_table(full.select(["a", "b"]), "test.parquet")
    pq.write_table(pa.table({"row_in_split": np.arange(N), "click": label}), "labels.parquet")
    return full, p


def write_config(name: str, schema: dict, prepare: dict) -> None:
    config = {
        "name": name,
        "files": {"train": ["train.parquet"]},
        "schema": {"label": "click", "categorical": ["a"], "numeric": ["b"]} | schema,
        "prepare": {"min_count": 1, "n_folds": 3} | prepare,
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("kind", ["rate", "base_rate", "rate_of_each_row"])
def test_p_is_calibrated_on_the_full_log(sampled: tuple[pa.Table, np.ndarray], run: Run, kind: str) -> None:
    full, true_p = sampled
    label = full["click"].to_numpy()
    schema, prepare, data = {
        "rate": ({"sampling_rate": 0.1}, {}, "raw"),
        "base_rate": ({}, {"true_base_rate": float(label.mean())}, "raw"),
        "rate_of_each_row": ({"sampling_rate": "kept_at"}, {}, "mixed"),
    }[kind]
    write_config(kind, schema, prepare)
    outcome = run(*TREES, "--config", f"{kind}.yaml", "--data", data, "--out", kind)
    assert outcome.code == 0, outcome.err
    printed = " ".join(outcome.out.split())
    if kind == "rate_of_each_row":
        assert "of equal weight (effective sample size)" in printed
    else:
        assert "log loss and ECE are those of the full log; of the sample: AP" in printed

    out = f"{kind}.csv"
    scored = run("submit", "--run", kind, "--test", "test.parquet", "--out", out, "--scale", "natural", *LABELS)
    assert scored.code == 0, scored.err
    note = "estimated by the run: 10 % of the negatives are in the data: p, log loss"
    assert (note in " ".join(scored.out.split())) == (kind == "rate")
    p = pa_csv.read_csv(out)["click"].to_numpy()
    assert p.mean() == pytest.approx(label.mean(), rel=0.06)
    for group in range(5):  # also within each value of a column, whose rates differ in the third case
        in_group = full["b"].to_numpy() == group
        assert p[in_group].mean() == pytest.approx(true_p[in_group].mean(), rel=0.15)
    metrics = json.loads(Path(f"{kind}.json").read_text())["metrics"]
    assert metrics["by the labels"]["logloss"] == pytest.approx(log_loss(label, p))  # the full log, unweighted
    assert metrics["estimated by the run"]["logloss"] == pytest.approx(log_loss(label, p), rel=0.06)

    rows = read_oof(Path(kind))
    y, oof_p = (np.array([float(row[key]) for row in rows]) for key in ("label", "p"))
    weight = np.array([float(row.get("weight", 1 if row["label"] == "1" else 10)) for row in rows])
    measured = json.loads(Path(kind, "metrics.json").read_text())
    overall, baselines = measured["overall"], measured["baselines"]
    constant = log_loss(y, np.full(len(y), label.mean()), sample_weight=weight)
    assert baselines["constant rate"]["logloss"] == pytest.approx(constant, rel=0.05)
    assert baselines["logistic regression"]["logloss"] == pytest.approx(overall["logloss"], rel=0.05)
    if kind != "base_rate":
        assert overall["logloss"] == pytest.approx(log_loss(y, oof_p, sample_weight=weight), rel=1e-5)
    sample_weight = weight if kind == "rate_of_each_row" else None
    assert overall["ap"] == pytest.approx(average_precision_score(y, oof_p, sample_weight=sample_weight))


def test_weighted_runs_are_compared_and_stacked(project: Path, run: Run) -> None:
    weight = np.random.default_rng(0).integers(0, 4, 2000)
    pq.write_table(small_table().append_column("w", [weight]), project / "raw/train.parquet")
    config = yaml.safe_load((project / "config.yaml").read_text())
    config["schema"]["weight"] = {"column": "w", "max": 2}
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    clipped = np.minimum(weight, 2)
    for name, model in (("a", ["dcnv2"]), ("b", ["gbdt", "model.n_trees=60", "trainer.trees_per_epoch=20"])):
        outcome = run("rank", "--config", "config.yaml", "--data", "raw", "--out", name, "--model", *model)
        assert outcome.code == 0, outcome.err
        rows = read_oof(Path(name))
        by_id = {row["row_id"]: float(row["weight"]) for row in rows}
        assert [by_id[f"row-{i}"] for i in range(2000)] == clipped.tolist()
        y, p, w = (np.array([float(row[key]) for row in rows]) for key in ("label", "p", "weight"))
        metrics = json.loads(Path(name, "metrics.json").read_text())
        assert metrics["overall"]["logloss"] == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-5)
        assert metrics["overall"]["n_effective"] == pytest.approx(w.sum() ** 2 / (w**2).sum())
        assert metrics["overall"]["n_rows"] == 2000
        assert metrics["calibration"]["figures"]["none"]["n_effective"] == metrics["overall"]["n_effective"]
    assert run("compare", "a", "b", "--replicates", "100", "--out", "differences.json").code == 0
    differences = json.loads(Path("differences.json").read_text())["b"]["differences"]
    assert differences["logloss"]["second"] == pytest.approx(metrics["overall"]["logloss"])
    assert run("ensemble", "a", "b", "--out", "both", "--replicates", "100").code == 0
    both = json.loads(Path("both/metrics.json").read_text())
    y, p, w = (np.array([float(row[key]) for row in read_oof(Path("both"))]) for key in ("label", "p", "weight"))
    assert both["overall"]["logloss"] == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-5)
    assert run("compare", "a", "both", "--replicates", "100").code == 0

    config["schema"]["weight"] = "w"
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    assert run("rank", "--config", "config.yaml", "--data", "raw", "--out", "c", "--model", "gbdt").code == 0
    refused = run("compare", "a", "c", "--replicates", "100")
    assert refused.code == 2
    assert "different weights or sampling rates for the same rows" in " ".join(refused.err.split())
