"""Runs whose prepared data was moved or replaced: one line that names the folder, and --data takes its new place."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers.commands import Run
from tests.helpers.small import small_table
from tests.pipelines.test_bad_input import refused

GBDT = ("--model", "gbdt", "model.n_trees=20", "model.min_data_in_leaf=20")


@pytest.fixture
def moved(project: Path, run: Run) -> Path:
    """A run on prepared data with test rows, whose prepared data and test file were then moved."""
    table = small_table(60, seed=3)
    pq.write_table(table.drop_columns(["click", "day"]), "test.parquet")
    assert run("prepare", "--config", "config.yaml", "--train", "raw", "--test", "test.parquet", "--out", "p").code == 0
    found = run("rank", "--config", "config.yaml", "--data", "p", "--folds", "0", "--out", "a", *GBDT)
    assert found.code == 0, found.err
    shutil.move("p", "q")
    shutil.move("test.parquet", "moved.parquet")
    return project


def test_a_run_names_its_missing_data_and_takes_its_new_place(moved: Path, run: Run) -> None:
    missing = f"{moved / 'p'}, the prepared data of "
    again = ("rank", "--config", "a/config.yaml", "--out", "b")
    refused(run(*again), f"{missing}the run, is missing: pass its new place with --data")
    assert run(*again, "--data", "q").code == 0
    scored = ("submit", "--run", "a", "--out", "s.csv")
    refused(run(*scored), f"{missing}a, is missing: pass its new place with --data")
    refused(run(*scored, "--data", "raw"), "--data raw is not a prepared data set")
    assert run(*scored, "--data", "q").code == 0
    assert run("submit", "--run", "a", "--out", "t.csv", "--data", "q", "--test", "moved.parquet").code == 0
    assert Path("s.csv").read_text() == Path("t.csv").read_text()
    refused(run("sweep", "--config", "a/config.yaml", *GBDT[:2], "model.n_trees=2,3"), f"{missing}the run, is missing")


def test_a_folder_that_holds_other_data_is_refused(moved: Path, run: Run) -> None:
    pq.write_table(small_table(seed=1), "raw/train.parquet")
    assert run("prepare", "--config", "config.yaml", "--train", "raw", "--out", "p").code == 0
    refused(run("rank", "--config", "a/config.yaml", "--out", "b"), "no longer holds the data that the run was trained")
    refused(run("submit", "--run", "a", "--test", "moved.parquet", "--out", "s.csv"), "a was not trained on")


def test_a_missing_source_of_scores_is_named(moved: Path, run: Run) -> None:
    text = Path("a/config.yaml").read_text()
    Path("c.yaml").write_text(text + "  score_feature: {run: gone, fingerprint: x}\n")
    refused(
        run("rank", "--config", "c.yaml", "--data", "q", "--out", "b"),
        "gone, the retrieval run of c.yaml, is missing: pass its new place with --score-feature",
    )
    Path("c.yaml").write_text(text + "  reranker: gone\n")
    roles = ("schema.target_item=shop", "schema.towers={user: [seen], item: [shop]}")
    refused(
        run("retrieval", "--config", "c.yaml", "--data", "raw", "--split", "fold_0", "--out", "b", *roles),
        "gone, the --reranker of c.yaml, is missing: pass its new place with --reranker",
    )


def test_a_run_of_another_kind_is_named(moved: Path, run: Run) -> None:
    metrics = json.loads(Path("a/metrics.json").read_text())
    del metrics["overall"]
    Path("a/metrics.json").write_text(json.dumps(metrics))
    shutil.copytree("a", "other")
    Path("other/DONE").unlink()
    from recsys.system.seal import seal

    seal(Path("other"))
    refused(run("submit", "--run", "other", "--out", "s.csv"), "has no 'overall': other is a run of another kind")
