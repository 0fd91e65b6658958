"""Raw files that cannot be prepared: a one-line error with the file and a fix, and no output."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from tests.helpers.small import prepare_small, small_schema, small_table


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ({"shop": [1.0, 1.0], "city": ["A", "B"]}, "key 'shop' is repeated in some rows"),
        ({"shop": [1.0], "town": ["A"]}, "'city' is not a column"),
        ({"shop": [1.0], "city": ["A"], "color": ["red"]}, "the data already has a column 'color'"),
    ],
)
def test_wrong_side_tables_are_refused(tmp_path: Path, side: dict, message: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pq.write_table(pa.table(side), raw / "shops.parquet")
    columns = ["city", "color"] if "color" in side else ["city"]
    tables = {"shops": {"file": "shops.parquet", "key": "shop", "columns": columns}}
    schema = small_schema(categorical=["color", "shop", "city"], side_tables=tables)
    with pytest.raises(InputError, match=message):
        prepare_small(small_table(), raw, tmp_path / "out", schema)


def with_label(values: list) -> pa.Table:
    table = small_table()
    return table.set_column(table.column_names.index("click"), "click", pa.array(values))


def replaced(name: str, values: object) -> pa.Table:
    table = small_table()
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (small_table().drop_columns(["x_2", "x_1", "x_10"]), r"schema.numeric: 'x_\*' is not a column"),
        (small_table().drop_columns(["color"]), "schema.categorical: 'color' is not a column"),
        (small_table().drop_columns(["click"]), "no column 'click'"),
        (with_label([2] + [0, 1] * 999 + [0]), "label column 'click' contains 2 in row 0: labels must be 0 or 1"),
        (with_label([0, 1, None] + [0] * 1997), "label column 'click' has nulls .such as in row 2"),
        (with_label([0.0, 1.0, 0.5] + [0.0] * 1997), "label column 'click' contains 0.5 in row 2"),
        (with_label(["0", "1"] * 1000), "label column 'click' is string: labels must be 0 or 1, as numbers"),
        (with_label([0] * 2000), "training labels 'click' are all 0"),
        (replaced("x_2", pa.array(["a"] * 2000)), "column 'x_2' is string, which cannot be numeric"),
        (replaced("seen", pa.array([[1]] * 2000)), "column 'seen' is list.*cannot be a delimited sequence"),
        (replaced("x_2", pa.nulls(2000, pa.float32())), "column 'x_2' has no number in the training rows"),
        (replaced("color", pa.nulls(2000, pa.string())), "column 'color' has no value in the training rows"),
        (replaced("id", pa.array(["same"] * 2000)), "1999 rows share their id"),
        (replaced("id", pa.nulls(2000, pa.string())), "id column 'id' has nulls"),
        (replaced("day", pa.nulls(2000, pa.string())), "day column 'day' has nulls"),
        (small_table().slice(0, 0), "has no rows"),
    ],
)
def test_bad_input_gives_a_one_line_error_and_no_output(tmp_path: Path, table: pa.Table, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        prepare_small(table, tmp_path / "raw", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_label_condition_that_no_row_meets_is_shown(tmp_path: Path) -> None:
    """YAML reads an unquoted yes as true."""
    schema = small_schema(label={"column": "click", "values": [True]})
    table = with_label(["yes", "no"] * 1000)
    with pytest.raises(InputError, match=r"training labels 'click' \(1 for the values 'true'\) are all 0"):
        prepare_small(table, tmp_path / "raw", tmp_path / "out", schema)


@pytest.mark.parametrize(("size", "message"), [(0, r"is empty \(0 bytes\)"), (5000, "is not a complete parquet file")])
def test_truncated_files_are_refused(tmp_path: Path, size: int, message: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pq.write_table(small_table(), raw / "train.parquet")
    os.truncate(raw / "train.parquet", size)
    with pytest.raises(InputError, match=rf"train.parquet {message}"):
        prepare(small_schema(), RawFiles(train=("train.parquet",)), PrepareConfig(), raw, tmp_path / "out", "x")


def test_corrupt_pages_are_refused_and_leave_no_finished_folder(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    path = raw / "train.parquet"
    pq.write_table(small_table(), path, compression="zstd", use_dictionary=False)
    offset = pq.ParquetFile(path).metadata.row_group(0).column(4).data_page_offset
    data = bytearray(path.read_bytes())
    data[offset : offset + 400] = b"\xff" * 400
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read to the end"):
        prepare(small_schema(), RawFiles(train=("train.parquet",)), PrepareConfig(), raw, tmp_path / "out", "x")
    with pytest.raises(InputError, match="has no DONE file"):
        PreparedDataset.open(tmp_path / "out")


def test_a_later_file_without_a_column_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pq.write_table(small_table(), raw / "a.parquet")
    pq.write_table(small_table().drop_columns(["x_2"]), raw / "b.parquet")
    with pytest.raises(InputError, match=r"b.parquet has no column 'x_2'"):
        prepare(small_schema(), RawFiles(train=(".",)), PrepareConfig(), raw, tmp_path / "out", "x")


def test_test_files_need_no_label_and_may_hold_unseen_values(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pq.write_table(small_table(), raw / "train.parquet")
    unseen = replaced("color", pa.array(["purple"] * 2000)).drop_columns(["click", "day"])
    pq.write_table(unseen, raw / "test.parquet")
    files = RawFiles(train=("train.parquet",), test=("test.parquet",))
    prepare(small_schema(), files, PrepareConfig(min_count=3), raw, tmp_path / "out", "x")
    dataset = PreparedDataset.open(tmp_path / "out")
    assert dataset.predefined_splits == ()
    rows = dataset.partition_rows("test")(np.arange(3))
    assert np.isnan(dataset.store.labels(rows)).all()
    assert dataset.store.read_sparse(rows)[:, 0].tolist() == [1, 1, 1]


def test_a_type_that_differs_between_files_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pq.write_table(small_table(), raw / "train.parquet")
    shop = pa.array([str(shop) for shop in small_table()["shop"].to_pylist()])
    pq.write_table(replaced("shop", shop), raw / "test.parquet")
    files = RawFiles(train=("train.parquet",), test=("test.parquet",))
    with pytest.raises(InputError, match=r"test.parquet: column 'shop' is string, but is float in .*train.parquet"):
        prepare(small_schema(), files, PrepareConfig(), raw, tmp_path / "out", "x")
