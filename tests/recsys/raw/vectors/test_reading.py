from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.config import RawFiles
from recsys.errors import InputError
from recsys.prepare.digest import columns_to_read
from recsys.raw.opening import open_source
from recsys.raw.source import Source
from recsys.raw.vectors.reading import read_vectors
from tests.helpers.vector_data import vector_schema

VECTORS = [[1.0, 2.0], None, [3.0, None], [5.0, -6.0]]
EXPECTED = [[1, 2], [np.nan, np.nan], [np.nan, np.nan], [5, -6]]
TYPES = [
    pa.list_(pa.float64()),
    pa.large_list(pa.float32()),
    pa.list_(pa.float32(), 2),
    pa.list_(pa.float16()),
    pa.list_(pa.int8()),
    pa.list_(pa.decimal128(5, 2)),
]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_vector_with_a_null_is_missing(dtype: pa.DataType) -> None:
    array = pa.array(VECTORS, pa.list_(pa.float64())).cast(dtype)
    np.testing.assert_array_equal(read_vectors(array, 2), EXPECTED)
    np.testing.assert_array_equal(read_vectors(pa.chunked_array([array.slice(0, 1), array.slice(1)]), 2), EXPECTED)
    np.testing.assert_array_equal(read_vectors(array.slice(3), 2), [[5, -6]])
    assert read_vectors(array.slice(4), 2).shape == (0, 2)


def test_a_vector_with_nan_is_missing() -> None:
    array = pa.array([[1.0, np.nan], [3.0, 4.0]], pa.list_(pa.float32()))
    np.testing.assert_array_equal(read_vectors(array, 2), [[np.nan, np.nan], [3, 4]])


def test_null_columns_have_no_vectors() -> None:
    np.testing.assert_array_equal(read_vectors(pa.nulls(2, pa.list_(pa.null())), 3), np.full((2, 3), np.nan))


def rows(**columns: Any) -> pa.Table:
    first = next(iter(columns.values()))
    defaults = {"item": "a", "device": "b", "price": 1.0, "seen": ["a"], "split": "train", "click": 0}
    return pa.table({name: [value] * len(first) for name, value in defaults.items()} | columns)


def opened(folder: Path, *tables: pa.Table, **schema: Any) -> Source:
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=2)
    files = RawFiles(train=tuple(f"{number}.parquet" for number in range(len(tables))))
    return open_source(vector_schema(**schema), files, folder)


def read(source: Source) -> np.ndarray:
    size = source.schema.vectors[0].size
    blocks = source.blocks("train", columns_to_read(source.schema))
    return np.concatenate([read_vectors(block.table["image"], size) for block in blocks])


@pytest.mark.parametrize("dtype", [TYPES[0], TYPES[1], TYPES[2]], ids=str)
def test_the_first_vector_has_the_size(dtype: pa.DataType, tmp_path: Path) -> None:
    nulls = rows(image=pa.nulls(3))
    known = rows(image=pa.array([None, None, [1, 2]], pa.list_(pa.float64())).cast(dtype))
    source = opened(tmp_path, nulls, known)
    assert source.schema.vectors[0].size == 2
    np.testing.assert_array_equal(read(source), [[np.nan] * 2] * 5 + [[1, 2]])


def test_files_may_write_vectors_as_lists_of_several_types(tmp_path: Path) -> None:
    tables = [rows(image=pa.array([[1, 2]], pa.list_(pa.float64())).cast(dtype)) for dtype in TYPES[:3]]
    np.testing.assert_array_equal(read(opened(tmp_path, *tables)), [[1, 2]] * 3)


def test_vectors_of_a_side_table(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"item": ["a", "b"], "image": vectors}), tmp_path / "items.parquet")
    side = {"items": {"file": "items.parquet", "key": "item", "columns": ["image"]}}
    source = opened(tmp_path, rows(item=["b", "unknown", "a"]), side_tables=side)
    np.testing.assert_array_equal(read(source), [[3, 4], [np.nan, np.nan], [1, 2]])


LISTS = pa.list_(pa.float64())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            pa.array([[1, 2], [3, 4], None, [5]], LISTS),
            r"0.parquet: column 'image' has a vector of 1 numbers in row 3, but its size is 2: all vectors .* one size",
        ),
        (pa.array([[1, 2], [], [3, 4]], LISTS), "column 'image' has a vector of 0 numbers in row 1, but its size is 2"),
        (
            pa.array([[1, 2], None, [3, np.inf]], LISTS),
            "0.parquet: column 'image' has an infinite number in row 2: write finite numbers, or null in place",
        ),
        (pa.array([[1, -1e38]], LISTS), "column 'image' has an infinite number in row 0"),
        (pa.array([[], [1.0]], LISTS), "0.parquet: the first vector of column 'image' is empty: write null instead"),
        (pa.nulls(2), "schema.vectors.image: no row of .*0.parquet has a vector, .*: set size, or remove the column"),
        (
            pa.array([["1", "2"]]),
            r"column 'image' is list<.*string>, which cannot be a vector \(expected a list of numbers\): write numbers",
        ),
        (
            pa.array(["[1, 2]"]),
            r"0.parquet: column 'image' is string, which cannot be a vector \(expected list\): change its role in the",
        ),
        (pa.array([[[1.0], [2.0]]]), r"column 'image' is list<.*list.*>, which cannot be a vector \(expected list\)"),
        (pa.array([[True, False]]), r"column 'image' is list<.*bool>, which cannot be a vector"),
        (pa.array([1.0]), r"column 'image' is double, which cannot be a vector \(expected list\)"),
    ],
)
def test_wrong_vectors(image: pa.Array, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(opened(tmp_path, rows(image=image)))


def test_the_size_of_the_schema_is_not_that_of_the_file(tmp_path: Path) -> None:
    image = pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))
    with pytest.raises(InputError, match=r"a vector of 2 numbers in row 0, but its size is 3: .*schema.vectors.image."):
        read(opened(tmp_path, rows(image=image), vectors={"image": {"size": 3}}))


def test_the_place_is_that_in_its_file(tmp_path: Path) -> None:
    tables = [rows(image=pa.array([[1, 2]] * 3, LISTS)), rows(image=pa.array([[1, 2], [3]], LISTS))]
    with pytest.raises(InputError, match=r"1.parquet: column 'image' has a vector of 1 numbers in row 1"):
        read(opened(tmp_path, *tables))


def test_a_wrong_vector_of_a_side_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item": ["a", "b"], "image": [[1.0, 2.0], [3.0]]}), tmp_path / "items.parquet")
    side = {"items": {"file": "items.parquet", "key": "item", "columns": ["image"]}}
    with pytest.raises(InputError, match=r"items.parquet: column 'image' has a vector of 1 numbers in row 1, but its"):
        opened(tmp_path, rows(item=["b"]), side_tables=side)


def test_csv_files_have_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('item,device,price,split,click,image\na,b,1,train,0,"[1, 2]"\n')
    config = vector_schema(sequences={})
    with pytest.raises(InputError, match=r"rows.csv: column 'image' is string, which cannot be a vector"):
        open_source(config, RawFiles(train=("rows.csv",)), tmp_path)
