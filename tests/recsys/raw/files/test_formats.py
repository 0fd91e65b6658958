"""CSV and TSV files give the numbers of their parquet twin; partition folders give columns; many small files."""

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.raw.opening import open_rows_to_score
from recsys.runs.rows_to_score import FileRows
from recsys.schema.config import SchemaConfig
from tests.helpers.small import small_schema, small_table

FILES = (layout.VOCAB_FILE, layout.STATS_FILE, layout.GROUPS_FILE, layout.ROWS_FILE, "tokens_seen.arrow")


def prepared(folder: Path, *train: str, schema: SchemaConfig | None = None, **files: Any) -> PreparedDataset:
    out = folder / f"out-{len(list(folder.glob('out-*')))}"
    config = PrepareConfig(min_count=3, n_folds=2)
    prepare(schema or small_schema(), RawFiles(train=train, **files), config, folder, out, "small")
    return PreparedDataset.open(out)


def write_csv(table: pa.Table, path: Path, delimiter: str = ",") -> None:
    pa_csv.write_csv(table, path, pa_csv.WriteOptions(delimiter=delimiter))


def write_csv_with_points(table: pa.Table, path: Path) -> None:
    """Writes whole numbers in columns of floats as 1.0, as pandas does."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table.column_names)
        writer.writeheader()
        writer.writerows(table.to_pylist())


def write_tsv_gz(table: pa.Table, path: Path) -> None:
    plain = path.with_suffix("")
    write_csv(table, plain, "\t")
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


@pytest.mark.parametrize(
    ("name", "write"), [("a.csv", write_csv), ("a.csv", write_csv_with_points), ("a.tsv.gz", write_tsv_gz)]
)
def test_a_csv_file_gives_the_numbers_of_its_parquet_twin(tmp_path: Path, name: str, write: Any) -> None:
    table = small_table()
    pq.write_table(table, tmp_path / "twin.parquet")
    write(table, tmp_path / name)
    twin, ours = prepared(tmp_path, "twin.parquet"), prepared(tmp_path, name)
    for file in FILES:
        assert (ours.folder / file).read_bytes() == (twin.folder / file).read_bytes(), file
    rows = np.arange(2000)
    assert ours.store.row_ids(rows).to_pylist() == twin.store.row_ids(rows).to_pylist()
    assert ours.manifest.holdout_day == twin.manifest.holdout_day == "7"


def test_csv_and_parquet_files_of_one_data_set(tmp_path: Path) -> None:
    table = small_table()
    pq.write_table(table, tmp_path / "twin.parquet")
    pq.write_table(table.slice(0, 1200), tmp_path / "a.parquet")
    write_csv_with_points(table.slice(1200), tmp_path / "b.csv")
    twin, mixed = prepared(tmp_path, "twin.parquet"), prepared(tmp_path, "a.parquet", "b.csv")
    for file in FILES:
        assert (mixed.folder / file).read_bytes() == (twin.folder / file).read_bytes(), file


def test_rows_to_score_may_be_csv(tmp_path: Path) -> None:
    table = small_table()
    pq.write_table(table, tmp_path / "train.parquet")
    write_csv_with_points(table.slice(0, 50), tmp_path / "new.csv")
    manifest = prepared(tmp_path, "train.parquet").manifest
    source = open_rows_to_score(manifest.schema_config, manifest.schema_, manifest.kinds, ["new.csv"], tmp_path)
    assert source.schema.form_of("shop").text_as == "numbers"
    (block,) = source.blocks("test", ["x_1", "shop"])
    assert block.table["x_1"].to_pylist() == pytest.approx(
        [None if x is None else pytest.approx(x, rel=1e-6) for x in table["x_1"].to_pylist()[:50]]
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"y,c\n", "has no rows"),
        (b"y,c\n1,a\n0\n", "is not a readable CSV file .*Expected 2 columns, got 1"),
        (b"y,c\n1,caf\xe9\n0,a\n", "column 'c' has bytes that are not UTF-8 in row 0"),
        (b"y,caf\xe9\n1,a\n", "the header is not UTF-8"),
        ("y,c\n1,a\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        (b"y,c\n1,a\nno,b\n", "column 'y' contains 'no' in row 1, which is not a number: write 0 and 1, or name the"),
        (b"y;c\n1;a\n0;b\n", "the header has no comma but semicolons: write it with commas"),
        (b"y;x\n1;1,5\n0;2,5\n", "the header has no comma but semicolons"),
        (b"\n\n", "is not a readable CSV file"),
        (b"y\tc\n1\ta\n0\tb\n", "the header has no comma but tabs"),
        (b'y,x\n1,2\n0,"1,45"\n', "column 'x' contains '1,45' in row 1, which is not a number: write decimals with a"),
        (b'y,x\n1,2\n0,"1.000,5"\n', "'1.000,5' in row 1, which is not a number: write decimals with a point"),
        (b'y,x\n1,2\n0,"1,000.5"\n', "'1,000.5' in row 1, which is not a number: correct it"),
        (
            b"y,x\n1,2\n0,2026-03-01 00:00:50\n",
            "in row 1, which is not a number: a time can be schema.day; for a feature",
        ),
        (
            b"y;c, USD;x\n1;2;3\n",
            "is not a readable CSV file .*; its header also has semicolons, which separate no cells",
        ),
        (b"y,c,c\n1,a,b\n", "has 2 columns named 'c'"),
        (b"y,x\n1,2\n0,1;5\n", "column 'x' contains '1;5' in row 1, which is not a number"),
    ],
)
def test_broken_csv_files_are_refused_by_name_and_row(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    schema = (
        SchemaConfig(label="y", categorical=("c*",)) if b"x" not in data else SchemaConfig(label="y", numeric=("x",))
    )
    with pytest.raises(InputError, match=f"a.csv.*{message}") as caught:
        prepared(tmp_path, "a.csv", schema=schema)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [("False", "True"), ("false", "TRUE ")])
def test_words_of_booleans_in_columns_of_numbers_are_1_and_0(tmp_path: Path, words: tuple[str, str]) -> None:
    """A label and a numeric column, as pandas writes booleans; nulls stay null."""
    schema = SchemaConfig(label="y", numeric=("x",))
    figures = [(n % 2, None if n % 7 == 0 else n % 3 == 0) for n in range(60)]
    rows = [f"{words[y]},{'' if x is None else words[x]}" for y, x in figures]
    (tmp_path / "words.csv").write_text("\n".join(["y,x", *rows]))
    pq.write_table(pa.table({"y": [y for y, _ in figures], "x": [x for _, x in figures]}), tmp_path / "typed.parquet")
    by_words, typed = (prepared(tmp_path, name, schema=schema) for name in ("words.csv", "typed.parquet"))
    rows_read = np.arange(len(figures))
    assert by_words.store.labels(rows_read).tolist() == typed.store.labels(rows_read).tolist()
    for name in (layout.STATS_FILE, layout.ROWS_FILE):
        assert (by_words.folder / name).read_bytes() == (typed.folder / name).read_bytes()


def test_files_of_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(
        InputError, match=r"a.xlsx is neither a parquet file nor, by its name, a CSV or TSV file \(.csv"
    ):
        prepared(tmp_path, "a.xlsx")


def values_of(dataset: PreparedDataset, column: str) -> list[str]:
    names = ["<missing>", "<rare>", *dataset.vocabularies[column].values.to_pylist()]
    codes = dataset.store.read_sparse(np.arange(dataset.n_rows))
    return [names[code] for code in codes[:, dataset.manifest.schema_.categorical.index(column)]]


@pytest.mark.parametrize(
    ("typed", "cells", "expected"),
    [
        (pa.array([7 * 3600], pa.time32("s")), ["07:00:00"], ["07:00:00"]),
        (pa.array([True]), ["True"], ["true"]),
        (pa.array([0], pa.timestamp("ms", "Asia/Seoul")), ["1970-01-01T00:00:00Z"], ["1970-01-01 00:00:00Z"]),
        (pa.array(["5"]), ["5.0"], ["5"]),
        (pa.array([0.5]), ["0.50"], ["0.5"]),
        (pa.array([0.5, float("nan")]), ["0.5", "NaN"], ["0.5", "<missing>"]),
    ],
)
def test_a_cell_of_csv_is_a_value_of_the_typed_files(
    tmp_path: Path, typed: pa.Array, cells: list[str], expected: list[str]
) -> None:
    label, rows = [0, 0, 1, 1], [0, len(cells) - 1] * 2
    pq.write_table(pa.table({"y": label, "c": typed.take(pa.array(rows)), "d": label}), tmp_path / "a.parquet")
    lines = [f"{y},{cells[row]},{y}" for y, row in zip(label, rows, strict=True)]
    (tmp_path / "b.csv").write_text("\n".join(["y,c,d", *lines, ""]))
    dataset = prepared(tmp_path, "a.parquet", "b.csv", schema=SchemaConfig(label="y", categorical=("d", "c")))
    assert values_of(dataset, "c") == [expected[row] for row in rows] * 2


def test_a_csv_file_has_no_lists(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [0, 1], "s": [["a"], ["b"]]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("y,s\n0,\"['a']\"\n")
    schema = SchemaConfig.model_validate({"label": "y", "sequences": {"s": {"kind": "list"}}})
    with pytest.raises(InputError, match=r"b.csv: column 's' is string, which cannot be a list sequence"):
        prepared(tmp_path, "a.parquet", "b.csv", schema=schema)


def test_an_empty_line_of_one_column_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("y,c\n" + "0,1\n1,2\n0,3\n" * 3)
    (tmp_path / "test.csv").write_text("c\n1\n\n2\n\n3\n")
    dataset = prepared(tmp_path, "train.csv", test=("test.csv",), schema=SchemaConfig(label="y", categorical=("c",)))
    assert values_of(dataset, "c")[9:] == ["1", "<missing>", "2", "<missing>", "3"]


def test_numbers_are_scored_after_training_on_csv_if_they_can_be_equal(tmp_path: Path) -> None:
    for name, cells in (("whole", "123"), ("written", ("1.0", "0.50", "3"))):
        folder = tmp_path / name
        folder.mkdir()
        rows = [f"{k % 2},{cells[k % 3]}" for k in range(12)]
        (folder / "a.csv").write_text("\n".join(["y,c", *rows, ""]))
        dataset = prepared(folder, "a.csv", schema=SchemaConfig(label="y", categorical=("c",)))
        pq.write_table(pa.table({"c": [1.0, 2.0]}), folder / "new.parquet")
        if name == "whole":
            (_, rows_to_score) = next(FileRows(dataset, [folder / "new.parquet"]).blocks())
            assert rows_to_score.sparse[:, 0].min() > 1
        else:
            with pytest.raises(
                InputError, match=r"vocabulary 'c' was prepared from CSV files, with text such as '0.50'"
            ):
                FileRows(dataset, [folder / "new.parquet"])


@pytest.mark.parametrize("key", [pa.array([0, 1], pa.date32()), pa.array([0.0, 1.0]), pa.array([False, True])])
def test_a_side_table_in_csv_has_the_type_of_the_data(tmp_path: Path, key: pa.Array) -> None:
    pq.write_table(pa.table({"y": [0, 1] * 4, "k": key.take(pa.array([0, 1] * 4))}), tmp_path / "a.parquet")
    pa_csv.write_csv(pa.table({"k": key, "name": ["first", "second"]}), tmp_path / "side.csv")
    tables = {"t": {"file": "side.csv", "key": "k", "columns": ["name"]}}
    schema = SchemaConfig.model_validate({"label": "y", "categorical": ["name"], "side_tables": tables})
    dataset = prepared(tmp_path, "a.parquet", schema=schema)
    assert values_of(dataset, "name") == ["first", "second"] * 4


def test_partition_folders_are_columns(tmp_path: Path) -> None:
    table = small_table().drop_columns(["day", "color"])
    day, color = np.array(small_table()["day"]), small_table()["color"]
    for value in range(1, 8):
        for name in ("red", "green", "blue", "grey", None):
            rows = np.flatnonzero((day == value) & np.array([c == name for c in color.to_pylist()]))
            folder = tmp_path / "hive" / f"day=2025-01-{value:02d}" / f"color={name or '__HIVE_DEFAULT_PARTITION__'}"
            folder.mkdir(parents=True)
            pq.write_table(table.take(pa.array(rows)), folder / "part-0.parquet")
    iso = pa.array([f"2025-01-{value:02d}" for value in day])
    pq.write_table(table.append_column("day", iso).append_column("color", color), tmp_path / "flat.parquet")
    flat, hive = prepared(tmp_path, "flat.parquet"), prepared(tmp_path, "hive")
    assert hive.manifest.holdout_day == flat.manifest.holdout_day == "2025-01-07"
    for file in (layout.VOCAB_FILE, layout.GROUPS_FILE):
        assert (hive.folder / file).read_bytes() == (flat.folder / file).read_bytes(), file


def test_thousands_of_small_files_are_read_in_few_blocks(tmp_path: Path) -> None:
    table = small_table()
    (tmp_path / "many").mkdir()
    for start in range(0, 2000, 50):
        pq.write_table(table.slice(start, 50), tmp_path / "many" / f"{start:04d}.parquet")
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=7)
    one, many = prepared(tmp_path, "one.parquet"), prepared(tmp_path, "many")
    for file in FILES:
        assert (many.folder / file).read_bytes() == (one.folder / file).read_bytes(), file
    manifest = many.manifest
    source = open_rows_to_score(manifest.schema_config, manifest.schema_, manifest.kinds, ["many"], tmp_path)
    (block,) = source.blocks("test", ["x_1"])
    path, row = block.place(1234)
    assert (path.name, row) == ("1200.parquet", 34)
    assert pc.equal(block.table["x_1"][1234], table["x_1"][1234]).as_py()


def test_all_files_of_a_split_have_the_id_and_the_label_or_none(tmp_path: Path) -> None:
    pq.write_table(small_table(), tmp_path / "train.parquet")
    (tmp_path / "test").mkdir()
    pq.write_table(small_table(), tmp_path / "test" / "a.parquet")
    pq.write_table(small_table().drop_columns(["click"]), tmp_path / "test" / "b.parquet")
    with pytest.raises(InputError, match=r"b.parquet has no label column 'click', but .*a.parquet has one"):
        prepared(tmp_path, "train.parquet", test=("test",))


def test_a_column_that_only_crosses_read_is_scored_by_its_values(tmp_path: Path) -> None:
    columns = {"y": [0, 1] * 12, "a": [0.5, 1.5, 2.0] * 8, "b": ["x", "y"] * 12}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    (tmp_path / "train.csv").write_text(
        "\n".join(["y,a,b", *(f"{y},{a}0,{b}" for y, a, b in zip(*columns.values(), strict=True)), ""])
    )
    (tmp_path / "new.csv").write_text("a,b\n0.50,x\n2.0,y\n")
    schema = SchemaConfig.model_validate({"label": "y", "crosses": {"ab": ["a", "b"]}})
    (_, rows) = next(FileRows(prepared(tmp_path, "train.parquet", schema=schema), [tmp_path / "new.csv"]).blocks())
    assert rows.sparse[:, 0].min() > 1
    pq.write_table(pa.table(columns).drop_columns(["y"]), tmp_path / "new.parquet")
    with pytest.raises(InputError, match="column 'a', which crosses read, was text in CSV files"):
        FileRows(prepared(tmp_path, "train.csv", schema=schema), [tmp_path / "new.parquet"])


def test_a_message_about_a_block_of_small_files_names_its_first_and_last(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, value in (("a", 1.0), ("b", 2.0**24), ("c", 3.0)):
        pq.write_table(
            pa.table({"y": [0, 1], "c": pa.array([value] * 2, pa.float32())}), tmp_path / "d" / f"{name}.parquet"
        )
    with pytest.raises(InputError, match=r"^one of .*a.parquet to .*c.parquet: column 'c' contains 16777216 as float"):
        prepared(tmp_path, "d", schema=SchemaConfig(label="y", categorical=("c",)))
