import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.commands import Run
from tests.helpers.small import small_table

PREPARE = ("prepare", "--config", "config.yaml", "--out", "prepared")


@pytest.fixture
def prepared(project: Path, run: Run) -> Path:
    """x_2 grows from day to day."""
    table = small_table()
    x_2 = [
        None if x is None else x + day
        for x, day in zip(table["x_2"].to_pylist(), table["day"].to_pylist(), strict=True)
    ]
    table = table.set_column(table.column_names.index("x_2"), "x_2", pa.array(x_2, pa.float32()))
    pq.write_table(table, "raw/train.parquet")
    outcome = run(*PREPARE, "--train", "raw/train.parquet")
    assert outcome.code == 0, outcome.err
    return Path("prepared")


def test_days_are_compared_with_the_day_before_and_the_last_with_the_first(prepared: Path, run: Run) -> None:
    outcome = run("drift", "--data", prepared)
    assert outcome.code == 0, outcome.err
    assert "day 1 / day 7" in outcome.out
    assert "they differ" in outcome.out
    assert Path("prepared/drift.png").stat().st_size > 1000
    found = json.loads(Path("prepared/drift.json").read_text())["comparisons"]
    pairs = [(one["earlier"], one["later"]) for one in found]
    assert pairs == [*((f"day {day}", f"day {day + 1}") for day in range(1, 7)), ("day 1", "day 7")]
    assert all(one["low"] > 0.5 and one["columns"][0]["name"] == "x_2" for one in found)
    assert run("rank", "--data", prepared, "--model", "gbdt", "--out", "a", "model.n_trees=5").code == 0  # still sealed


def test_what_else_differs_is_measured_without_the_first_cause(prepared: Path, run: Run) -> None:
    outcome = run("drift", "--data", prepared, "--leave-out", "x_2", "--out", "rest.json")
    assert outcome.code == 0, outcome.err
    last = json.loads(Path("rest.json").read_text())["comparisons"][-1]
    assert last["low"] < 0.5 < last["high"]
    assert "x_2" not in {one["name"] for one in last["columns"]}
    assert not Path("prepared/drift.json").exists()
    assert "x_22' is not a column" in run("drift", "--data", prepared, "--leave-out", "x_22").err


def test_data_without_other_rows_is_refused(prepared: Path, run: Run) -> None:
    outcome = run("drift", "--data", prepared, "--by", "split")
    assert (outcome.code, "training rows only" in outcome.err) == (2, True)
    assert "is not a prepared data set" in run("drift", "--data", "raw").err
