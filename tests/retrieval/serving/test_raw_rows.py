"""Files with the columns of some towers are encoded like the rows of the data set that they come from."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from retrieval.serving.raw_rows import RawRows, TowerFiles
from tests.helpers.small import prepare_small, small_schema
from tests.helpers.towers import tower_table
from tests.helpers.vector_data import prepared_vectors, vector_schema, vector_table

N = 200


def read(dataset: PreparedDataset, path: Path, columns: list[str], features: tuple[str, ...]) -> RawRows:
    pq.write_table(tower_table().select(columns).slice(0, N), path)
    (rows,) = TowerFiles(dataset, [path], features).blocks(["id"] if "id" in columns else [])
    return rows


def test_requests_without_items(shops: PreparedDataset, tmp_path: Path) -> None:
    schema = shops.manifest.schema_
    columns = ["id", "color", "x_1", "x_2", "seen"]
    rows = read(shops, tmp_path / "a.parquet", columns, schema.towers["user"])
    stored, encoded = shops.store.encoded(np.arange(N)), rows.encoded
    color, shop, brand = (schema.categorical.index(name) for name in ("color", "shop", "brand"))
    assert np.array_equal(encoded.sparse[:, color], stored.sparse[:, color])
    assert (encoded.sparse[:, [shop, brand]] == 0).all()
    np.testing.assert_array_equal(encoded.measured, stored.measured)
    for a, b in zip(encoded.tokens["seen"], stored.tokens["seen"], strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(encoded.sequence_lengths, stored.sequence_lengths)
    assert encoded.items is None
    assert rows.table["id"].to_pylist() == [f"row-{number}" for number in range(N)]


def test_items_without_requests(shops: PreparedDataset, tmp_path: Path) -> None:
    schema = shops.manifest.schema_
    rows = read(shops, tmp_path / "a.parquet", ["shop", "brand"], schema.towers["item"])
    stored, encoded = shops.store.encoded(np.arange(N)), rows.encoded
    color = schema.categorical.index("color")
    assert np.array_equal(np.delete(encoded.sparse, color, axis=1), np.delete(stored.sparse, color, axis=1))
    assert np.isnan(encoded.measured).all()
    assert len(encoded.tokens["seen"][1]) == 0
    assert encoded.items is not None
    names = [encoded.items.values[code].as_py() for code in encoded.items.codes]
    assert names == [str(shop) for shop in tower_table()["shop"].to_pylist()[:N]]


def test_a_number_of_a_tower_is_computed_from_columns_outside_it(tmp_path: Path) -> None:
    schema = small_schema(derived={"ratio": "x_2 / x_1"}, towers={"user": ["color", "ratio"], "item": ["shop"]})
    dataset = prepare_small(tower_table(), tmp_path / "raw", tmp_path / "out", schema)
    features = dataset.manifest.schema_.towers["user"]
    assert features == ("color", "ratio")
    encoded = read(dataset, tmp_path / "a.parquet", ["color", "x_1", "x_2"], features).encoded
    index = dataset.manifest.schema_.measured.index("ratio")
    stored = dataset.store.read_measured(np.arange(N))[:, index]
    np.testing.assert_array_equal(encoded.measured[:, index], stored)
    assert np.isfinite(stored).sum() > N / 2


def test_a_missing_column_is_named(shops: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no column 'color'"):
        read(shops, tmp_path / "a.parquet", ["x_1", "x_2", "seen"], shops.manifest.schema_.towers["user"])


def test_vectors_belong_to_their_tower(tmp_path: Path) -> None:
    schema = vector_schema(towers={"user": ["device"], "item": ["item", "image"]})
    dataset = prepared_vectors(vector_table(200), tmp_path, schema)
    stored, table = dataset.store.encoded(np.arange(dataset.n_rows)).measured, pq.read_table(tmp_path / "rows.parquet")
    pq.write_table(table.select(["item", "image"]), tmp_path / "items.parquet")
    pq.write_table(table.select(["device"]), tmp_path / "requests.parquet")
    items = TowerFiles(dataset, [tmp_path / "items.parquet"], schema.towers["item"])
    assert items.has("image")
    (rows,) = items.blocks()
    np.testing.assert_array_equal(rows.encoded.measured[:, 1:], stored[:, 1:])
    assert np.isnan(rows.encoded.measured[:, 0]).all()
    requests = TowerFiles(dataset, [tmp_path / "requests.parquet"], schema.towers["user"])
    assert not requests.has("image")
    (rows,) = requests.blocks()
    assert np.isnan(rows.encoded.measured).all()
