"""The same rows written by pandas, polars, DuckDB and pyarrow, with the types of each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.raw.opening import open_rows_to_score, open_source
from recsys.schema.config import SchemaConfig
from tests.helpers.small import prepare_small, small_schema, small_table

Write = Callable[[pa.Table, Path], None]
ROWS = np.arange(2000)


def by_pandas(table: pa.Table, path: Path) -> None:
    pytest.importorskip("pandas")
    table.to_pandas().to_parquet(path, row_group_size=701)


def by_pandas_categories(table: pa.Table, path: Path) -> None:
    pytest.importorskip("pandas")
    frame = table.to_pandas()
    frame.astype({"color": "category", "day": "category"}).set_index("id").to_parquet(path)


def by_polars(table: pa.Table, path: Path) -> None:
    polars = pytest.importorskip("polars")
    polars.from_arrow(table).write_parquet(path, row_group_size=333)


def by_polars_categories(table: pa.Table, path: Path) -> None:
    polars = pytest.importorskip("polars")
    color = polars.col("color").cast(polars.Categorical)
    polars.from_arrow(table).with_columns(color).write_parquet(path, statistics=False)


def by_duckdb(table: pa.Table, path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.register("raw", table)
        connection.execute(f"COPY raw TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")


def by_duckdb_decimals(table: pa.Table, path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    chosen = "* REPLACE (shop::DECIMAL(9, 2) AS shop, x_10::DECIMAL(4, 1) AS x_10)"
    with duckdb.connect() as connection:
        connection.register("raw", table)
        connection.execute(f"COPY (SELECT {chosen} FROM raw) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def with_views(table: pa.Table, path: Path) -> None:
    for index, column in enumerate(table.column_names):
        if pa.types.is_string(table.schema.field(index).type):
            table = table.set_column(index, column, table[column].cast(pa.string_view()))
    pq.write_table(table, path)


def in_uneven_groups(table: pa.Table, path: Path) -> None:
    with pq.ParquetWriter(path, table.schema, compression="none", version="1.0") as writer:
        for start, stop in ((0, 1), (1, 1), (1, 900), (900, 907), (907, 2000)):
            writer.write_table(table.slice(start, stop - start))


@pytest.mark.parametrize(
    "write",
    [
        *(by_pandas, by_pandas_categories, by_polars, by_polars_categories, by_duckdb, by_duckdb_decimals),
        *(with_views, in_uneven_groups),
    ],
)
def test_result_does_not_depend_on_the_writer_of_a_file(small: PreparedDataset, tmp_path: Path, write: Write) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write(small_table(), raw / "train.parquet")
    config, files = PrepareConfig(min_count=3), RawFiles(train=("train.parquet",))
    prepare(small_schema(), files, config, raw, tmp_path / "out", "small")
    other = PreparedDataset.open(tmp_path / "out")
    for name in (layout.VOCAB_FILE, layout.STATS_FILE, layout.GROUPS_FILE):
        assert (other.folder / name).read_bytes() == (small.folder / name).read_bytes(), name
    assert other.store.row_ids(ROWS).to_pylist() == small.store.row_ids(ROWS).to_pylist()
    assert np.array_equal(other.store.read_sparse(ROWS), small.store.read_sparse(ROWS))
    assert np.array_equal(other.store.read_measured(ROWS), small.store.read_measured(ROWS), equal_nan=True)
    assert np.array_equal(other.store.read_tokens("seen", ROWS)[0], small.store.read_tokens("seen", ROWS)[0])


def codes_of(folder: Path, train: pa.Array, test: pa.Array) -> np.ndarray:
    """The codes of test rows in the vocabulary of all training values."""
    folder.mkdir(exist_ok=True)
    n = len(train)
    pq.write_table(pa.table({"c": train, "click": [i % 2 for i in range(n)]}), folder / "train.parquet")
    pq.write_table(pa.table({"c": test}), folder / "test.parquet")
    files = RawFiles(train=("train.parquet",), test=("test.parquet",))
    schema = SchemaConfig(label="click", categorical=("c",))
    prepare(schema, files, PrepareConfig(min_count=1, n_folds=2), folder, folder / "out", "types")
    dataset = PreparedDataset.open(folder / "out")
    return dataset.store.read_sparse(dataset.partition_rows("test")(np.arange(len(test))))[:, 0]


DATES = ["2024-01-01", "2024-02-29", "1969-12-31"]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (pa.array([1, 2, 3]), pa.array([1.0, 2.0, 3.0], pa.float32())),
        (pa.array([1, 2, 3], pa.uint64()), pa.array([1, 2, 3], pa.int8())),
        (pa.array([0.5, 2.0, -3.25]), pa.array([0.5, 2.0, -3.25]).cast(pa.decimal128(9, 4))),
        (pa.array(["a", "b", "ü"]), pa.array(["a", "b", "ü"]).dictionary_encode()),
        (pa.array([" a", "b", "c"]), pa.array(["a", "b ", "c"], pa.large_string())),
        (pa.array(DATES).cast(pa.timestamp("ns")), pa.array(DATES).cast(pa.timestamp("ms"))),
        (pa.array(DATES).cast(pa.timestamp("us")), pa.array(DATES).cast(pa.date32())),
        (pa.array([0, 1, 10**9], pa.timestamp("s", "UTC")), pa.array([0, 10**6, 10**15], pa.timestamp("us", "UTC"))),
        (pa.array([1, 10, 90], pa.time32("s")), pa.array([10**6, 10**7, 9 * 10**7], pa.time64("us"))),
    ],
)
def test_the_same_values_of_another_type_have_the_same_codes(tmp_path: Path, train: pa.Array, test: pa.Array) -> None:
    codes = codes_of(tmp_path / "case", train, test).tolist()
    assert sorted(codes) == [2, 3, 4]
    assert codes == codes_of(tmp_path / "same", train, train).tolist()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (pa.array([1, 0, 1]), pa.array([True, False, True])),
        (pa.array(["1", "0", "1"]), pa.array([1, 0, 1])),
        (pa.array(DATES), pa.array(DATES).cast(pa.timestamp("ns"))),
    ],
)
def test_values_of_incompatible_types_are_refused(tmp_path: Path, train: pa.Array, test: pa.Array) -> None:
    with pytest.raises(
        InputError, match="test.parquet: column 'c' is .*, but is .* in .*train.parquet, and their values"
    ):
        codes_of(tmp_path / "case", train, test)


@pytest.mark.parametrize("dtype", [pa.float16(), pa.float32(), pa.float64()])
def test_float_ids_that_are_not_exact_are_refused(tmp_path: Path, dtype: pa.DataType) -> None:
    exact = {16: 2047.0, 32: 16_777_215.0, 64: 9_007_199_254_740_991.0}[dtype.bit_width]
    few = pa.array([exact, exact - 1, -exact]).cast(dtype, safe=False)
    assert sorted(codes_of(tmp_path / "fine", few, few).tolist()) == [2, 3, 4]
    more = pa.array([exact + 1, exact - 1, 0.0]).cast(dtype, safe=False)
    with pytest.raises(InputError, match=f"column 'c' contains {exact + 1:.0f} as .* is not exact for whole numbers"):
        codes_of(tmp_path / "case", more, more)


def test_new_rows_need_the_types_of_the_training_rows(small: PreparedDataset, tmp_path: Path) -> None:
    manifest = small.manifest
    path = tmp_path / "new.parquet"
    for column, values, message in (
        ("shop", pa.array([True] * 2000), "column 'shop' is bool, but has kind number in the training data"),
        ("color", pa.array(range(2000)), "column 'color' is int64, but has kind text in the training data"),
        ("seen", pa.array([["1"]] * 2000), "column 'seen' is list.*, which cannot be a delimited sequence"),
    ):
        table = small_table()
        pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
        with pytest.raises(InputError, match=message):
            open_rows_to_score(manifest.schema_config, manifest.schema_, manifest.kinds, [str(path)], tmp_path)


def test_a_column_of_nulls_in_one_file(tmp_path: Path) -> None:
    """pandas writes a column of None with the null type."""
    table, raw = small_table(), tmp_path / "raw"
    raw.mkdir()
    empty = table.slice(1500)
    for name in ("color", "x_1", "seen"):
        empty = empty.set_column(empty.column_names.index(name), name, pa.nulls(500))
    pq.write_table(table.slice(0, 1500), raw / "b.parquet")
    pq.write_table(empty, raw / "a.parquet")  # read first
    prepare(small_schema(), RawFiles(train=(".",)), PrepareConfig(min_count=3), raw, tmp_path / "out", "small")
    dataset, first = PreparedDataset.open(tmp_path / "out"), np.arange(500)
    assert dataset.store.read_sparse(first)[:, 0].tolist() == [0] * 500
    assert np.isnan(dataset.store.read_measured(first)[:, 0]).all()
    assert dataset.store.read_tokens("seen", first)[1].tolist() == [0] * 500
    assert len(np.unique(dataset.store.read_sparse(np.arange(500, 2000))[:, 0])) > 3
    assert dataset.manifest.kinds["color"] == "text"


def test_column_names_of_any_kind(tmp_path: Path) -> None:
    names = {"color": "日本 色", "x_1": "a.b", "seen": "s/e'q\"", "click": "click?"}
    table = small_table().rename_columns([names.get(name, name) for name in small_table().column_names])
    changes = {
        "label": "click?",
        "categorical": ["日本 色"],
        "numeric": ["a.b"],
        "sequences": {"seen": {"kind": "delimited", "column": "s/e'q\""}},
        "segments": {},
    }
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", small_schema(**changes))
    assert len(dataset.vocabularies["日本 色"].values) == 4
    assert np.isfinite(dataset.split("full").batch(ROWS, ["seen"]).dense.numpy()).all()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = small_table()
    twice = pa.table([*table.columns, table["x_1"]], names=[*table.column_names, "x_1"])
    with pytest.raises(InputError, match="train.parquet has 2 columns named 'x_1': names must be unique"):
        prepare_small(twice, tmp_path / "raw", tmp_path / "out")


def test_values_with_the_separator_of_a_cross_stay_distinct(tmp_path: Path) -> None:
    pairs = [("a&b", "c"), ("a", "b&c"), ("a", ""), ("a", None), ("", "a"), ("\\", "&"), ("\\&", ""), (None, None)]
    table = pa.table(
        {
            "a": [a for a, _ in pairs] * 2,
            "b": [b for _, b in pairs] * 2,
            "click": [i % 2 for i in range(2 * len(pairs))],
        }
    )
    schema = SchemaConfig(label="click", crosses={"ab": ("a", "b")})
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema, min_count=1, n_folds=2)
    codes = dataset.store.read_sparse(np.arange(len(pairs)))[:, 0]
    assert len(set(codes.tolist())) == len(pairs)
    assert codes[-1] == 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_rows(tmp_path: Path, n: int) -> None:
    table = pa.table({"c": ["a"] * n, "x": np.arange(n), "click": [i % 2 for i in range(n)]})
    schema = SchemaConfig(label="click", categorical=("c",), numeric=("x",))
    if n == 1:
        with pytest.raises(InputError, match="training labels 'click' are all 0"):
            prepare_small(table, tmp_path / "raw", tmp_path / "out", schema)
        return
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema)
    assert dataset.split_names == ("full",)
    assert len(dataset.split("full").batch(np.arange(n), [])) == n


def test_sequences_of_a_hundred_thousand_tokens(tmp_path: Path) -> None:
    n = 100_000
    texts = [",".join(map(str, range(n))), "7", ",".join(["5"] * n), "", "," * n]
    table = pa.table({"s": texts * 2, "l": [list(range(n)), [7], [5] * n, [], None] * 2, "click": [0, 1] * 5})
    sequences = {
        "s": {"kind": "delimited", "max_length": 2, "statistics": True},
        "l": {"kind": "list", "max_length": 2, "statistics": True},
    }
    schema = SchemaConfig.model_validate({"label": "click", "sequences": sequences})
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema, min_count=1, n_folds=2)
    values = dataset.vocabularies["s"].values
    codes, lengths = dataset.store.read_tokens("s", np.arange(5))
    assert [values[code - 2].as_py() for code in codes] == ["99998", "99999", "7", "5", "5"]
    assert lengths.tolist() == [2, 1, 2, 0, 0]
    assert dataset.store.read_tokens("l", np.arange(5))[1].tolist() == [2, 1, 2, 0, 0]
    length, distinct, diversity, entropy = dataset.store.read_measured(np.arange(5))[:, :4].T
    assert length.tolist() == [n, 1, n, 0, 0]
    assert distinct.tolist() == [n, 1, 1, 0, 0]
    assert diversity.tolist() == pytest.approx([1, 1, 1 / n, 0, 0])
    assert entropy.tolist() == pytest.approx([np.log(n), 0, 0, 0, 0], abs=1e-5)
    assert np.array_equal(
        dataset.store.read_measured(np.arange(3))[:, 4:], dataset.store.read_measured(np.arange(3))[:, :4]
    )


def test_numbers_of_any_size(tmp_path: Path) -> None:
    """Tiny values are standardized; values beyond float32 are clipped to the column's largest float32 value."""
    tiny = np.array([1e-12, 2e-12, 3e-12, 4e-12] * 5)
    huge = np.array([1e300, 1.0, 2.0, 3.0] * 5)
    table = pa.table({"tiny": tiny, "huge": huge, "click": [0, 1] * 10})
    schema = SchemaConfig(label="click", numeric=("tiny", "huge"))
    dataset = prepare_small(
        table, tmp_path / "raw", tmp_path / "out", schema, clip_quantile=0.0, numeric_transform="standardize"
    )
    dense = dataset.split("full").batch(np.arange(4), []).dense.numpy()
    assert dense[:, 0] == pytest.approx((tiny[:4] - tiny.mean()) / tiny.std(), rel=1e-5)
    assert dense[0, 1] == dense[3, 1]


def test_large_rows_are_decoded_in_small_batches(tmp_path: Path) -> None:
    text = ",".join(map(str, np.random.default_rng(0).integers(0, 10**6, 50_000)))
    table = pa.table({"s": [text + str(i) for i in range(200)], "x": np.arange(200), "click": [0, 1] * 100})
    pq.write_table(table, tmp_path / "train.parquet", use_dictionary=False)
    sequences = {"s": {"kind": "delimited", "max_length": 2}}
    schema = SchemaConfig.model_validate({"label": "click", "numeric": ["x"], "sequences": sequences})
    source = open_source(schema, RawFiles(train=("train.parquet",)), tmp_path)
    sizes = [block.table.num_rows for block in source.blocks("train", ["s"])]
    assert sum(sizes) == 200
    assert max(sizes) < 200  # 340 kB a row
    assert [block.table.num_rows for block in source.blocks("train", ["x"])] == [200]
