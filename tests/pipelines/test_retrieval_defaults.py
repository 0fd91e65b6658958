"""Retrieval of a log of positives without a label, by a config that names columns only."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.helpers.commands import Run
from tests.helpers.small import SMALL_SCHEMA
from tests.helpers.towers import tower_schema, tower_table

GIVEN = ("retrieval", "--config", "config.yaml", "--data", "raw")
N_FILMS = 30


def film_table(n_users: int = 300) -> pa.Table:
    """Users who see each film at most once; film f + 1 follows film f, except that every fifth step is a jump."""
    rng = np.random.default_rng(0)
    users, films = [], []
    for user in range(n_users):
        film, seen = int(rng.integers(0, N_FILMS)), []
        while len(seen) < rng.integers(5, 12) or len(seen) < 5:
            if film not in seen:
                seen.append(film)
            film = int(rng.integers(0, N_FILMS)) if rng.random() < 0.2 else (film + 1) % N_FILMS
        users += [user] * len(seen)
        films += seen
    return pa.table({"user": users, "film": films, "time": np.arange(len(users))})


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    pq.write_table(film_table(), tmp_path / "raw" / "log.parquet")
    config = {
        "name": "films",
        "files": {"train": ["log.parquet"]},
        "schema": {
            "split": {"key": "user", "order": "time"},
            "categorical": ["user", "film"],
            "sequences": {"seen": {"kind": "log", "key": "user", "item": "film", "order": "time"}},
            "target_item": "film",
            "towers": {"user": ["seen"], "item": ["film"]},
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_a_log_without_a_label(films: Path, run: Run) -> None:
    """All rows are positives; transitions know the next film, and popularity does not."""
    outcome = run(*GIVEN, "--out", "found", "trainer.epochs=2")
    assert outcome.code == 0, outcome.err
    assert "2 epochs of" in outcome.out
    assert "causal pooling, negatives: all items" in outcome.out
    assert "recall@50" not in outcome.out  # of 30 films

    metrics = json.loads((films / "found/metrics.json").read_text())
    assert metrics["transitions"]["recall@1"] > 0.6
    assert metrics["item_knn"]["recall@10"] > metrics["popularity"]["recall@10"]
    assert metrics["popularity"]["recall@1"] < 0.2
    assert {name for name in metrics["two_tower"] if name.startswith("recall")} == {"recall@1", "recall@10"}

    config = yaml.safe_load((films / "found/config.yaml").read_text())
    retrieval = config["retrieval"]
    assert retrieval["positives"] == "all"
    assert retrieval["exclude"] == "seen"
    assert retrieval["score_parts"] is None
    assert retrieval["model"]["pooling"] == "causal"
    assert retrieval["trainer"]["loss"]["full_catalog"] is True
    assert retrieval["trainer"]["early_stopping"]["metric"] == "ndcg@10"
    assert config["prepare"]["min_count"] == 1

    candidates = pq.read_table(films / "found/candidates.parquet").to_pylist()
    log = pq.read_table(films / "raw/log.parquet").to_pylist()
    seen = {(row["user"], str(row["film"])) for row in log}
    last = {row["user"]: str(row["film"]) for row in log}
    user_of_row = [row["user"] for row in log]
    for row in candidates:
        user = user_of_row[int(row["row_id"])]
        assert (user, row["item"]) not in seen or row["item"] == last[user]
    n_by_request = Counter(row["row_id"] for row in candidates)
    assert min(n_by_request.values()) >= N_FILMS - 12
    n_first = n_by_request[candidates[0]["row_id"]]
    assert [row["rank"] for row in candidates[:n_first]] == list(range(1, n_first + 1))

    assert "ndcg@10 with seen items" in " ".join(outcome.out.split())
    assert metrics["other_exclusion"]["exclude"] == "none"
    kept = run(*GIVEN, "--out", "kept", "trainer.epochs=1", "exclude=none")
    assert kept.code == 0, kept.err
    other = json.loads((films / "kept/metrics.json").read_text())
    assert other["other_exclusion"]["exclude"] == "seen"
    for name in ("popularity", "transitions", "item_knn", "ease", "ease_recent"):
        without, with_seen = other["other_exclusion"][name], metrics["other_exclusion"][name]
        assert without == {key: value for key, value in metrics[name].items() if key in without}
        assert with_seen == {key: value for key, value in other[name].items() if key in with_seen}
        assert without["mrr"] >= with_seen["mrr"]  # no film is watched twice

    again = run("retrieval", "--config", "found/config.yaml", "--out", "found")
    assert again.code == 0, again.err
    assert "epoch 1/2" not in again.out  # the resolved settings are those of the finished run


def test_default_training_beats_the_baselines(films: Path, run: Run) -> None:
    outcome = run(*GIVEN, "--out", "found")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((films / "found/metrics.json").read_text())
    assert metrics["two_tower"]["recall@1"] > metrics["item_knn"]["recall@1"] + 0.2
    assert metrics["two_tower"]["recall@1"] > metrics["transitions"]["recall@1"] - 0.03  # all that can be known


def test_ranking_needs_a_label(films: Path, run: Run) -> None:
    outcome = run("rank", "--model", "dcnv2", *GIVEN[1:], "--out", "ranked")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "config 'films': ranking needs a label, a column of 0 and 1: name it in schema.label, or" in outcome.err


def test_a_log_without_a_label_goes_through_prepare_and_a_plan(
    films: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without days and without parts of its own: towers are evaluated on the first fold, and nothing is ranked."""
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["schema"] |= {"split": None, "sequences": {}, "towers": {"user": ["user"], "item": ["film"]}}
    Path("raw/config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(films / "raw")  # files.folder is not set: the files are those of the working folder
    prepared = run("prepare", "--config", "config.yaml")
    assert prepared.code == 0, prepared.err
    assert "next: gatectr retrieval --data prepared/films" in prepared.out
    found = run("retrieval", "--data", "prepared/films", "--out", "found", "trainer.epochs=1", "score_parts=null")
    assert found.code == 0, found.err
    assert "split: fold_0" in found.out

    plan = {
        "name": "films",
        "steps": [
            {"step": 1, "do": "rank", "name": "gbdt", "model": "gbdt"},
            {"step": 2, "do": "retrieval", "name": "towers", "set": ["trainer.epochs=1", "score_parts=null"]},
            {"step": 3, "do": "final", "name": "final", "best_of": ["gbdt"]},
        ],
        "reference": "gbdt",
        "gates": {},
    }
    Path("plan.yaml").write_text(yaml.safe_dump(plan))
    done = run("plan", "--config", "plan.yaml", "--data", "prepared/films", "--out", "plan")
    assert done.code == 0, done.err
    assert "step gbdt: not applicable: the schema has no label" in done.out
    assert "two_tower" in json.loads(Path("plan/2-towers/metrics.json").read_text())
    assert Path("plan/report.html").is_file()


def test_a_split_by_time_has_recent_popularity_without_days(films: Path, run: Run) -> None:
    """Ten films of the first half of the time, ten of the second: the latter are recommended after it."""
    rng = np.random.default_rng(0)
    film = np.concatenate([rng.integers(0, 10, 1100), rng.integers(10, 20, 1000)])
    table = pa.table({"user": rng.integers(0, 200, 2100), "film": film, "time": np.arange(2100)})
    pq.write_table(table, "raw/log.parquet")
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["schema"] |= {"split": {"column": "time", "valid_from": 1900, "test_from": 2000}, "sequences": {}}
    config["schema"]["towers"] = {"user": ["user"], "item": ["film"]}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    outcome = run(*GIVEN, "--out", "found", "trainer.epochs=1", "score_parts=null")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(Path("found/metrics.json").read_text())
    assert metrics["recent"]["recall@10"] == 1.0
    assert metrics["popularity"]["recall@10"] < 0.9


def test_auto_leaves_a_setting_to_the_data(films: Path, run: Run) -> None:
    auto = ("trainer.batch_size=auto", "trainer.epochs=auto", "model.pooling=auto", "exclude=auto")
    outcome = run(*GIVEN, "--out", "a", *auto, "trainer.stop_after=1")
    assert outcome.code == 0, outcome.err
    assert run(*GIVEN, "--out", "b", "trainer.stop_after=1").code == 0
    a, b = (yaml.safe_load((films / name / "config.yaml").read_text())["retrieval"] for name in "ab")
    assert a == b
    refused = run(*GIVEN, "--out", "c", "candidates=auto")
    assert refused.code == 2
    assert "candidates" in refused.err


def test_positives_are_held_out_without_a_valid_split(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Popularity among positives is a baseline beside that among all rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    pq.write_table(tower_table(12_000), "raw/train.parquet")
    schema = SMALL_SCHEMA | tower_schema()
    config = {"name": "shops", "files": {"train": ["train.parquet"]}, "schema": schema, "prepare": {"n_folds": 4}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    outcome = run(*GIVEN, "--out", "found", "score_parts=null", "trainer.stop_after=1")
    assert outcome.code == 0, outcome.err
    assert "monitored" in outcome.out
    metrics = json.loads(Path("found/metrics.json").read_text())
    assert {"popularity", "popular_positives", "recent", "random", "two_tower"} <= metrics.keys()
    assert "transitions" not in metrics  # the tokens of `seen` are no shops


@pytest.mark.parametrize(
    "arguments",
    [
        ("trainer.loss={name: logistic}", "positives=all", "model.pooling=mean", "score_parts=null"),
        ("index={kind: ivf_flat, n_lists: 900}",),
        ("score_parts=9", "model.pooling=mean"),
        ("--split", "fold_0", "trainer.early_stopping={}"),
    ],
)
def test_a_refused_run_leaves_no_folder(films: Path, run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*GIVEN, "--out", "found", *arguments)
    assert outcome.code == 2, outcome.out
    assert outcome.err.count("\n") == 1
    assert not list(films.glob("found*"))
