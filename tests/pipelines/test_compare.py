import json
from pathlib import Path

import pytest

from recsys.system.seal import seal
from tests.helpers.commands import Run

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "dcnv2")


@pytest.fixture
def runs(project: Path, run: Run) -> tuple[Path, Path]:
    for name, settings in (("poor", ["trainer.epochs=1", "trainer.learning_rate=0.0001"]), ("good", [])):
        outcome = run(*RANK, "--out", name, *settings)
        assert outcome.code == 0, outcome.err
    return Path("poor"), Path("good")


def test_differences_join_by_id_and_agree_with_metrics(runs: tuple[Path, Path], run: Run) -> None:
    lines = Path("good/oof.csv").read_text().splitlines()
    Path("good/oof.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")  # another order, the same rows
    seal(Path("good"))
    outcome = run("compare", runs[0], runs[1], "--out", "differences.json")
    assert outcome.code == 0, outcome.err
    assert "2,000 shared rows" in outcome.out
    found = json.loads(Path("differences.json").read_text())["good"]
    for name in ("ap", "wll", "roc_auc", "logloss", "toss_score"):
        values = [json.loads((path / "metrics.json").read_text())["overall"][name] for path in runs]
        assert found[name]["first"] == pytest.approx(values[0], abs=1e-9)
        assert found[name]["second"] == pytest.approx(values[1], abs=1e-9)
    assert found["roc_auc"]["low"] > 0
    assert found["wll"]["high"] < 0


def test_runs_that_cannot_be_compared_are_refused(runs: tuple[Path, Path], run: Run) -> None:
    assert "needs at least two runs, got only" in run("compare", runs[0]).err
    assert "no-such is not a finished run" in run("compare", runs[0], "no-such").err
    text = Path("good/oof.csv").read_text()
    Path("good/oof.csv").write_text(text.replace("row-", "other-"))
    seal(Path("good"))
    outcome = run("compare", runs[0], runs[1])
    assert outcome.code == 2
    assert "poor, good share no row" in outcome.err
