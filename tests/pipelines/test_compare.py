import json
from pathlib import Path

import pytest

from recsys.system.seal import seal
from tests.helpers.commands import Run
from tests.pipelines.conftest import Kept

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "dcnv2")


@pytest.fixture
def runs(project: Path, run: Run, kept: Kept) -> tuple[Path, Path]:
    def train() -> None:
        poor = ["trainer.epochs=1", "trainer.learning_rate=0.0001", "model.linear_part=false"]
        for name, settings in (("poor", poor), ("good", [])):
            outcome = run(*RANK, "--out", name, *settings)
            assert outcome.code == 0, outcome.err

    kept(train)
    return Path("poor"), Path("good")


def test_differences_join_by_id_and_agree_with_metrics(runs: tuple[Path, Path], run: Run) -> None:
    lines = Path("good/oof.csv").read_text().splitlines()
    Path("good/oof.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")  # another order, the same rows
    seal(Path("good"))
    outcome = run("compare", runs[0], runs[1], "--out", "differences.json")
    assert outcome.code == 0, outcome.err
    assert "2,000 rows, 728 positives" in outcome.out
    assert "of these two fits" in outcome.out
    found = json.loads(Path("differences.json").read_text())["good"]["differences"]
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


def with_column(folder: Path, name: str, values: list[int]) -> None:
    """Adds a column to oof.csv."""
    header, *lines = (folder / "oof.csv").read_text().splitlines()
    lines = [f"{line},{value}" for line, value in zip(lines, values, strict=True)]
    (folder / "oof.csv").write_text("\n".join([f"{header},{name}", *lines]) + "\n")
    seal(folder)


def test_intervals_draw_users_where_they_are_known(runs: tuple[Path, Path], run: Run) -> None:
    assert "no column user" in run("compare", *runs, "--by", "user").err
    assert "has no column user" in run("ensemble", *runs, "--out", "both", "--metric", "gauc").err
    for folder in runs:
        with_column(folder, "user", [row % 40 for row in range(2000)])
        with_column(folder, "day", [row % 7 for row in range(2000)])
    found = {}
    for by in ("user", "day", "row"):
        outcome = run("compare", *runs, "--by", by, "--out", f"{by}.json")
        assert outcome.code == 0, outcome.err
        found[by] = json.loads(Path(f"{by}.json").read_text())["good"]
    assert [found[by]["n_clusters"] for by in ("user", "day", "row")] == [40, 7, 2000]
    outcome = run("compare", *runs)
    assert "2,000 rows, 728 positives, 40 users" in outcome.out
    assert "95 % interval, by user" in outcome.out
    assert "GAUC" in outcome.out
    assert ("gauc" in found["user"]["differences"], "gauc" in found["row"]["differences"]) == (True, False)
    assert "rough intervals, from 40 users" in outcome.out
    assert "GAUC" in run("ensemble", *runs, "--out", "both", "--metric", "gauc", "--replicates", "100").out
    gain = json.loads(Path("both/metrics.json").read_text())["gain"]
    assert (gain["by"], gain["n_clusters"]) == ("user", 40)


def test_runs_joined_by_commas_are_seeds_of_one_model(runs: tuple[Path, Path], run: Run) -> None:
    outcome = run(*RANK, "--out", "other", "trainer.seed=7")
    assert outcome.code == 0, outcome.err
    outcome = run("compare", "poor", "good,other", "--out", "seeds.json")
    assert outcome.code == 0, outcome.err
    found = json.loads(Path("seeds.json").read_text())["good"]
    aps = [json.loads(Path(name, "metrics.json").read_text())["overall"]["ap"] for name in ("good", "other")]
    assert found["differences"]["ap"]["second"] == pytest.approx(sum(aps) / 2, abs=1e-9)
    assert found["n_seeds"] == [1, 2]
    assert "the seeds of one model (2 fits)" in outcome.out
    assert "named twice" in run("compare", "poor", "good,good").err


def test_seeds_of_a_run_are_those_of_several_runs(project: Path, run: Run) -> None:
    trees = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "gbdt", "--folds", "0", "model.n_trees=10")
    bagged = "model.bagging_fraction=0.5"
    for out, settings in {
        "both": ("trainer.seeds=2", bagged),
        "one": ("trainer.seed=0", bagged),
        "two": ("trainer.seed=1", bagged),
        "base": ("model.learning_rate=0.3",),
    }.items():
        assert run(*trees, "--out", out, *settings).code == 0
    assert run("compare", "base", "both", "--replicates", "100", "--out", "run.json").code == 0
    assert run("compare", "base", "one,two", "--replicates", "100", "--out", "runs.json").code == 0
    (of_run,), (of_runs,) = (json.loads(Path(name).read_text()).values() for name in ("run.json", "runs.json"))
    assert of_run["n_seeds"] == of_runs["n_seeds"] == [1, 2]
    assert of_run["differences"]["ap"]["second"] == pytest.approx(of_runs["differences"]["ap"]["second"], rel=0.02)
