"""Side tables with several key columns and several files, joined as a dictionary of canonical values would."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import fingerprint, prepare
from recsys.runs.rows_to_score import FileRows
from recsys.schema.config import SchemaConfig, SideTable

FILES = RawFiles(train=("rows.parquet",))
CONFIG = PrepareConfig(min_count=1, n_folds=2)


def schema_of(**side: Any) -> SchemaConfig:
    return SchemaConfig.model_validate({"label": "y", "categorical": ["city"], "side_tables": {"towns": side}})


def prepared(folder: Path, rows: dict[str, Any], **side: Any) -> PreparedDataset:
    n = len(next(iter(rows.values())))
    pq.write_table(pa.table({"y": np.arange(n) % 2} | rows), folder / "rows.parquet")
    prepare(schema_of(columns=["city"], **side), FILES, CONFIG, folder, folder / "out", "x")
    return PreparedDataset.open(folder / "out")


def cities(dataset: PreparedDataset) -> list[str | None]:
    return names_of(dataset, dataset.store.read_sparse(np.arange(dataset.n_rows))[:, 0])


def names_of(dataset: PreparedDataset, codes: np.ndarray) -> list[str | None]:
    names = [None, "<rare>", *dataset.vocabularies["city"].values.to_pylist()]
    return [names[code] for code in codes]


DAYS = [datetime.date(2025, 1, 1), datetime.date(2025, 1, 2)]


def test_rows_meet_all_keys_by_value(tmp_path: Path) -> None:
    side = {
        "user": ["1", "10", "2"],
        "day": pa.array([DAYS[0], DAYS[1], DAYS[0]]).cast(pa.timestamp("ms")),
        "city": ["A", "B", "C"],
    }
    pq.write_table(pa.table(side), tmp_path / "towns.parquet")
    rows = {
        "user": pa.array([1.0, 1.0, 10.0, 10.0, 2.0, None, 1.0, 3.0]),
        "day": pa.array([DAYS[k] for k in (0, 1, 1, 0, 0, 0)] + [None, DAYS[0]], pa.date32()),
    }
    dataset = prepared(tmp_path, rows, file="towns.parquet", key=["user", "day"])
    assert cities(dataset) == ["A", None, "B", None, "C", None, None, None]
    new = tmp_path / "new.parquet"
    pq.write_table(pa.table({"user": ["10", "1"], "day": ["2025-01-02", "2025-01-02"]}), new)
    with pytest.raises(InputError, match="contain values of different kinds"):
        FileRows(dataset, [new])
    pq.write_table(pa.table({"user": ["10", "1"], "day": pa.array([DAYS[1], DAYS[1]])}), new)
    ((_, scored),) = FileRows(dataset, [new]).blocks()
    assert names_of(dataset, scored.sparse[:, 0]) == ["B", None]


def test_values_of_two_keys_do_not_run_together(tmp_path: Path) -> None:
    pairs = [("1", "12"), ("11", "2"), ("a&b", "c"), ("a", "b&c"), ("", "x"), ("\\0", "x"), ("a\\", "b")]
    table = pa.table({"k": [k for k, _ in pairs], "l": [v for _, v in pairs], "city": [*"ABCDEFG"]})
    pq.write_table(table, tmp_path / "towns.parquet")
    others = [("12", "1"), ("a", "\\b")]
    rows = {"k": [k for k, _ in pairs + others], "l": [v for _, v in pairs + others]}
    dataset = prepared(tmp_path, rows, file="towns.parquet", key=["k", "l"])
    assert cities(dataset) == [*"ABCDEFG", None, None]


def test_three_keys_join_as_a_dictionary_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 6, (500, 3))
    distinct = np.unique(rng.integers(0, 6, (100, 3)), axis=0)
    city = [f"c{row}" for row in range(len(distinct))]
    pq.write_table(pa.table({"city": city} | {k: distinct[:, i] for i, k in enumerate("abc")}), tmp_path / "t.parquet")
    rows = {k: pa.array(keys[:, i], mask=rng.random(500) < 0.1) for i, k in enumerate("abc")}
    dataset = prepared(tmp_path, rows, file="t.parquet", key=["a", "b", "c"])
    city_of = {tuple(key): name for key, name in zip(distinct.tolist(), city, strict=True)}
    expected = [city_of.get(key) for key in zip(*(rows[k].to_pylist() for k in "abc"), strict=True)]
    assert 100 < expected.count(None) < 400
    assert cities(dataset) == expected


@pytest.mark.parametrize(
    "file", ["towns/*.parquet", "towns", ["towns/1.parquet", "towns/2.parquet", "towns/empty.parquet"]]
)
def test_the_files_of_a_side_table_are_one_table(tmp_path: Path, file: str | list[str]) -> None:
    (tmp_path / "towns").mkdir()
    parts: dict[str, dict[str, Any]] = {
        "1": {"user": pa.array([1, 2], pa.int8()), "city": pa.array(["A", None], pa.large_string())},
        "2": {"city": ["C"], "user": pa.array([300], pa.int64()), "other": [1.5]},
        "empty": {"user": pa.nulls(0), "city": pa.nulls(0)},
    }
    for name, part in parts.items():
        pq.write_table(pa.table(part), tmp_path / "towns" / f"{name}.parquet")
    dataset = prepared(tmp_path, {"user": [300, 2, 1, 4]}, file=file, key="user")
    assert cities(dataset) == ["C", None, "A", None]


def test_the_files_of_a_side_table_may_be_csv_in_partition_folders(tmp_path: Path) -> None:
    for day, users in (("2025-01-01", [1, 2]), ("2025-01-02", [1])):
        folder = tmp_path / "towns" / f"day={day}"
        folder.mkdir(parents=True)
        pa_csv.write_csv(pa.table({"user": users, "city": [f"{day[-1]}{u}" for u in users]}), folder / "part.csv")
    rows = {"user": [1, 1, 2, 2], "day": pa.array([DAYS[k] for k in (0, 1, 0, 1)])}
    dataset = prepared(tmp_path, rows, file="towns", key=["day", "user"])
    assert cities(dataset) == ["11", "21", "12", None]


def test_a_change_of_any_file_is_a_change_of_the_data(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [0, 1], "user": [1, 2]}), tmp_path / "rows.parquet")
    schema = schema_of(file=["a.parquet", "b.parquet"], key="user", columns=["city"])
    pq.write_table(pa.table({"user": [1], "city": ["A"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"user": [2], "city": ["B"]}), tmp_path / "b.parquet")
    before = fingerprint(schema, FILES, CONFIG, tmp_path)
    pq.write_table(pa.table({"user": [2, 3], "city": ["B", "longer"]}), tmp_path / "b.parquet")
    assert fingerprint(schema, FILES, CONFIG, tmp_path) != before


ROWS = {"user": [1, 2], "day": [1, 1]}
PART = {"user": [1], "day": [1], "city": ["A"]}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([PART, PART], r"towns \(.*0.parquet and 1 more\): key \('user', 'day'\) is repeated .*such as \('1', '1'\)"),
        ([PART, PART | {"day": [None]}], r"key 'day' of \('user', 'day'\) is null in row 0 of .*1.parquet: remove"),
        ([PART, {"user": [2], "city": ["B"]}], "1.parquet has no column 'day': all files must have it"),
        (
            [{"user": [2], "days": [1], "city": ["B"]}],
            r"towns.key \('user', 'day'\): 'day' is not a column of .*0.parquet; did you mean 'days'",
        ),
        ([PART, PART | {"city": [5]}], "1.parquet: column 'city' is int64, but is string in .*0.parquet"),
        ([PART, PART | {"user": ["2"]}], "1.parquet: column 'user' is string, but is int64 in another file"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, parts: list[dict[str, Any]], message: str) -> None:
    (tmp_path / "towns").mkdir()
    for number, part in enumerate(parts):
        pq.write_table(pa.table(part), tmp_path / "towns" / f"{number}.parquet")
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, ROWS, file="towns/*.parquet", key=["user", "day"])


def test_a_key_that_the_data_lacks_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table(PART), tmp_path / "towns.parquet")
    message = r"towns.key \('user', 'day'\): 'day' is not a column of the data; did you mean 'dai'"
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, {"user": [1, 2], "dai": [1, 1]}, file="towns.parquet", key=["user", "day"])


@pytest.mark.parametrize(
    ("change", "message"), [({"key": ["a", "a"]}, "lists 'a' twice"), ({"file": []}, "at least 1")]
)
def test_wrong_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SideTable.model_validate({"file": "f.parquet", "key": "a", "columns": ["b"]} | change)
