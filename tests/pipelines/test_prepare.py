from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.commands import Run
from tests.helpers.small import small_table

PREPARE = ("prepare", "--config", "config.yaml", "--train", "raw/train.parquet", "--out", "prepared/mine")


def change(project: Path, column: str, values: pa.Array | None) -> None:
    table = small_table()
    index = table.column_names.index(column)
    table = table.remove_column(index) if values is None else table.set_column(index, column, values)
    pq.write_table(table, project / "raw/train.parquet")


def test_prints_a_summary(project: Path, run: Run) -> None:
    outcome = run(*PREPARE)
    assert outcome.code == 0
    assert "small: 2,000 rows in prepared/mine" in outcome.out
    assert "4 numeric inputs, of them 1 for missing values; " in outcome.out  # x_1 and x_2: one
    assert "embedding rows: color 6" in outcome.out  # missing, rare, four colors
    assert "next: gatectr rank --data prepared/mine --model gbdt" in outcome.out


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("x_1", None, "x_1"),
        ("color", None, "color"),
        ("click", pa.array([2] * 2000), "2"),
        ("click", pa.array(["yes"] * 2000), "click"),
        ("x_1", pa.array(["a"] * 2000), "x_1"),
        ("x_1", pa.nulls(2000, pa.float32()), "x_1"),
    ],
)
def test_invalid_columns_are_named_and_leave_no_output(
    project: Path, run: Run, column: str, values: pa.Array | None, message: str
) -> None:
    if column == "x_1" and values is None:
        values = None
        (project / "config.yaml").write_text((project / "config.yaml").read_text().replace("x_*", "x_1"))
    change(project, column, values)
    outcome = run(*PREPARE)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (project / "prepared/mine").exists()


def test_truncated_and_empty_files(project: Path, run: Run) -> None:
    path = project / "raw/train.parquet"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        outcome = run(*PREPARE)
        assert outcome.code == 2
        assert "train.parquet" in outcome.err
        assert not (project / "prepared/mine").exists()
    path.write_bytes(whole)
    assert run(*PREPARE).code == 0


def test_a_finished_data_set_is_kept(project: Path, run: Run) -> None:
    assert run(*PREPARE).code == 0
    written = (project / "prepared/mine/schema.json").stat().st_mtime_ns
    assert run(*PREPARE).code == 0
    assert (project / "prepared/mine/schema.json").stat().st_mtime_ns == written
    other = run(*PREPARE, "prepare.min_count=7")
    assert other.code == 2
    assert "prepared/mine" in other.err


def test_generate_shows_the_best_possible_scores(project: Path, run: Run) -> None:
    outcome = run("generate", "--rows", "2000", "--out", "data/toss")
    assert outcome.code == 0
    assert "best possible metrics on data/toss" in outcome.out
    assert sorted(path.name for path in (project / "data/toss").glob("*.parquet")) == [
        "test.parquet",
        "train.parquet",
        "truth.parquet",
    ]
    assert run("generate", "--rows", "3", "--out", "data/other").code == 2
