"""Numbers that float32 cannot tell apart are centred before they are narrowed."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.prepare.offsets import offset_of
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

K = np.arange(400)
SCHEMA = SchemaConfig(label="y", numeric=("x",))


def measured(folder: Path, column: pa.Array, statistics: bool = True) -> PreparedDataset:
    folder.mkdir(exist_ok=True)
    table = pa.table({"x": column, "y": K[: len(column)] % 2})
    pq.write_table(table, folder / "train.parquet", write_statistics=statistics)
    prepare(SCHEMA, RawFiles(train=("train.parquet",)), PrepareConfig(n_folds=2), folder, folder / "out", "x")
    return PreparedDataset.open(folder / "out")


@pytest.mark.parametrize(
    "column",
    [
        pa.array(1_700_000_000_000 + 1000 * K),  # milliseconds since 1970
        pa.array(1_700_000_000_000.0 + 1000 * K),
        pa.array(10**18 + K),  # beyond 2^53 too
        pa.array(10**18 + K, pa.uint64()),
        pa.array([Decimal(10**18 + int(k)) for k in K], pa.decimal128(20, 0)),
        pa.array(20_000_000 + K, pa.int32()),
        pa.array(1.0 + 1e-9 * K),
        pa.array([None, *(1_700_000_000_000 + 1000 * K[1:]).tolist()]),
        pa.array(np.where(K == 7, 0, 1_700_000_000_000 + 1000 * K)),  # a sentinel
        pa.array(np.where(K % 5 < 3, 0, 1_700_000_000_000 + 1000 * K)),  # for most rows
    ],
)
@pytest.mark.parametrize("statistics", [True, False])
def test_distinct_values_stay_distinct(tmp_path: Path, column: pa.Array, statistics: bool) -> None:
    dataset = measured(tmp_path, column, statistics)
    values = dataset.store.read_measured(np.arange(400))[:, 0]
    assert len(np.unique(values[~np.isnan(values)])) == len(set(column.drop_null().to_pylist()))
    assert np.isnan(values).sum() == column.null_count
    assert dataset.manifest.schema_.offsets["x"] > 0
    dense = dataset.split("full").batch(np.arange(400), []).dense.numpy()[:, 0]
    assert np.isfinite(dense).all()
    order = np.argsort(values[~np.isnan(values)])
    assert np.all(np.diff(dense[~np.isnan(values)][order]) >= 0)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(np.random.default_rng(0).normal(size=400)),
        pa.array(1000 * K),
        pa.array(np.full(400, 1e12)),
        pa.array(K * 1e12),
        pa.array((1_700_000_000 + K).astype(np.float32)),
    ],
)
def test_other_columns_are_stored_as_they_are(tmp_path: Path, column: pa.Array) -> None:
    dataset = measured(tmp_path, column)
    assert dataset.manifest.schema_.offsets == {}
    assert np.array_equal(dataset.store.read_measured(np.arange(400))[:, 0], np.array(column).astype(np.float32))


def test_the_least_integer_does_not_overflow(tmp_path: Path) -> None:
    values = 1_700_000_000_000_000_000 + 1000 * K
    values[::7] = -(2**63)
    dataset = measured(tmp_path, pa.array(values))
    stored = dataset.store.read_measured(np.arange(400))[:, 0]
    assert stored[0] == pytest.approx(-(2.0**63) - 1.7e18, rel=1e-6)
    assert len(np.unique(stored)) == len(np.unique(values))


def test_text_that_contains_numbers_is_centred_by_its_numbers(tmp_path: Path) -> None:
    text = pa.array(["NA", "1", "9", *(str(1_700_000_000_000 + 1000 * k) for k in K[3:])])
    pq.write_table(pa.table({"x": text, "y": K % 2}), tmp_path / "train.parquet")
    schema = SchemaConfig(label="y", numeric=("x",), numbers_as_text=("x",))
    prepare(schema, RawFiles(train=("train.parquet",)), PrepareConfig(n_folds=2), tmp_path, tmp_path / "out", "x")
    stored = PreparedDataset.open(tmp_path / "out").store.read_measured(np.arange(400))[:, 0]
    assert np.isnan(stored[0])
    assert len(np.unique(stored[3:])) == 397


def test_the_median_is_the_offset() -> None:
    assert offset_of(10**15 + np.arange(11)) == 10**15 + 5
    assert offset_of(np.array([], np.float64)) == 0
    assert offset_of(np.array([1e300, 1e300 + 1e290])) == 0
