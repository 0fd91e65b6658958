"""`pipelines.retrieve`: candidates for known and unknown users, of a run's items and of others."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import gatectr
from pipelines.retrieve import open_retriever
from recsys.errors import InputError
from retrieval.serving import retriever
from tests.pipelines.conftest import Run

N_FILMS, LENGTH = 20, 9


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users who watch films in a cycle, each with a genre; the run is made by the first test."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    start = rng.integers(0, N_FILMS, 150)
    film = (start[:, None] + np.arange(LENGTH)) % N_FILMS
    (folder / "raw").mkdir()
    n = film.size
    table = {"user": np.repeat(np.arange(150), LENGTH), "film": film.reshape(-1), "time": np.arange(n)}
    pq.write_table(pa.table(table | {"genre": film.reshape(-1) % 3}), folder / "raw/log.parquet")
    config = {
        "name": "films",
        "files": {"train": ["log.parquet"]},
        "schema": {
            "split": {"key": "user", "order": "time"},
            "categorical": ["user", "film", "genre"],
            "sequences": {"watched": {"kind": "log", "key": "user", "item": "film", "order": "time", "max_length": 6}},
            "target_item": "film",
            "towers": {"user": ["watched"], "item": ["film", "genre"]},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def project(films: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the films with a finished run, as the working folder."""
    monkeypatch.chdir(films)
    if not (films / "run/DONE").exists():
        settings = ("trainer.epochs=3", "model.pooling=ligr", "exclude=seen", "model.embedding_dim=8")
        outcome = run("retrieval", "--config", "config.yaml", "--data", "raw", "--out", "run", *settings)
        assert outcome.code == 0, outcome.err
    for path in films.glob("*.parquet"):
        path.unlink()
    return films


def written(path: str, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return path


def by_request(path: Path) -> dict[str, list[tuple[int, str, float]]]:
    found: dict[str, list[tuple[int, str, float]]] = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["row_id"], []).append((row["rank"], row["item"], row["score"]))
    return found


def retrieved(run: Run, *arguments: str) -> dict[str, list[tuple[int, str, float]]]:
    out = Path("out.parquet")
    out.unlink(missing_ok=True)
    outcome = run("retrieve", "--run", "run", "--out", str(out), *arguments)
    assert outcome.code == 0, outcome.err
    assert "requests/s" in outcome.out
    return by_request(out)


def test_candidates_are_those_of_the_run(project: Path, run: Run) -> None:
    """Requests with the histories of the run's test rows, as lists of users whom the data does not know."""
    film = pq.read_table("raw/log.parquet")["film"].to_numpy().reshape(-1, LENGTH)
    requests = written("requests.parquet", watched=film[:, :-1].tolist())
    found = retrieved(run, "--requests", requests, "--k", "100", "--exclude", "seen")
    expected = by_request(project / "run/candidates.parquet")
    assert len(expected) == len(found) == 150
    for user in range(150):
        theirs = expected[str(LENGTH * (user + 1) - 1)]
        assert [row[:2] for row in found[str(user)]] == [row[:2] for row in theirs]
        assert [row[2] for row in found[str(user)]] == pytest.approx([row[2] for row in theirs], abs=1e-4)


def test_known_users_have_their_latest_history(project: Path, run: Run) -> None:
    film = pq.read_table("raw/log.parquet")["film"].to_numpy().reshape(-1, LENGTH)
    by_list = retrieved(run, "--requests", written("a.parquet", watched=film[:4].tolist()), "--k", "5")
    by_user = retrieved(run, "--requests", written("b.parquet", user=[0, 1, 2, 3]), "--k", "5")
    assert by_list == by_user
    mixed = written("c.parquet", user=[0, 777, 2, 3], watched=[None, None, [], film[3].tolist()])
    found = retrieved(run, "--requests", mixed, "--k", "5")
    assert (found["0"], found["3"]) == (by_user["0"], by_user["3"])
    assert found["1"] == found["2"] != found["0"]  # an unknown user has no history
    seen = retrieved(run, "--requests", "b.parquet", "--k", "20", "--exclude", "seen")
    for user in range(4):
        assert {row[1] for row in seen[str(user)]} == set(map(str, range(N_FILMS))) - set(map(str, film[user, -6:]))


def test_pairs_of_a_table_are_excluded(project: Path, run: Run) -> None:
    requests = written("requests.parquet", user=[0, 1], place=["home", "home"])
    plain = retrieved(run, "--requests", requests, "--k", "20")
    pairs = written("pairs.parquet", user=[1, 1, 5], film=[3, 4, 0])
    found = retrieved(run, "--requests", requests, "--k", "20", "--exclude", pairs)
    assert found["0"] == plain["0"]
    assert [row[1] for row in found["1"]] == [row[1] for row in plain["1"] if row[1] not in ("3", "4")]
    pairs = written("pairs.parquet", place=["home"], film=[7])
    found = retrieved(run, "--requests", requests, "--k", "20", "--exclude", pairs)
    assert all(len(rows) == 19 and "7" not in {row[1] for row in rows} for rows in found.values())


def test_other_items_without_training(project: Path, run: Run) -> None:
    requests = written("requests.parquet", user=[0, 1])
    plain = retrieved(run, "--requests", requests, "--k", "20")
    items = written("items.parquet", film=[2, 5, 99], genre=[2, 2, 1])
    found = retrieved(run, "--requests", requests, "--k", "20", "--items", items)
    for user, rows in found.items():
        assert {row[1] for row in rows} == {"2", "5", "99"}
        known = [row[1:] for row in rows if row[1] != "99"]
        theirs = [row[1:] for row in plain[user] if row[1] in ("2", "5")]
        assert [row[0] for row in known] == [row[0] for row in theirs]
        assert [row[1] for row in known] == pytest.approx([row[1] for row in theirs], abs=1e-4)


def test_requests_go_block_by_block(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [4, 77, 4, 9, 1, 0, 3]
    requests = written("requests.parquet", user=users, watched=[None, [1, 2], *[None] * 4, []])
    whole = retrieved(run, "--requests", requests, "--k", "6", "--exclude", "seen")
    monkeypatch.setattr(retriever, "_BLOCK_REQUESTS", 2)
    monkeypatch.setattr(retriever, "_BATCH_STEPS", 5)
    parts = retrieved(run, "--requests", requests, "--k", "6", "--exclude", "seen")
    assert list(whole) == list(parts) == [str(number) for number in range(len(users))]
    for name, rows in whole.items():
        assert [row[:2] for row in parts[name]] == [row[:2] for row in rows]
        assert [row[2] for row in parts[name]] == pytest.approx([row[2] for row in rows], abs=1e-4)


def test_from_python(project: Path, run: Run) -> None:
    requests = written("requests.parquet", user=[4])
    opened = open_retriever(Path("run"))
    (table,) = opened.retrieve(opened.open_requests([Path(requests)]), 3)
    assert table.column_names == ["row_id", "rank", "item", "score"]
    assert [tuple(row.values())[1:] for row in table.to_pylist()] == retrieved(run, "--requests", requests, "--k", "3")[
        "0"
    ]
    assert gatectr.retrieve("run", {"user": [4]}, 3).equals(table)
    assert len(gatectr.retrieve("run", requests, 3, exclude="seen")) == 3
    with pytest.raises(InputError, match="raw is not a finished retrieval run"):
        gatectr.retrieve("raw", requests)


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"other": [1]}, (), "has no history: add a list column 'watched' of film, or the column 'user'"),
        ({"user": [1]}, ("--exclude", "missing.parquet"), "missing.parquet: not a readable parquet file"),
        ({"user": [1]}, ("--k", "0"), "k"),
        ({"user": [1]}, ("--items", "twice.parquet"), "column 'film' has 2 more than once: give each item one row"),
        ({"user": [1]}, ("--items", "nulls.parquet"), "column 'film' has nulls: every row needs its item"),
        ({"user": [1]}, ("--items", "bare.parquet"), "has no column 'genre'"),
        ({"user": [1]}, ("--run", "raw"), "raw is not a finished retrieval run"),
    ],
)
def test_bad_input(project: Path, run: Run, columns: dict[str, Any], arguments: tuple[str, ...], message: str) -> None:
    written("requests.parquet", **columns)
    written("twice.parquet", film=[1, 2, 2], genre=[0, 0, 0])
    written("nulls.parquet", film=[1, None], genre=[0, 0])
    written("bare.parquet", film=[1])
    outcome = run("retrieve", "--run", "run", "--requests", "requests.parquet", "--out", "out.parquet", *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert not list(Path().glob("out.parquet*"))


def test_a_changed_index_is_refused(project: Path, run: Run) -> None:
    shutil.copytree("run", "changed", dirs_exist_ok=True)
    description = json.loads(Path("changed/index.json").read_text())
    Path("changed/index.json").write_text(json.dumps(description | {"sha256": "0" * 64}))
    requests = written("requests.parquet", user=[1])
    outcome = run("retrieve", "--run", "changed", "--requests", requests, "--out", "out.parquet")
    assert outcome.code == 2
    assert "does not match index.json" in " ".join(outcome.err.split())
