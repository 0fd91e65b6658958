"""--quiet and --json: results as JSON on standard output, and nothing else there."""

import json
from pathlib import Path

import pytest

from tests.helpers.commands import Run

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "dcnv2", "trainer.epochs=1")


@pytest.fixture
def runs(project: Path, run: Run) -> Path:
    for name in ("a", "b"):
        quiet = run(*RANK, "--out", name, "--quiet", f"trainer.seed={ord(name)}")
        assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    return project


def test_results_as_json(runs: Path, run: Run) -> None:
    rank = run(*RANK, "--out", "a", "--json", "trainer.seed=97")
    assert json.loads(rank.out) == json.loads((runs / "a/metrics.json").read_text())
    assert "run folder: a" in rank.err
    compared = json.loads(run("compare", "a", "b", "--replicates", "100", "--json").out)
    assert compared["b"]["differences"]["roc_auc"]["low"] < compared["b"]["differences"]["roc_auc"]["high"]
    ensemble = run("ensemble", "a", "b", "--out", "both", "--json", "--quiet", "--replicates", "100")
    assert json.loads(ensemble.out)["method"]
    assert ensemble.err == ""
    submit = run("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "scores.csv", "--json")
    assert json.loads(submit.out)["n_rows"] == 2000


def test_errors_are_printed_in_quiet(project: Path, run: Run) -> None:
    refused = run(*RANK, "--out", "a", "--quiet", "--json", "trainer.epoch=1")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: ")
    after = run(*RANK, "--out", "a")
    assert "run folder: a" in after.out, "the options hold for one command"


def test_a_command_without_results_has_no_json(project: Path, run: Run) -> None:
    refused = run("prepare", "--config", "config.yaml", "--train", "raw", "--json")
    assert refused.code == 2
    assert "--json" in refused.err
