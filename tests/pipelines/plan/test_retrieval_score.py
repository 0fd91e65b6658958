"""A plan that adopts the retrieval score: its final model reads the score, and scores the prepared test rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys.data.dataset import PreparedDataset
from tests.helpers.commands import Run
from tests.helpers.plan_project import make_project

PLAN = """
name: with-score
config: config.yaml
set: [trainer.epochs=1]
reference: dcnv2
bootstrap: {replicates: 100}
steps:
  - {step: 1, do: rank, name: dcnv2, model: dcnv2, evaluate_on: [folds, holdout]}
  - {step: 2, do: retrieval, name: towers,
     set: [trainer.epochs=1, score_parts=2, model.embedding_dim=4, model.output_dim=4]}
  - {step: 2, do: rank, name: scored, model: dcnv2, features_of: towers, evaluate_on: [holdout]}
  - {step: 2, do: gate, gate: E}
  - {step: 3, do: final, name: final, best_of: [dcnv2], evaluate_on: folds}
gates:
  E: {kind: retrieval, retrieval: towers, recall_at: 10, recall_gain: -1, recall_interval: reported,
      candidate: scored, baselines: [dcnv2], any_of: [{metric: ap, gain: -1, interval: reported}]}
"""


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())


def test_an_adopted_score_is_read_by_the_final_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(PLAN)
    planned = run("plan", "--config", "plan.yaml", "--data", "raw", "--out", "out")
    assert planned.code == 0, planned.err
    assert read(Path("out/gates/E.json"))["outcome"] == "adopt"
    final = read(Path("out/3-final/metrics.json"))
    (member,) = map(Path, final["member_folders"].values())
    section = read(member / "config.yaml")["run"]
    assert (member.name, section["splits"]) == ("3-final-scored", ["full"])
    assert Path(section["score_feature"]["run"]).name == "3-final-towers"
    assert "read the retrieval score: the prepared test rows are scored" in planned.out
    assert "dcnv2 read the retrieval score" in Path("out/report.html").read_text()

    # every training row and every test row has a score
    (prepared,) = Path("prepared").iterdir()
    dataset = PreparedDataset.open(prepared)
    scores = pq.read_table("out/3-final-towers/scores.parquet")
    all_ids = dataset.store.row_ids(np.arange(dataset.n_rows)).to_pylist()
    assert set(scores["row_id"].to_pylist()) == set(map(str, all_ids))
    assert np.isfinite(scores["score"].to_numpy()).all()

    # submitted again, the prepared rows give the same file; other files are refused, as they have no scores
    again = run("submit", "--run", "out", "--out", "again.csv")
    assert again.code == 0, again.err
    assert Path("again.csv").read_bytes() == Path("out/submission.csv").read_bytes()
    refused = run("submit", "--run", "out", "--test", "raw/test.parquet", "--out", "new.csv")
    assert refused.code == 2
    assert "which only the test rows of" in refused.err
    assert not Path("new.csv").exists()

    # the scores decide: the same model on other scores gives other predictions, so that they are refused
    changed = scores.set_column(1, scores.schema.field(1), pa.array(scores["score"].to_numpy() + 1))
    pq.write_table(changed, "out/3-final-towers/scores.parquet")
    stale = run("submit", "--run", "out", "--out", "stale.csv")
    assert stale.code == 2
    assert "has other scores than those that" in stale.err or "was modified" in stale.err


def test_a_holdout_run_with_scores_scores_the_test_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    towers = ("--config", "config.yaml", "--data", "raw", "--out", "towers")
    tiny = ("score_parts=2", "trainer.epochs=1", "model.embedding_dim=4", "model.output_dim=4")
    assert run("retrieval", *towers, *tiny).code == 0
    ranked = run(
        *("rank", "--config", "config.yaml", "--data", "raw", "--model", "dcnv2", "--folds", "holdout"),
        *("--score-feature", "towers", "--out", "scored", "trainer.epochs=1"),
    )
    assert ranked.code == 0, ranked.err
    submitted = run("submit", "--run", "scored", "--out", "submission.csv")
    assert submitted.code == 0, submitted.err
    assert len(Path("submission.csv").read_text().splitlines()) == 501
