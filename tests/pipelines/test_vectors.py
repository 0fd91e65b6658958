"""Commands on data with vectors: wrong vectors are bad input, and files to score are read like training files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

from tests.helpers.commands import Run
from tests.helpers.vector_data import SCHEMA, vector_table

COLUMNS = ["item", "device", "price", "seen", "image"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with train.parquet and mine.yaml."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(vector_table(600), "train.parquet")
    config = {
        "name": "mine",
        "files": {"train": ["train.parquet"]},
        "schema": SCHEMA | {"vectors": ["image"]},
        "prepare": {"n_folds": 2, "min_count": 1},
        "trainer": {"epochs": 1},
        "models": {"dcnv2": {"model": {"embedding_dim": 4, "hidden_dims": [8]}}},
    }
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def with_vector(vector: list[float] | None, row: int, n: int) -> pa.Table:
    """The first n rows, one of them with another vector."""
    table = vector_table(600).slice(0, n).select([*COLUMNS, "split", "click"])
    vectors = [vector if number == row else known for number, known in enumerate(table["image"].to_pylist())]
    return table.set_column(table.column_names.index("image"), "image", [vectors])


def test_a_wrong_vector_is_bad_input(folder: Path, run: Run) -> None:
    pq.write_table(with_vector([1.0], row=7, n=100), "train.parquet")
    outcome = run("prepare", "--config", "mine.yaml", "--train", "train.parquet")
    assert outcome.code == 2
    assert "train.parquet: column 'image' has a vector of 1 numbers in row 7, but its size is 8" in outcome.err
    assert not (folder / "prepared/mine/DONE").exists()


def test_files_to_score(folder: Path, run: Run) -> None:
    outcome = run("rank", "--config", "mine.yaml", "--model", "dcnv2", "--data", str(folder), "--out", "found")
    assert outcome.code == 0, outcome.err
    pq.write_table(with_vector(None, row=2, n=50).select(COLUMNS), "test.parquet")
    outcome = run("submit", "--run", "found", "--test", "test.parquet", "--out", "submission.csv")
    assert outcome.code == 0, outcome.err
    assert pa_csv.read_csv("submission.csv").num_rows == 50
    pq.write_table(with_vector([1.0] * 9, row=4, n=50).select(COLUMNS), "test.parquet")
    outcome = run("submit", "--run", "found", "--test", "test.parquet", "--out", "other.csv")
    assert outcome.code == 2
    assert "column 'image' has a vector of 9 numbers in row 4, but its size is 8" in outcome.err
