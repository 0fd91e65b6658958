"""Exact copies of rows are counted, and rows with equal features share a fold."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig
from tests.helpers.small import prepare_small, small_schema, small_table


def fold_of_row(dataset: PreparedDataset) -> np.ndarray:
    fold = np.empty(dataset.n_rows, np.int64)
    for index in range(dataset.manifest.prepare.n_folds):
        fold[dataset.split(f"fold_{index}").held_out_rows.numbers()] = index
    return fold


def with_copies(n_copied: int, flipped: int = 0) -> pa.Table:
    """Two thousand rows, then copies of the first ones, of which the first `flipped` have the other label."""
    table = small_table().drop_columns(["id"])
    copies = table.slice(0, n_copied)
    label = np.array(copies["click"].to_pylist(), np.int8)
    label[:flipped] = 1 - label[:flipped]
    copies = copies.set_column(copies.column_names.index("click"), "click", pa.array(label))
    return pa.concat_tables([table, copies])


def test_copies_share_a_fold_and_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = prepare_small(with_copies(300, 40), tmp_path / "raw", tmp_path / "out", small_schema(id=None))
    fold = fold_of_row(dataset)
    assert np.array_equal(fold[:300], fold[2000:])  # those with another label too
    assert dataset.stats.n_copies == 260
    assert "260 training rows are exact copies of an earlier row" in capsys.readouterr().out
    alone = prepare_small(with_copies(0), tmp_path / "raw0", tmp_path / "out0", small_schema(id=None))
    assert alone.stats.n_copies == 0
    assert np.array_equal(fold_of_row(alone), fold[:2000])  # rows without copies keep their folds


def test_counts_by_group_belong_to_the_final_folds(tmp_path: Path) -> None:
    table = with_copies(300)
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", small_schema(id=None), min_count=1)
    color, fold = np.array(table["color"].to_pylist(), object), fold_of_row(dataset)
    vocabulary = dataset.vocabularies["color"]
    for code, value in enumerate(vocabulary.values.to_pylist()):
        for index in range(5):
            groups = [k for k, group in enumerate(dataset.groups) if group.fold == index]
            assert vocabulary.counts[code, groups].sum() == np.sum((color == value) & (fold == index))


@pytest.mark.parametrize("column", ["x_1", "color", "seen", "day", "shop"])
def test_rows_that_differ_in_one_column_are_no_copies(tmp_path: Path, column: str) -> None:
    table = with_copies(300)
    values = table[column].to_pylist()
    for row in range(2000, 2300):
        values[row] = f"{row},{row}" if column in ("color", "seen") else row + 2**20
    table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", small_schema(id=None), min_count=1)
    assert dataset.stats.n_copies == 0


def test_lists_are_compared_as_a_whole(tmp_path: Path) -> None:
    long = list(range(50))
    lists = [[*long, k] for k in range(40)] + [[k, *long] for k in range(40)] + [[*long, 7], None, [], [None]]
    table = pa.table({"seen": pa.array(lists, pa.list_(pa.int64())), "click": [k % 2 for k in range(len(lists))]})
    schema = {"label": "click", "sequences": {"seen": {"kind": "list", "max_length": 3, "keep": "first"}}}
    config = small_schema().model_validate(schema)
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", config, min_count=1, n_folds=2)
    fold = fold_of_row(dataset)
    assert fold[7] == fold[80]
    assert len(set(fold[81:])) == 1  # null, empty, and without a token
    assert dataset.stats.n_copies == 1  # labels: row 7 has 1, row 80 has 0; of the last three, two have equal labels


def test_few_distinct_rows_are_dealt_out_to_all_folds(tmp_path: Path) -> None:
    table = pa.table({"c": [k % 6 for k in range(60)], "y": [k // 6 % 2 for k in range(60)]})
    schema = SchemaConfig(label="y", categorical=("c",))
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema, min_count=1, n_folds=5)
    fold = fold_of_row(dataset)
    assert sorted(np.bincount(fold)) == [10, 10, 10, 10, 20]
    assert all(len(set(fold[k::6])) == 1 for k in range(6))


TENTHS = [k / 10 for k in range(30)]


@pytest.mark.parametrize(
    ("first", "second", "role"),
    [
        (pa.array([0.0] * 30), pa.array([-0.0] * 30), {"numeric": ["x", "c"]}),
        (pa.array(TENTHS), pa.array(TENTHS, pa.float32()), {"numeric": ["x", "c"]}),
        (pa.array(TENTHS), pa.array([Decimal(k) / 10 for k in range(30)]), {"numeric": ["x", "c"]}),
        (pa.array(["3,2"] * 30), pa.array(["3.0,2.0"] * 30), {"kind": "delimited"}),
        (pa.array([["3", "2"]] * 30), pa.array([["3.0", "02"]] * 30), {"kind": "list"}),
    ],
)
def test_copies_of_other_types_are_copies(tmp_path: Path, first: pa.Array, second: pa.Array, role: dict) -> None:
    for name, column in (("a", first), ("b", second)):
        table = pa.table({"x": column, "c": range(30), "y": [k % 2 for k in range(30)]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    roles = role if "numeric" in role else {"categorical": ["c"], "sequences": {"x": role | {"vocabulary": "c"}}}
    schema = SchemaConfig.model_validate({"label": "y"} | roles)
    files, config = RawFiles(train=("a.parquet", "b.parquet")), PrepareConfig(min_count=1, n_folds=2)
    dataset = PreparedDataset.open(prepare(schema, files, config, tmp_path, tmp_path / "out", "x"))
    fold = fold_of_row(dataset)
    assert np.array_equal(fold[:30], fold[30:])
    assert dataset.stats.n_copies == 30


def test_rows_with_ids_keep_their_folds(tmp_path: Path) -> None:
    table = pa.concat_tables([small_table(), small_table()])
    table = table.set_column(0, "id", pa.array([f"row-{k}" for k in range(4000)]))
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out")
    alone = prepare_small(small_table(), tmp_path / "raw1", tmp_path / "out1")
    assert np.array_equal(fold_of_row(dataset)[:2000], fold_of_row(alone))
    assert dataset.stats.n_copies == 0
