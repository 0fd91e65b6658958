from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.raw.derive import cross, end_of_list, meets_condition
from recsys.raw.sequences.delimited import read_delimited
from recsys.schema.config import Condition
from tests.helpers.small import SMALL_SCHEMA, prepare_small, small_schema, small_table


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"min": 4}, [False, True, True, False]),
        ({"max": 4}, [True, True, False, False]),
        ({"min": 4, "max": 4}, [False, True, False, False]),
        ({"values": ["3", "5"]}, [True, False, True, False]),
    ],
)
def test_conditions_by_hand(condition: dict, expected: list[bool]) -> None:
    column = pa.chunked_array([pa.array([3, 4], pa.int8()), pa.array([5, None], pa.int8())])
    assert meets_condition(Condition(column="rating", **condition), column).tolist() == expected


SEOUL = pa.array([1_735_725_600, 0], pa.timestamp("s", "Asia/Seoul"))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([2.0, 3.0]), ["2"]),
        (pa.array([2, 3]), ["2.0"]),
        (pa.array([True, False]), ["True"]),
        (SEOUL, ["2025-01-01 10:00:00+00:00"]),
        (SEOUL.cast(pa.timestamp("ms")), ["2025-01-01T10:00"]),
        (pa.array([20089, 3], pa.date32()), ["2025-01-01"]),
        (pa.array(["a", "b"]).dictionary_encode(), [" a"]),
    ],
)
def test_values_of_a_condition_are_read_as_the_column_is(column: pa.Array, values: list[str]) -> None:
    assert meets_condition(Condition(column="c", values=tuple(values)), column).tolist() == [True, False]


@pytest.mark.parametrize(
    ("column", "condition", "message"),
    [
        (pa.array([True]), {"values": [1]}, "condition on column 'c', which is boolean, has the values 1: use true or"),
        (SEOUL, {"values": ["2025-01-01"]}, "which is a zoned time, has values of kind time"),
        (pa.array([["a"]]), {"values": ["a"]}, "column 'c' is list.*, which a condition cannot read"),
        (SEOUL, {"min": 5}, "column 'c' is timestamp.*, which has no min and max"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(column: pa.Array, condition: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        meets_condition(Condition.model_validate({"column": "c"} | condition), column)


@pytest.mark.parametrize("settings", [{}, {"min": 1, "values": ["1"]}])
def test_a_condition_is_of_one_kind(settings: dict) -> None:
    with pytest.raises(ValueError, match="takes min and max, or values"):
        Condition(column="rating", **settings)


def test_crosses_by_hand() -> None:
    a = pa.chunked_array([[7.0, 7.0, None, None]])
    b = pa.chunked_array([["red", None, "red", None]])
    assert cross([a, b]).to_pylist() == ["7&red", "7&", "&red", None]


def test_first_and_last_tokens_by_hand() -> None:
    texts = pa.chunked_array([["9,18,269", "", None, "7"]])
    found = read_delimited(texts, ",", 1, "last")
    for codes, expected in ((found.first, ["9", None, None, "7"]), (found.last, ["269", None, None, "7"])):
        assert [codes.values[code].as_py() if code >= 0 else None for code in codes.codes] == expected
    assert end_of_list(pa.chunked_array([[[4, 5], []]]), "last").to_pylist() == [5, None]


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("derived")
    sequences = SMALL_SCHEMA["sequences"] | {"seen": {"kind": "delimited", "max_length": 2, "statistics": True}}
    schema = small_schema(crosses={"color_of_day": ["color", "day"]}, sequences=sequences)
    return prepare_small(small_table(), folder / "raw", folder / "prepared", schema, clip_quantile=0.0)


def test_derived_columns_reach_the_batch(derived: PreparedDataset) -> None:
    schema = derived.split("full").schema
    assert schema.categorical == ("color", "shop", "color_of_day", "seen_first", "seen_last")
    assert schema.dense[3:7] == ("seen_length", "seen_distinct", "seen_diversity", "seen_entropy")
    table, rows = small_table(), np.arange(derived.n_rows)
    codes = derived.store.read_sparse(rows)
    days = derived.vocabularies["color_of_day"].values.to_pylist()
    first = derived.vocabularies["seen_first"].values.to_pylist()
    for row, (color, day, seen) in enumerate(
        zip(*(table[c].to_pylist() for c in ("color", "day", "seen")), strict=True)
    ):
        if codes[row, 2] > 1:
            assert days[codes[row, 2] - 2] == f"{color or ''}&{day}"
        if codes[row, 3] > 1:
            assert first[codes[row, 3] - 2] == seen.split(",")[0]
        assert (codes[row, 3] == 0) == (seen == "")


def test_statistics_are_of_the_whole_sequence(derived: PreparedDataset) -> None:
    expected = [len(text.split(",")) if text else 0 for text in small_table()["seen"].to_pylist()]
    assert derived.store.read_measured(np.arange(derived.n_rows))[:, 3].tolist() == expected
    stats = derived.stats.numeric["full"]["seen_length"]
    assert stats.mean == pytest.approx(np.mean(expected), rel=1e-5)
    assert derived.store.read_tokens("seen", np.arange(derived.n_rows))[1].max() == 2


def test_formulas_are_computed_from_stored_numbers_and_have_statistics(tmp_path: Path) -> None:
    """A ratio with nulls and zeros, and a cycle of times that are stored with an offset; the same from a CSV file."""
    time = 1_735_689_600_000 + np.arange(2000) * 37
    table = small_table().append_column("time", pa.array(time))
    derived = {"ratio": "x_2 / x_10", "turn": "cyclic(time, 60000)", "shop_turn": "cyclic(shop, 7)"}
    schema = small_schema(numeric=["x_*"], derived=derived)
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema)
    stored, names = dataset.store.read_measured(np.arange(2000)), dataset.manifest.schema_.measured
    assert names == ("x_1", "x_2", "x_10", "ratio", "turn_sin", "turn_cos", "shop_turn_sin", "shop_turn_cos")
    assert dataset.manifest.schema_.offsets.keys() == {"time"}
    x_2, x_10 = (table[name].to_numpy().astype(np.float64) for name in ("x_2", "x_10"))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(x_10 == 0, np.nan, x_2 / x_10)
    np.testing.assert_allclose(stored[:, 3], expected, rtol=1e-6)
    for first, values, period in ((4, time, 60_000), (6, table["shop"].to_numpy(), 7)):
        angle = 2 * np.pi * (values % period) / period
        np.testing.assert_allclose(stored[:, first : first + 2], np.stack([np.sin(angle), np.cos(angle)], 1), atol=1e-5)
    assert dataset.stats.numeric["full"]["ratio"].n_null == np.isnan(expected).sum() > 300
    (tmp_path / "csv").mkdir()
    pa_csv.write_csv(table, tmp_path / "csv" / "train.csv")
    config = PrepareConfig(min_count=3)
    prepare(schema, RawFiles(train=("train.csv",)), config, tmp_path / "csv", tmp_path / "csv_out", "csv")
    from_csv = PreparedDataset.open(tmp_path / "csv_out")
    np.testing.assert_allclose(from_csv.store.read_measured(np.arange(2000)), stored, rtol=1e-6)
    assert from_csv.vocabularies["shop"].values.to_pylist() == dataset.vocabularies["shop"].values.to_pylist()
