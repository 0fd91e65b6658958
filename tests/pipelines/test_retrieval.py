"""`pipelines.retrieval` from raw rows to a run folder, and its use in ranking."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.retrieval import index_metrics
from recsys.data.dataset import PreparedDataset
from retrieval.config import IndexConfig
from retrieval.index import build_index
from tests.helpers.commands import Run
from tests.helpers.small import SMALL_SCHEMA
from tests.helpers.towers import tower_schema, tower_table

GIVEN = ("retrieval", "--config", "config.yaml", "--data", "raw")
RANK = ("rank", "--model", "dcnv2", "--config", "config.yaml", "--data", "raw", "--folds", "holdout")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with raw/train.parquet and a config.yaml of tiny models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    pq.write_table(tower_table(4000), tmp_path / "raw" / "train.parquet")
    config = {
        "name": "shops",
        "files": {"train": ["train.parquet"]},
        "schema": SMALL_SCHEMA | tower_schema(),
        "prepare": {"min_count": 3, "n_folds": 4},
        "models": {"dcnv2": {"model": {"embedding_dim": 4, "hidden_dims": [16]}}},
        "trainer": {"epochs": 2, "batch_size": 200, "learning_rate": 0.01},
        "retrieval": {
            "half_life_days": 3,
            "model": {"embedding_dim": 8, "output_dim": 8, "user_hidden_dims": [16], "item_hidden_dims": [16]},
            "trainer": {"epochs": 4, "batch_size": 200, "learning_rate": 0.01, "loss": {"impressions": "positive"}},
            "candidates": 10,
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_a_run_from_end_to_end(project: Path, run: Run) -> None:
    outcome = run(*GIVEN, "--out", "found")
    assert outcome.code == 0, outcome.err
    assert "two_tower" in outcome.out
    assert "run folder: found" in outcome.out
    files = {path.name for path in (project / "found").iterdir()}
    assert {"config.yaml", "metrics.json", "ckpt", "tensorboard", "index.faiss", "index.json", "candidates.parquet",
            "ranks.parquet", "scores.parquet", "recall.png", "segments.png", "DONE"} == files  # fmt: skip

    metrics = json.loads((project / "found/metrics.json").read_text())
    ours, popularity, random = (metrics[name] for name in ("two_tower", "popularity", "random"))
    assert ours["recall@10"] > popularity["recall@10"] + 0.03 > random["recall@10"] + 0.2
    assert ours["mrr"] > popularity["mrr"] + 0.03
    n_items = metrics["data"]["n_items"]
    assert n_items < 100
    assert metrics["index"][f"ann_recall@{n_items - 1}"] == 1.0
    assert metrics["segments"]["user"]["returning"]["two_tower"]["recall@10"] > 0.5
    assert metrics["train"]["rows_per_s"] > 0

    candidates = pq.read_table(project / "found/candidates.parquet")
    assert candidates.column_names == ["row_id", "rank", "item", "score"]
    raw = {row["id"]: row for row in pq.read_table(project / "raw/train.parquet").to_pylist()}
    mine = candidates.to_pylist()
    assert {raw[row["row_id"]]["day"] for row in mine} == {7}
    assert all(raw[row["row_id"]]["click"] == 1 for row in mine)
    assert [row["rank"] for row in mine[:10]] == list(range(1, 11))
    hits = {row["row_id"] for row in mine if row["item"] == str(raw[row["row_id"]]["shop"])}
    n_requests = metrics["data"]["n_requests"]
    assert len(hits) / n_requests == pytest.approx(ours["recall@10"])
    assert len(mine) == 10 * n_requests

    again = run(*GIVEN, "--out", "found")  # a finished run prints its table
    assert again.code == 0
    assert "epoch" not in again.out


def test_scores_come_from_towers_not_fitted_to_the_row(project: Path, run: Run) -> None:
    """Flipped labels of one part's rows do not change the scores of that part."""
    assert run(*GIVEN, "--out", "a", "trainer.epochs=1").code == 0
    scores = pq.read_table(project / "a/scores.parquet")
    assert scores.column_names == ["row_id", "score"]
    assert sorted(scores["row_id"].to_pylist()) == sorted(f"row-{i}" for i in range(4000))

    (prepared,) = (project / "prepared").iterdir()
    dataset = PreparedDataset.open(prepared)
    mine, _ = dataset.fit_rows_by_part("holdout", 0, 2)
    part = mine.numbers()
    # Flips the part's labels: no tower that scores the part is fitted to them.
    table = tower_table(4000)
    label = table["click"].to_numpy().copy()
    label[part] = 1 - label[part]
    pq.write_table(table.set_column(table.column_names.index("click"), "click", pa.array(label)), "raw/train.parquet")
    assert run(*GIVEN, "--out", "b", "trainer.epochs=1", "trainer.loss.impressions=ignore").code == 0
    assert run(*GIVEN, "--out", "c", "trainer.epochs=1").code == 0
    found = {
        name: dict(zip(t["row_id"].to_pylist(), t["score"].to_pylist(), strict=True))
        for name, t in ((n, pq.read_table(project / n / "scores.parquet")) for n in "abc")
    }
    names = [f"row-{row}" for row in part]
    assert [found["a"][name] for name in names] == [found["c"][name] for name in names]
    assert [found["a"][name] for name in names] != [found["b"][name] for name in names]


def test_score_is_a_feature_of_a_ranking_model(project: Path, run: Run) -> None:
    assert run(*GIVEN, "--out", "found", "trainer.epochs=1").code == 0
    for model in ("dcnv2", "gbdt"):
        outcome = run(*RANK[:2], model, *RANK[3:], "--score-feature", "found", "--out", model)
        assert outcome.code == 0, outcome.err
        assert "features" in yaml.safe_load((project / model / "config.yaml").read_text())
    refused = run("submit", "--run", "dcnv2", "--test", "raw/train.parquet", "--out", "s.csv")
    assert refused.code == 2
    assert "reads the scores of a retrieval run, which only the test rows of" in refused.err

    folds = run(*RANK[:-1], "0", "--score-feature", "found", "--out", "folds")
    assert folds.code == 2
    assert "found was fitted on split 'holdout', so its scores leak rows that fold_0" in folds.err
    table = pq.read_table(project / "found/scores.parquet")
    pq.write_table(table.slice(5), project / "found/scores.parquet")
    missing = run(*RANK, "--score-feature", "found", "--out", "other")
    assert missing.code == 2
    assert "scores.parquet has no value for 5 rows of split 'holdout', such as row-" in missing.err
    assert run(*RANK, "--score-feature", "dcnv2", "--out", "other").code == 2
    pq.write_table(table.replace_schema_metadata({"data": "7 rows, 1 clicks"}), project / "found/scores.parquet")
    other = run(*RANK, "--score-feature", "found", "--out", "other")
    assert "has scores of other data (7 rows, 1 clicks)" in other.err


def test_candidates_are_reranked_by_a_ranking_run(project: Path, run: Run) -> None:
    assert run(*RANK, "--out", "ranker").code == 0
    outcome = run(*GIVEN, "--reranker", "ranker", "--out", "found", "score_parts=null")
    assert outcome.code == 0, outcome.err
    assert "reranked" in outcome.out
    metrics = json.loads((project / "found/metrics.json").read_text())
    assert metrics["reranked"]["recall@10"] == pytest.approx(metrics["two_tower"]["recall@10"])  # same items
    gains = {(gain["ranking"], gain["metric"]): gain for gain in metrics["gains_of_reranking"]}
    gain = gains["reranked", "ndcg@10"]["difference"]
    assert gain["first"] == pytest.approx(metrics["two_tower"]["ndcg@10"])
    assert gain["second"] == pytest.approx(metrics["reranked"]["ndcg@10"])
    assert gain["low"] <= gain["difference"] <= gain["high"]
    assert gains["reranked_jointly", "mrr"]["difference"]["second"] == pytest.approx(metrics["reranked_jointly"]["mrr"])
    assert "ndcg@10 of reranked over the towers' order: " in outcome.out
    table = pq.read_table(project / "found/reranked.parquet").to_pylist()
    assert set(table[0]) == {"row_id", "rank", "item", "score", "logit"}
    # A request paired with the item of its row has the logit of the row if its item columns are the item's usual ones.
    oof = pa_csv.read_csv("ranker/oof.csv").to_pylist()
    logit = {row["row_id"]: np.log(row["p"] / (1 - row["p"])) for row in oof}
    raw = {row["id"]: row for row in pq.read_table(project / "raw/train.parquet").to_pylist()}
    pairs = [row for row in table if row["item"] == str(raw[row["row_id"]]["shop"])]
    assert len(pairs) > 50
    difference = [row["logit"] - logit[row["row_id"]] for row in pairs]
    assert np.abs(difference).max() < 0.05  # bf16 rounding depends on the batch

    assert run(*RANK[:-1], "0", "--out", "fold").code == 0
    refused = run(*GIVEN, "--reranker", "fold", "--out", "refused")
    assert refused.code == 2
    assert "was fitted on fold_0, but --reranker needs a run fitted on holdout" in refused.err


def test_killed_run_resumes_without_training_again(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import retrieval

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(retrieval, "build_index", dies)
    assert run(*GIVEN, "--out", "found").code == 130
    monkeypatch.undo()
    monkeypatch.chdir(project)
    again = run(*GIVEN, "--out", "found")
    assert again.code == 0, again.err
    assert "holdout  is already trained" in again.out
    assert run(*GIVEN, "--out", "whole").code == 0
    one, other = (json.loads((project / name / "metrics.json").read_text()) for name in ("found", "whole"))
    assert one["two_tower"] == other["two_tower"]
    assert pq.read_table("found/scores.parquet").equals(pq.read_table("whole/scores.parquet"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "full"), "has no valid or test rows with labels"),
        (("--split", "fold_9"), "--split fold_9: "),
        (("model.poling=mean",), "unknown key 'model.poling'; did you mean 'model.pooling'"),
        (("models.dcnv2.trainer.epochs=1",), "'models' is not a setting of a retrieval run"),
        (
            ("model.pooling=causal", "score_parts=null"),
            "needs one sequence of towers.user that shares the table of 'shop'",
        ),
        (("trainer.loss.full_catalog=true", "trainer.loss.uniform_negatives=3"), "'uniform_negatives' has no effect"),
        (("model.pooling=causal", "score_parts=2"), "set score_parts=null"),
        (("positives=all", "trainer.loss={name: logistic, impressions: ignore}"), "set positives=clicked"),
        (("--reranker", "nothing"), "nothing is not a finished run"),
        (("exclude=seen",), "exclude=seen needs a history of the target item"),
        (("exclude=table",), "exclude=table and exclude_table belong together"),
        (
            ("trainer.loss={name: gbce, uniform_negatives: 5, impressions: ignore}", "score_parts=null"),
            "name=gbce needs a sequential pooling",
        ),
        (("trainer.loss.batch_negatives=5", "score_parts=null"), "batch_negatives needs a sequential pooling"),
    ],
)
def test_bad_input(project: Path, run: Run, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(*GIVEN, "--out", "found", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_the_logistic_baseline_and_hard_negatives(project: Path, run: Run) -> None:
    quick = ("score_parts=null", "trainer.epochs=1")
    outcome = run(*GIVEN, "--out", "a", *quick, "trainer.loss={name: logistic, impressions: ignore}")
    assert outcome.code == 0, outcome.err
    settings = "impressions: negative, impressions_per_positive: 1, impression_weight: 0.2, uniform_negatives: 8"
    loss = f"trainer.loss={{{settings}}}"
    outcome = run(*GIVEN, "--out", "b", *quick, loss)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(("n_items", "recall_at"), [(1, 1), (7, 6), (500, 100)])
def test_the_index_is_measured_below_the_number_of_items(n_items: int, recall_at: int) -> None:
    """The recall of all items is one for any index."""
    vectors = np.random.default_rng(0).normal(size=(n_items, 4)).astype(np.float32)
    metrics = index_metrics(build_index(vectors, IndexConfig(kind="flat")), vectors, vectors, n_bytes=1)
    assert (metrics.recall_at, metrics.ann_recall) == (recall_at, 1.0)
