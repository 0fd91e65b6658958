"""Weights of rows in the raw files: what is stored, what is clipped and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from recsys.config import validate
from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.encode import encode_block
from recsys.prepare.run import prepare
from recsys.raw.opening import open_rows_to_score
from recsys.schema.config import SchemaConfig
from tests.helpers.small import SMALL_SCHEMA, prepare_small, small_schema, small_table

N = 400
VALUES = np.random.default_rng(0).exponential(size=N)


def with_weights(values: object, table: pa.Table | None = None) -> pa.Table:
    return (small_table(N) if table is None else table).append_column("x_w", pa.array(values))


def prepared(tmp_path: Path, values: object, **changes: object) -> PreparedDataset:
    changes = {"weight": "x_w"} | changes
    return prepare_small(with_weights(values), tmp_path / "raw", tmp_path / "out", small_schema(**changes))


def test_weights_are_stored_beside_the_labels_and_are_no_feature(tmp_path: Path) -> None:
    values = np.where(np.arange(N) % 7 == 0, 0, VALUES)
    dataset = prepared(tmp_path, values)
    assert dataset.store.weights(np.array([3, 0, 8])) == pytest.approx(values[[3, 0, 8]], rel=1e-6)
    assert "x_w" not in dataset.manifest.schema_.source_columns  # the pattern x_* does not match it
    label = np.array(small_table(N)["click"].to_pylist())
    split = dataset.split("fold_1")
    rows = split.fit_rows.numbers()
    prior = split.prior
    assert prior.n_positive == label[rows].sum()
    assert prior.positive_weight == pytest.approx(values[rows][label[rows] == 1].sum(), rel=1e-6)
    expected = values[rows][label[rows] == 0].sum() / values[rows][label[rows] == 1].sum()
    assert prior.pos_weight == pytest.approx(expected, rel=1e-6)
    weight = split.batch(rows, ["seen"]).weight
    assert weight is not None
    assert float(weight.double().mean()) == pytest.approx(1)
    assert weight.numpy() == pytest.approx(values[rows] / values[rows].mean(), rel=1e-5)
    assert dataset.stats.weights is not None
    assert dataset.stats.weights.n_effective == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-5)


def test_data_without_weights_has_no_trace_of_them(small: PreparedDataset) -> None:
    assert small.store.weights(np.arange(3)) is None
    assert small.split("full").batch(np.arange(3), []).weight is None
    assert small.split("full").training_weights(np.arange(3)) is None
    for name in (layout.SCHEMA_FILE, layout.STATS_FILE, layout.GROUPS_FILE):
        text = (small.folder / name).read_text()
        assert "weight" not in text, name
        assert "sampling_rate" not in text, name
        assert "true_base_rate" not in text, name


def test_propensities_are_inverted_then_clipped_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    propensity = np.random.default_rng(1).uniform(0.02, 1, N)
    dataset = prepared(tmp_path, propensity, weight={"column": "x_w", "inverse": True, "max": 20})
    weights = np.minimum(1 / propensity, 20)
    assert dataset.store.weights(np.arange(N)) == pytest.approx(weights, rel=1e-6)
    stats = dataset.stats.weights
    assert stats is not None
    assert stats.n_clipped == np.sum(1 / propensity > 20) > 0
    assert stats.n_effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-5)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"400 training rows count as {stats.n_effective:,.0f} of equal weight" in printed
    assert f"{stats.n_clipped} weights clipped to 20" in printed


def test_a_column_of_sampling_rates_weighs_negatives(tmp_path: Path) -> None:
    rate = np.where(np.arange(N) % 2 == 0, 0.1, 0.5)
    label = np.array(small_table(N)["click"].to_pylist())
    values = [None if positive else float(value) for positive, value in zip(label, rate, strict=True)]
    dataset = prepared(tmp_path, values, weight=None, sampling_rate="x_w")  # rates of positives are not read
    assert dataset.store.weights(np.arange(N)) == pytest.approx(np.where(label == 1, 1, 1 / rate))
    assert dataset.stats.sampling_rate is None
    assert dataset.split("full").prior.sampling_rate == 1
    assert dataset.split("full").prior.pos_weight == pytest.approx((1 / rate[label == 0]).sum() / label.sum())


def test_one_sampling_rate_or_true_base_rate_shifts_p(tmp_path: Path) -> None:
    label = np.array(small_table(N)["click"].to_pylist())
    dataset = prepared(tmp_path, VALUES, weight=None, sampling_rate=0.25, ignore=["x_w"])
    assert dataset.store.weights(np.arange(3)) is None
    assert dataset.split("fold_0").prior.sampling_rate == 0.25
    raw = tmp_path / "raw"
    by_rate = prepare_small(small_table(N), raw, tmp_path / "by-rate", true_base_rate=0.02)
    n_negative = (N - label.sum()) / by_rate.split("fold_0").prior.sampling_rate
    assert label.sum() / (label.sum() + n_negative) == pytest.approx(0.02)


def changed(position: int, value: float | None) -> list[float | None]:
    values: list[float | None] = VALUES.tolist()
    values[position] = value
    return values


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        (changed(350, None), {}, r"train.parquet: schema.weight column 'x_w' contains null in row 350: .* from 0 on"),
        (changed(7, float("nan")), {}, "'x_w' contains null in row 7"),
        (changed(7, -0.5), {}, "'x_w' contains -0.5 in row 7"),
        (changed(7, float("inf")), {}, "'x_w' contains inf in row 7"),
        (changed(7, 1e35), {}, r"'x_w' contains 1e\+35 in row 7: .* with a weight of at most 1e\+30"),
        (np.zeros(N), {}, r"train.parquet: schema.weight column 'x_w' is 0 in all training rows of one class"),
        (["1"] * N, {}, "column 'x_w' is string, which cannot be the weight"),
        (VALUES, {"weight": "w"}, "schema.weight: 'w' is not a column"),
        (VALUES, {"weight": "click"}, "'click' is the weight and cannot also be the label"),
        (VALUES, {"numeric": ["x_*", "x_w"]}, "'x_w' is the weight and cannot also be a feature"),
        (changed(5, 0.0), {"weight": {"column": "x_w", "inverse": True}}, "contains 0.0 in row 5: .* above 0"),
        (changed(5, 0.0), {"weight": {"column": "x_w", "inverse": True, "max": 20}}, "contains 0.0 in row 5"),
    ],
)
def test_values_that_are_no_weights_are_refused_in_one_line(
    tmp_path: Path, values: object, changes: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        prepared(tmp_path, values, **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_rates_above_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"schema.sampling_rate column 'x_w' contains 1.5 in row .*in \(0, 1\]"):
        prepared(tmp_path, np.full(N, 1.5), weight=None, sampling_rate="x_w")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"weight": "w", "sampling_rate": 0.1}, "weight and sampling_rate are both set"),
        ({"sampling_rate": 1.5}, "sampling_rate"),
        ({"sampling_rate": 0}, "sampling_rate"),
        ({"sampling_rate": True}, "a sampling rate is a number"),
        ({"weight": {"column": "w", "max": 0}}, "weight"),
        ({"weight": {"column": "w", "inverted": True}}, "inverse"),
    ],
)
def test_wrong_settings_are_refused(keys: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        validate(SchemaConfig, SMALL_SCHEMA | keys, "config.yaml", "schema.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["weight", "sampling_rate"])
def test_a_base_rate_beside_weights_is_refused(tmp_path: Path, key: str) -> None:
    table, schema = with_weights(VALUES), small_schema(**{key: "x_w"})
    with pytest.raises(InputError, match=rf"prepare.true_base_rate and schema.{key} are both set"):
        prepare_small(table, tmp_path / "raw", tmp_path / "out", schema, true_base_rate=0.1)


def test_weights_of_csv_files_are_numbers_and_rows_to_score_need_none(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pa_csv.write_csv(with_weights(VALUES), raw / "train.csv")
    pq.write_table(small_table(50, seed=1).drop_columns(["click", "day"]), raw / "test.parquet")
    files = RawFiles(train=("train.csv",), test=("test.parquet",))
    prepare(small_schema(weight="x_w"), files, PrepareConfig(min_count=3), raw, tmp_path / "out", "x")
    dataset = PreparedDataset.open(tmp_path / "out")
    assert dataset.store.weights(np.arange(N)) == pytest.approx(VALUES, rel=1e-6)
    assert (dataset.store.weights(dataset.partition_rows("test").numbers()) == 1).all()
    manifest = dataset.manifest
    source = open_rows_to_score(manifest.schema_config, manifest.schema_, manifest.kinds, ["test.parquet"], raw)
    block = next(iter(source.blocks("test", list(manifest.schema_.source_columns))))
    assert len(encode_block(block, source.schema, dataset.vocabularies).sparse) == 50


def test_weights_may_come_from_a_side_table(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    side = pa.table({"x_10": pa.array(range(5), pa.int16()), "importance": [1.0, 2.0, 0.0, 4.0, 0.5]})
    pq.write_table(side, raw / "side.parquet")
    tables = {"importance": {"file": "side.parquet", "key": "x_10", "columns": ["importance"]}}
    dataset = prepare_small(
        small_table(N), raw, tmp_path / "out", small_schema(weight="importance", side_tables=tables)
    )
    expected = np.array([1.0, 2.0, 0.0, 4.0, 0.5])[small_table(N)["x_10"].to_numpy()]
    assert dataset.store.weights(np.arange(N)).tolist() == expected.tolist()
