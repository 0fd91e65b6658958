"""Excluded items: those of a table of pairs, by row id and by a column; wrong tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from retrieval.catalog import Catalog, build_catalog
from retrieval.evaluation.exclusion import ExcludedPairs, WithoutExcluded, open_exclusion


def catalog_of(dataset: PreparedDataset) -> Catalog:
    split = dataset.split("holdout")
    return build_catalog(split, split.fit_rows, [split.held_out_rows], True)


def written(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_pairs_of_rows(shops: PreparedDataset, tmp_path: Path) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    path = written(tmp_path / "pairs.parquet", id=["row-3", "row-3", "row-5", "row-9", None], shop=[0, 7, 2, 99_999, 1])
    exclusion = ExcludedPairs(path, split, shops.vocabularies, catalog)
    found = exclusion.matrix(np.array([5, 4, 3, 9]))
    names = [[catalog.names[int(entry)].as_py() for entry in row.indices] for row in found]
    assert [sorted(row) for row in names] == [["2"], [], ["0", "7"], []]
    scores = WithoutExcluded(lambda places: np.ones((len(places), len(catalog))), exclusion, split.fit_rows)
    assert scores(np.arange(3)).shape == (3, len(catalog))


def test_pairs_of_a_column(shops: PreparedDataset, tmp_path: Path) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    path = written(tmp_path / "pairs.parquet", shop=["1", "4"], color=["red", "red"])
    found = open_exclusion("table", path, split, shops.vocabularies, catalog)
    assert found is not None
    rows = np.arange(50)
    colors = shops.vocabularies["color"].values.to_pylist()
    is_red = [colors[code - 2] == "red" for code in shops.store.read_sparse(rows)[:, 0].tolist()]
    assert 0 < sum(is_red) < 50
    assert found.matrix(rows).getnnz(axis=1).tolist() == [2 * value for value in is_red]


def test_nothing_is_excluded(shops: PreparedDataset) -> None:
    split, catalog = shops.split("holdout"), catalog_of(shops)
    assert open_exclusion("none", None, split, shops.vocabularies, catalog) is None
    assert open_exclusion("seen", None, split, shops.vocabularies, catalog) is None  # it has no history of shops


def test_wrong_tables(shops: PreparedDataset, tmp_path: Path) -> None:
    split, catalog, path = shops.split("holdout"), catalog_of(shops), tmp_path / "pairs.parquet"
    with pytest.raises(InputError, match="exclude=table needs exclude_table"):
        open_exclusion("table", None, split, shops.vocabularies, catalog)
    path.write_text("no parquet")
    with pytest.raises(InputError, match="pairs.parquet: not a readable parquet file"):
        ExcludedPairs(path, split, shops.vocabularies, catalog)
    for columns in ({"shop": [1]}, {"shop": [1], "x_1": [1]}, {"id": ["a"], "color": ["red"], "shop": [1]}):
        with pytest.raises(InputError, match="but needs shop and one of id, color, brand: select these two"):
            ExcludedPairs(written(path, **columns), split, shops.vocabularies, catalog)
