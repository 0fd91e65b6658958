"""`pipelines.submit --top`: items retrieved for requests, ranked by a run, written as lists."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.parts import ranked_lists
from tests.pipelines.conftest import Run

N_FILMS = 12
COMMAND = ("submit", "--run", "ranker", "--retrieval", "towers", "--test", "requests.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of users and films; a click depends on both. The runs are made by the first test."""
    folder, rng, n = tmp_path_factory.mktemp("lists"), np.random.default_rng(0), 1200
    (folder / "raw").mkdir()
    user, film = rng.integers(0, 40, n), rng.integers(0, N_FILMS, n)
    seen = [",".join(map(str, rng.integers(0, N_FILMS, rng.integers(0, 4)))) for _ in range(n)]
    table = {
        "id": np.arange(n),
        "user": user,
        "hour": rng.integers(0, 24, n).astype(np.float64),
        "seen": seen,
        "film": film,
        "genre": film % 3,
        "length": (film * 7 % 5).astype(np.float64),
        "day": np.arange(n) * 4 // n,
        "click": (rng.random(n) < np.where((user + film) % 3 == 0, 0.6, 0.15)).astype(np.int64),
    }
    pq.write_table(pa.table(table), folder / "raw/log.parquet")
    config = {
        "name": "films",
        "files": {"train": ["log.parquet"]},
        "schema": {
            "label": "click",
            "id": "id",
            "day": "day",
            "categorical": ["user", "film", "genre"],
            "numeric": ["hour", "length"],
            "sequences": {"seen": {"kind": "delimited", "vocabulary": "film", "max_length": 4}},
            "crosses": {"film_genre": ["film", "genre"]},
            "encodings": {"film": ["ctr"], "user": ["count"]},
            "target_item": "film",
            "towers": {"user": ["user", "seen"], "context": ["hour"], "item": ["film", "genre", "length"]},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    columns = {"id": [7, 8, 9], "user": [3, 3, 999], "hour": [5.0, None, 2.0], "seen": ["1,2", None, "4"]}
    pq.write_table(pa.table(columns), folder / "requests.parquet")
    items = pq.read_table(folder / "raw/log.parquet", columns=["film", "genre", "length"]).group_by(["film", "genre"])
    films = items.aggregate([("length", "min")]).rename_columns(["film", "genre", "length"]).to_pylist()
    requests = pa.table(columns).to_pylist()
    rows = [request | film | {"id": 100 * request["id"] + film["film"]} for request in requests for film in films]
    pq.write_table(pa.Table.from_pylist(rows), folder / "joined.parquet")
    return folder


@pytest.fixture
def project(made: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with both runs, as the working folder."""
    monkeypatch.chdir(made)
    if not (made / "ranker/DONE").exists():
        given = ("--config", "config.yaml", "--data", "raw", "--folds", "holdout")
        small = ("model.embedding_dim=8", "trainer.epochs=2")
        assert run("rank", "--model", "din", *given, "--out", "ranker", *small, "model.hidden_dims=[8]").code == 0
        outcome = run("retrieval", *given[:4], "--out", "towers", *small, "score_parts=null")
        assert outcome.code == 0, outcome.err
    for path in made.glob("*.csv"):
        path.unlink()
    return made


def lists_of(path: str) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for row in pa_csv.read_csv(
        path, convert_options=pa_csv.ConvertOptions(column_types={"item": pa.string()})
    ).to_pylist():
        assert row["rank"] == len(found.setdefault(str(row["id"]), [])) + 1
        found[str(row["id"])].append((row["item"], row["click"]))
    return found


@pytest.mark.parametrize("block_pairs", [65_536, 13])
def test_lists_are_the_best_rows_of_a_submission(
    block_pairs: int, project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all films as candidates: the same probabilities as for the joined rows of requests and films."""
    monkeypatch.setattr(ranked_lists.ListMaker._pairs, "__defaults__", (block_pairs,))
    outcome = run(*COMMAND, "--top", "4", "--candidates", "100", "--out", "lists.csv")
    assert outcome.code == 0, outcome.err
    assert "lists of 4 for 3 requests" in outcome.out
    assert run("submit", "--run", "ranker", "--test", "joined.parquet", "--out", "rows.csv").code == 0
    rows = pa_csv.read_csv("rows.csv").to_pylist()
    lists = lists_of("lists.csv")
    assert list(lists) == ["7", "8", "9"]
    for request, found in lists.items():
        p = {str(row["id"] % 100): row["click"] for row in rows if str(row["id"] // 100) == request}
        assert len(p) == N_FILMS
        best = sorted(p, key=lambda film: -p[film])[:4]
        assert [value for _, value in found] == pytest.approx([p[film] for film in best], abs=1e-6)
        assert [p[film] for film, _ in found] == pytest.approx([value for _, value in found], abs=1e-6)
    summary = json.loads(Path("lists.json").read_text())
    assert (summary["n_requests"], summary["n_rows"], summary["n_candidates"]) == (3, 12, N_FILMS)


def test_seen_items_and_fewer_candidates(project: Path, run: Run) -> None:
    given = ("--top", "2", "--candidates", "3", "--exclude", "seen")
    assert run(*COMMAND, *given, "--out", "few.csv").code == 0
    assert (
        run(
            "retrieve",
            "--run",
            "towers",
            "--requests",
            "requests.parquet",
            "--k",
            "3",
            "--exclude",
            "seen",
            "--out",
            "candidates.parquet",
        ).code
        == 0
    )
    candidates: dict[str, set[str]] = {}
    for row in pq.read_table("candidates.parquet").to_pylist():
        candidates.setdefault(row["row_id"], set()).add(row["item"])
    lists = lists_of("few.csv")
    assert all(
        len(found) == 2 and {film for film, _ in found} <= candidates[request] for request, found in lists.items()
    )
    assert not {"1", "2"} & {film for film, _ in lists["7"]}


def test_a_budget_chooses_the_candidates(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that runs 3 ms a request for retrieval and 1 ms for a pair."""
    times = iter([0.0, 0.009, 0.009 + 36 * 0.001, 0, 0])
    monkeypatch.setattr(ranked_lists, "time", type("Clock", (), {"perf_counter": staticmethod(lambda: next(times))}))
    outcome = run(*COMMAND, "--top", "4", "--candidates", "100", "--max-ms", "9.5", "--out", "timed.csv")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("timed.json").read_text())["n_candidates"] == 6
    times = iter([0.0, 0.009, 0.009 + 36 * 0.001])
    refused = run(*COMMAND, "--top", "4", "--candidates", "100", "--max-ms", "5", "--out", "none.csv")
    assert refused.code == 2
    assert "--max-ms 5: a list of 4 takes 7 ms: raise it" in refused.err
    assert not Path("none.csv").exists()


def test_what_lists_cannot_be_made_of(project: Path, run: Run) -> None:
    alone = run("submit", "--run", "ranker", "--test", "requests.parquet", "--top", "4", "--out", "x.csv")
    assert alone.code == 2
    assert "need --top, --retrieval and --test" in alone.err
    ignored = run("submit", "--run", "ranker", "--test", "joined.parquet", "--max-ms", "4", "--out", "x.csv")
    assert ignored.code == 2
    assert "--exclude and --max-ms, need --top" in ignored.err
    pq.write_table(pq.read_table("requests.parquet").drop_columns(["hour"]), "short.parquet")
    short = run(*COMMAND[:-1], "short.parquet", "--top", "4", "--out", "x.csv")
    assert short.code == 2
    assert "hour" in short.err
    ranker = run(
        "submit",
        "--run",
        "ranker",
        "--retrieval",
        "ranker",
        "--test",
        "requests.parquet",
        "--top",
        "4",
        "--out",
        "x.csv",
    )
    assert ranker.code == 2
    assert "retrieval run" in ranker.err
    assert not list(project.glob("x.csv*"))
