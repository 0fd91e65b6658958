import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from recsys.runs.predictions import read_predictions
from tests.helpers.commands import Run

SETTINGS = {
    "gbdt": ("model.n_trees=40", "model.min_data_in_leaf=20", "model.min_data_per_group=20"),
    "dcnv2": ("model.embedding_dim=4",),
}


def train(run: Run, model: str, out: str, *settings: str) -> None:
    outcome = run("rank", "--config", "config.yaml", "--data", "raw", "--model", model, "--out", out, *settings)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("model", SETTINGS)
def test_only_the_columns_that_clicks_depend_on_are_worth_something(project: Path, run: Run, model: str) -> None:
    train(run, model, "runs/a", *SETTINGS[model])
    outcome = run("importance", "--run", "runs/a", "--repeats", "2")
    assert outcome.code == 0, outcome.err
    found = json.loads(Path("runs/a/importance.json").read_text())
    assert Path("runs/a/importance.png").stat().st_size > 1000
    assert found["n_rows"] == 2000
    label, raw = (read_predictions(Path("runs/a")).label, read_predictions(Path("runs/a")).predictions.raw.natural)
    logloss = np.logaddexp(0, np.where(label == 1, -raw, raw)).mean()  # of the run's own file, not of this command
    assert found["metrics"]["logloss"] == pytest.approx(logloss, abs=1e-6)
    losses = {one["name"]: one["losses"]["logloss"] for one in found["features"]}
    assert {name for name, loss in losses.items() if loss["low"] > 0} - {"steps"} == {"color", "x_1"}
    assert found["features"][0]["name"] in ("x_1", "steps")
    groups = {one["name"]: one for one in found["groups"]}
    assert set(groups["x_*"]["features"]) == {"x_1", "x_2", "x_10"}
    assert groups["x_*"]["losses"]["ap"]["low"] > 0
    seen = next(one for one in found["features"] if one["name"] == "seen")
    assert seen["is_read"] is (model == "dcnv2")
    assert "color" in outcome.out


def test_encodings_are_permuted_with_their_feature_and_as_a_group(project: Path, run: Run) -> None:
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["schema"]["encodings"] = {"color": ["ctr"], "color*shop": ["ctr"]}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    train(run, "gbdt", "a", *SETTINGS["gbdt"], "features.leave_out=[color]")
    outcome = run("importance", "--run", "a", "--out", "found.json")
    assert outcome.code == 0, outcome.err
    found = json.loads(Path("found.json").read_text())
    features = {one["name"]: one for one in found["features"]}
    groups = {one["name"]: one["losses"]["logloss"] for one in found["groups"]}
    assert features["color*shop"]["is_read"]
    assert features["color"]["losses"]["logloss"]["low"] > 0  # by its encoding alone: the model reads no id of it
    assert groups["encodings"]["low"] > 0


def test_repeats_and_samples_are_the_same_for_a_seed_and_work_for_ensembles(project: Path, run: Run) -> None:
    for model in SETTINGS:
        train(run, model, f"runs/{model}", *SETTINGS[model])
    assert run("ensemble", *(f"runs/{model}" for model in SETTINGS), "--out", "runs/both").code == 0
    args = ("importance", "--run", "runs/both", "--n-rows", "900", "--by", "feature", "--metric", "ap")
    for out, seed in (("a.json", "0"), ("b.json", "0"), ("c.json", "1")):
        outcome = run(*args, "--out", out, "--seed", seed)
        assert outcome.code == 0, outcome.err
    found = json.loads(Path("a.json").read_text())
    assert Path("a.json").read_text() == Path("b.json").read_text() != Path("c.json").read_text()
    assert abs(found["n_rows"] - 900) <= 3
    assert found["groups"] == []
    losses = [one["losses"]["ap"]["loss"] for one in found["features"]]
    assert losses == sorted(losses, reverse=True)
    assert {one["name"] for one in found["features"] if one["losses"]["ap"]["low"] > 0} >= {"color", "x_1"}


def test_runs_without_held_out_rows_and_unknown_users_are_refused(project: Path, run: Run) -> None:
    train(run, "gbdt", "a", "--folds", "full", *SETTINGS["gbdt"])
    outcome = run("importance", "--run", "a")
    assert (outcome.code, "no labeled rows that models of the splits full" in outcome.err) == (2, True)
    train(run, "gbdt", "b", "--folds", "0", *SETTINGS["gbdt"])
    outcome = run("importance", "--run", "b", "--draw", "user")
    assert (outcome.code, "has no column user" in outcome.err) == (2, True)
