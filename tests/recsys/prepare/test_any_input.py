"""Any parquet file gives a result that a plain reading of the rows confirms, or a one-line error.

Hypothesis generates the files; the reference reads their values in Python, one at a time.
"""

import math
import shutil
from collections import Counter
from collections.abc import Hashable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig
from tests.helpers.any_table import DOUBLES, LISTS, VALUES, columns, key

MIN_COUNT, LONGEST = 2, 3
FLOAT_LIMIT = 1e37
cases = settings(
    max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def check_codes(values: list[Any], codes: np.ndarray, counts: Counter) -> None:
    """Null has code 0, a value rarer than MIN_COUNT has code 1, and every other value has a unique code."""
    by_key: dict[Hashable, int] = {}
    for value, code in zip(values, codes.tolist(), strict=True):
        name = key(value)
        if name is None:
            assert code == 0, value
        elif counts[name] < MIN_COUNT:
            assert code == 1, value
        else:
            assert code >= 2, value
            assert by_key.setdefault(name, code) == code, value
    assert len(set(by_key.values())) == len(by_key), by_key


def prepared(
    folder: Path, table: pa.Table, schema: SchemaConfig, test: pa.Table | None = None, **changes: Any
) -> PreparedDataset | str:
    """Returns the prepared data set, or the error message."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pq.write_table(table, folder / "train.parquet")
    if test is not None:
        pq.write_table(test, folder / "test.parquet")
    files = RawFiles(train=("train.parquet",), test=("test.parquet",) if test is not None else ())
    config = PrepareConfig.model_validate({"min_count": MIN_COUNT, "n_folds": 2} | changes)
    try:
        prepare(schema, files, config, folder, folder / "out", "any")
        return PreparedDataset.open(folder / "out")
    except InputError as error:
        said = str(error)
    assert said.strip()
    assert "\n" not in said
    return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the current example."""
    return tmp_path / "case"


def labels(n: int) -> pa.Array:
    return pa.array([i % 2 for i in range(n)], pa.int8())


@cases
@given(column=columns(VALUES, 8))
def test_any_categorical_column(folder: Path, column: pa.Array) -> None:
    schema = SchemaConfig(label="click", categorical=("c",))
    found = prepared(folder, pa.table({"c": column, "click": labels(8)}), schema)
    values = column.to_pylist()
    counts = Counter(key(value) for value in values)
    if isinstance(found, str):
        refused = ("no value in the training rows" in found and set(counts) == {None}) or (
            "cannot be categorical" in found
            and (
                pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_duration(column.type)
            )
        )
        assert refused or ("is not exact for whole numbers from" in found and pa.types.is_floating(column.type)), found
        return
    check_codes(values, found.store.read_sparse(np.arange(8))[:, 0], counts)
    batch = found.split("full").batch(np.arange(8), [])
    assert int(batch.sparse.values().max()) < found.split("full").schema.num_embeddings["c"]


@cases
@given(column=columns(VALUES, 8))
def test_any_numeric_column(folder: Path, column: pa.Array) -> None:
    schema = SchemaConfig(label="click", numeric=("x",))
    found = prepared(folder, pa.table({"x": column, "click": labels(8)}), schema)
    if isinstance(found, str):
        assert "cannot be numeric" in found or "no number" in found, found
        if "no number" in found:
            assert not any(is_finite(value) for value in column.to_pylist())
        return
    raw = found.store.read_measured(np.arange(8))[:, 0]
    for value, number in zip(column.to_pylist(), raw.tolist(), strict=True):
        if key(value) is None:
            assert math.isnan(number)
        elif abs(float(value)) > FLOAT_LIMIT:
            assert number == math.copysign(math.inf, value)
        else:
            assert number == np.float32(value)
    dense = found.split("full").batch(np.arange(8), []).dense.numpy()
    assert np.isfinite(dense).all()
    for i, value in enumerate(raw):
        assert not math.isnan(value) or dense[i, 0] == 0.0


def is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value) and abs(value) <= FLOAT_LIMIT


@pytest.mark.parametrize("transform", ["standardize", "log", "quantile_normal", "none"])
@settings(cases, max_examples=30)
@given(values=st.lists(st.none() | DOUBLES, min_size=6, max_size=6))
def test_any_number_under_any_transform(folder: Path, transform: str, values: list[float | None]) -> None:
    schema = SchemaConfig(label="click", numeric=("x",))
    table = pa.table({"x": pa.array(values, pa.float64()), "click": labels(6)})
    found = prepared(folder, table, schema, numeric_transform=transform)
    if isinstance(found, str):
        assert "no number" in found
        assert not any(is_finite(value) for value in values)
        return
    batch = found.split("full").batch(np.arange(6), [])
    assert np.isfinite(batch.dense.numpy()).all()


@cases
@given(column=columns(VALUES, 6), keep=st.sampled_from(["first", "last"]))
def test_any_delimited_column(folder: Path, column: pa.Array, keep: str) -> None:
    sequence = {"kind": "delimited", "max_length": LONGEST, "keep": keep, "statistics": True}
    schema = SchemaConfig.model_validate({"label": "click", "numeric": ["x"], "sequences": {"s": sequence}})
    found = prepared(folder, pa.table({"s": column, "x": np.arange(6), "click": labels(6)}), schema)
    if isinstance(found, str):
        dtype = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        is_text = pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)
        assert ("cannot be a delimited sequence" in found and not is_text) or (
            "has no value in the training rows" in found and not any(t and t.strip() for t in column.to_pylist())
        ), found
        return
    rows = [text.split(",") if text and text.strip() else [] for text in column.to_pylist()]
    rows = [[token.strip() for token in row] for row in rows]
    kept = [[t for t in (row[-LONGEST:] if keep == "last" else row[:LONGEST]) if t] for row in rows]
    check_tokens(found, "s", kept)
    lengths = found.store.read_measured(np.arange(6))[:, 1]
    assert lengths.tolist() == [len([token for token in row if token]) for row in rows]


@cases
@given(column=columns(LISTS, 6), keep=st.sampled_from(["first", "last"]))
def test_any_list_column(folder: Path, column: pa.Array, keep: str) -> None:
    sequence = {"kind": "list", "max_length": LONGEST, "keep": keep}
    schema = SchemaConfig.model_validate({"label": "click", "numeric": ["x"], "sequences": {"s": sequence}})
    found = prepared(folder, pa.table({"s": column, "x": np.arange(6), "click": labels(6)}), schema)
    if isinstance(found, str):
        assert "cannot be a list sequence" in found or "is not exact for whole numbers from" in found, found
        return
    rows = [row or [] for row in column.to_pylist()]
    kept = [row[-LONGEST:] if keep == "last" else row[:LONGEST] for row in rows]
    check_tokens(found, "s", [[token for token in row if key(token) is not None] for row in kept])


def check_tokens(found: PreparedDataset, name: str, kept: list[list[Any]]) -> None:
    codes, lengths = found.store.read_tokens(name, np.arange(len(kept)))
    assert lengths.tolist() == [len(row) for row in kept]
    flat = [token for row in kept for token in row]
    check_codes(flat, codes, Counter(key(token) for token in flat))


@cases
@given(ids=columns(VALUES, 6))
def test_any_id_column(folder: Path, ids: pa.Array) -> None:
    schema = SchemaConfig(label="click", id="id", numeric=("x",))
    found = prepared(folder, pa.table({"id": ids, "x": np.arange(6), "click": labels(6)}), schema)
    values = ids.to_pylist()
    if isinstance(found, str):
        assert (
            ("has nulls" in found and any(key(value) is None for value in values))
            or ("share their id" in found and len(set(map(key, values))) < 6)
            or "cannot identify rows" in found
            or "is not exact for whole numbers from" in found
        ), found
        return
    names = found.store.row_ids(np.arange(6)).to_pylist()
    assert len(set(names)) == 6
    for name, value in zip(names, values, strict=True):
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            assert name == str(value)


@cases
@given(label=columns(VALUES, 6))
def test_any_label_column(folder: Path, label: pa.Array) -> None:
    schema = SchemaConfig(label="click", numeric=("x",))
    found = prepared(folder, pa.table({"x": np.arange(6), "click": label}), schema)
    values = label.to_pylist()
    if isinstance(found, str):
        assert "label" in found
        is_fine = all(isinstance(v, (int, float, bool, np.floating, Decimal)) and v in (0, 1) for v in values)
        assert not is_fine or len(set(values)) == 1 or pa.types.is_dictionary(label.type), found
        return
    assert found.store.labels(np.arange(6)).tolist() == [float(value) for value in values]


@cases
@given(day=columns(VALUES, 6))
def test_any_day_column(folder: Path, day: pa.Array) -> None:
    schema = SchemaConfig(label="click", day="day", numeric=("x",))
    found = prepared(folder, pa.table({"x": np.arange(6.0), "day": day, "click": labels(6)}), schema)
    # the times of a timestamp are of one calendar day
    names = [key(value.date() if isinstance(value, datetime) else value) for value in day.to_pylist()]
    if isinstance(found, str):
        assert "day" in found, found
        return
    held_out = [group for group in found.groups if group.is_holdout]
    if len(set(names)) == 1:
        assert not held_out
        return
    assert 0 < sum(group.n_rows for group in held_out) < 6
