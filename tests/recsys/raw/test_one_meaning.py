"""A value has one meaning in every file and role: side tables, shared tables, logs, ids; or it is refused."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

N = 40
K = np.arange(N)
LABEL = pa.array(K % 2)


def prepared(folder: Path, files: dict[str, dict[str, Any]], side: dict[str, Any] | None = None, **schema: Any) -> Any:
    """Prepares train files `a`, `b` and a test file `test`."""
    for name, columns in files.items():
        pq.write_table(pa.table(columns if name == "test" else {"y": LABEL} | columns), folder / f"{name}.parquet")
    if side is not None:
        pq.write_table(pa.table(side), folder / "side.parquet")
    train = tuple(f"{name}.parquet" for name in files if name != "test")
    raw = RawFiles(train=train, test=("test.parquet",) if "test" in files else ())
    config = SchemaConfig.model_validate({"label": "y"} | schema)
    prepare(config, raw, PrepareConfig(min_count=1, n_folds=2), folder, folder / "out", "x")
    return PreparedDataset.open(folder / "out")


def values_of(dataset: PreparedDataset, column: str) -> list[str]:
    names = ["<missing>", "<rare>", *dataset.vocabularies[column].values.to_pylist()]
    codes = dataset.store.read_sparse(np.arange(dataset.n_rows))
    return [names[code] for code in codes[:, dataset.manifest.schema_.categorical.index(column)]]


def tokens_of(dataset: PreparedDataset, name: str, vocabulary: str) -> list[list[str]]:
    names = ["<missing>", "<rare>", *dataset.vocabularies[vocabulary].values.to_pylist()]
    codes, lengths = dataset.store.read_tokens(name, np.arange(dataset.n_rows))
    ends = np.cumsum(lengths)
    return [[names[code] for code in codes[end - n : end]] for end, n in zip(ends, lengths, strict=True)]


FIVE = K % 5
SIDE_KEYS = [
    (pa.array(["x" if k == 3 else str(k % 5) for k in K]), pa.array(range(5))),
    (pa.array([f"{k % 5}.0" if k != 3 else None for k in K]), pa.array(range(5))),
    (pa.array(np.where(K == 3, np.nan, FIVE.astype(float))), pa.array(range(5))),
    (pa.array(np.where(K == 3, 0.5, FIVE.astype(float))), pa.array(range(5))),
    (pa.array(np.where(K == 3, 2**31, FIVE)), pa.array(range(5), pa.int32())),
    (pa.array([2**64 - 1 if k == 3 else k % 5 for k in K], pa.uint64()), pa.array(range(5))),
    (pa.array(np.where(K == 3, 7, FIVE)), pa.array([Decimal(k) for k in range(5)], pa.decimal128(10, 2))),
    (pa.array(np.where(K == 3, 7, FIVE)), pa.array([str(k) for k in range(5)])),
    (pa.array([f"v{k % 5 if k != 3 else 9}" for k in K]), pa.array([f"v{k}" for k in range(5)]).dictionary_encode()),
]


@pytest.mark.parametrize(("keys", "side_keys"), SIDE_KEYS)
def test_side_tables_are_joined_by_the_value_of_the_key(tmp_path: Path, keys: pa.Array, side_keys: pa.Array) -> None:
    tables = {"ads": {"file": "side.parquet", "key": "ad", "columns": ["brand"]}}
    side = {"ad": side_keys, "brand": list("abcde")}
    dataset = prepared(tmp_path, {"a": {"ad": keys}}, side, categorical=["brand"], side_tables=tables)
    expected = ["abcde"[k % 5] for k in K]
    expected[3] = "<missing>"
    assert values_of(dataset, "brand") == expected


@pytest.mark.parametrize(
    ("key", "side_key", "message"),
    [
        (
            pa.array(K, pa.timestamp("us")),
            pa.array([0], pa.timestamp("us", "UTC")),
            "contain values of different kinds",
        ),
        (
            pa.array(K % 2 == 0),
            pa.array([0, 1]),
            r"column 'ad' of .*a.parquet \(bool\) and column 'ad' of .*side.parquet",
        ),
        (pa.array(FIVE), pa.array([1, None]), "key 'ad' is null in row 1"),
        (pa.array(FIVE), pa.array(["1", "01"]), "key 'ad' is repeated in some rows .such as '1'"),
    ],
)
def test_keys_that_cannot_meet_are_refused(tmp_path: Path, key: pa.Array, side_key: pa.Array, message: str) -> None:
    tables = {"ads": {"file": "side.parquet", "key": "ad", "columns": ["brand"]}}
    side = {"ad": side_key, "brand": ["a"] * len(side_key)}
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, {"a": {"ad": key}}, side, categorical=["brand"], side_tables=tables)


@pytest.mark.parametrize(
    ("items", "sequence", "kind"),
    [
        (pa.array(FIVE), pa.array([f"{k % 5}.0, 0{k % 3}," for k in K]), "delimited"),
        (pa.array(FIVE.astype(np.float32)), pa.array([[float(k % 5), float("nan"), k % 3, None] for k in K]), "list"),
        (pa.array([str(k % 5) for k in K]), pa.array([[k % 5, k % 3] for k in K], pa.list_(pa.int16())), "list"),
        (pa.array([Decimal(int(k) % 5) for k in K]), pa.array([[str(k % 5), f"{k % 3}.0"] for k in K]), "list"),
    ],
)
def test_tokens_meet_the_items_whose_table_they_share(
    tmp_path: Path, items: pa.Array, sequence: pa.Array, kind: str
) -> None:
    seen = {"kind": kind, "vocabulary": "item"}
    dataset = prepared(
        tmp_path, {"a": {"item": items, "seen": sequence}}, categorical=["item"], sequences={"seen": seen}
    )
    assert values_of(dataset, "item") == [str(k) for k in FIVE]
    assert tokens_of(dataset, "seen", "item") == [[str(k % 5), str(k % 3)] for k in K]


def test_columns_that_share_a_table_have_one_kind(tmp_path: Path) -> None:
    columns = {"item": pa.array(K.astype(np.int32), pa.date32()), "seen": pa.array([[k] for k in K])}
    seen = {"kind": "list", "vocabulary": "item"}
    message = (
        r"vocabulary 'item': column 'item' of .* \(date32.*\) and column 'seen' .* different kinds \(time, number\)"
    )
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, {"a": columns}, categorical=["item"], sequences={"seen": seen})


def test_fractions_of_two_widths_meet_over_files_and_crosses(tmp_path: Path) -> None:
    value, other = K / 10, pa.array((K % 3).astype(str))
    files = {
        "a": {"c": pa.array(value), "d": other},
        "b": {"c": pa.array(value.astype(np.float32)), "d": other},
        "test": {"c": pa.array(value.astype(np.float32).astype(float)), "d": other},
    }
    dataset = prepared(tmp_path, files, categorical=["c"], crosses={"cd": ["c", "d"]})
    values, crosses = values_of(dataset, "c"), values_of(dataset, "cd")
    assert values[:N] == values[N : 2 * N] == values[2 * N :] == [f"{k / 10:g}" for k in K]
    assert crosses[:N] == crosses[N : 2 * N] == crosses[2 * N :]


SECOND_FILES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "widths": ({"t": pa.array(K, pa.int32())}, {"t": pa.array(K + N)}),
    "texts": ({}, {"user": pa.array([f"u{k % 3}" for k in K], pa.large_string())}),
    "categories": ({}, {"user": pa.array([f"u{k % 3}" for k in K]).dictionary_encode()}),
    "units": ({"t": pa.array(K, pa.timestamp("us"))}, {"t": pa.array(1000 * (K + N), pa.timestamp("ns"))}),
    "zones": (
        {"t": pa.array(K, pa.timestamp("us", "UTC"))},
        {"t": pa.array(K + N, pa.timestamp("us", "America/New_York"))},
    ),
    "floats": ({}, {"t": (K + N).astype(float), "item": (K % 9).astype(float)}),
    "decimals": ({}, {"t": pa.array([Decimal(int(k)) for k in K + N], pa.decimal128(12, 3))}),
}


@pytest.mark.parametrize("kind", SECOND_FILES)
def test_histories_and_last_rows_over_files_of_other_types(tmp_path: Path, kind: str) -> None:
    user = pa.array([f"u{k % 3}" for k in K])
    first, second = SECOND_FILES[kind]
    files = {
        "a": {"user": user, "item": K % 9, "t": K} | first,
        "b": {"user": user, "item": K % 9, "t": K + N} | second,
    }
    log = {"kind": "log", "key": "user", "item": "item", "order": "t", "max_length": 3}
    split = {"key": "user", "order": "t"}
    dataset = prepared(tmp_path, files, categorical=["item"], sequences={"seen": log}, split=split)
    users, items = [f"u{k % 3}" for k in K] * 2, [str(k % 9) for k in K] * 2
    expected = [[items[j] for j in range(k) if users[j] == users[k]][-3:] for k in range(2 * N)]
    assert tokens_of(dataset, "seen", "item") == expected
    assert sorted(dataset.partition_rows("test").numbers()) == [2 * N - 3, 2 * N - 2, 2 * N - 1]


@pytest.mark.parametrize("column", ["t", "user"])
def test_an_empty_column_of_one_file(tmp_path: Path, column: str) -> None:
    files = {
        "a": {"user": K % 3, "item": K, "t": K},
        "b": {"user": K % 3, "item": K, "t": K} | {column: pa.nulls(N)},
    }
    log = {"kind": "log", "key": "user", "item": "item", "order": "t", "max_length": 1}
    dataset = prepared(tmp_path, files, categorical=["item"], sequences={"seen": log})
    tokens = tokens_of(dataset, "seen", "item")
    assert tokens[:N] == [[str(k - 3)] if k >= 3 else [] for k in K]
    assert tokens[N:] == [[]] * N


def ids(values: Sequence[Any], dtype: pa.DataType | None = None) -> dict[str, pa.Array]:
    return {"id": pa.array(values, dtype), "c": pa.array(K)}


@pytest.mark.parametrize(
    "second",
    [
        ids([str(k) for k in K]),
        ids(K.astype(float)),
        ids([Decimal(int(k)) for k in K], pa.decimal128(9, 2)),
        ids(K, pa.uint64()),
    ],
)
def test_one_id_of_two_types_is_repeated(tmp_path: Path, second: dict[str, pa.Array]) -> None:
    with pytest.raises(InputError, match=r"train data: 40 rows share their id \('id'\)"):
        prepared(tmp_path, {"a": ids(K), "b": second}, id="id", categorical=["c"])


def test_the_fold_of_an_id_does_not_depend_on_its_type(tmp_path: Path) -> None:
    folds = []
    for number, values in enumerate((ids(K), ids([str(k) for k in K]), ids(K.astype(float)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        dataset = prepared(folder, {"a": values}, id="id", categorical=["c"])
        assert dataset.store.row_ids(np.arange(N)).to_pylist() == [str(k) for k in K]
        folds.append(dataset.split("fold_0").held_out_rows.numbers().tolist())
    assert folds[0] == folds[1] == folds[2]


def test_condition_values_are_compared_as_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"action": pa.array((K % 4).astype(float)), "c": K}), tmp_path / "a.parquet")
    schema = SchemaConfig.model_validate({"label": {"column": "action", "values": [2, "3.0"]}, "categorical": ["c"]})
    raw, config = RawFiles(train=("a.parquet",)), PrepareConfig(min_count=1, n_folds=2)
    dataset = PreparedDataset.open(prepare(schema, raw, config, tmp_path, tmp_path / "out", "x"))
    assert dataset.store.labels(np.arange(N)).tolist() == [float(k % 4 >= 2) for k in K]
