"""Encodings of prepared data against counts by hand: for fitting rows, for other rows, and for rows to score."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from recsys.data import layout
from recsys.data.dataset import PreparedDataset
from recsys.data.encodings.rates import BetaPrior
from recsys.data.loader import Loader
from recsys.data.resident.loader import ResidentLoader, resident_batches
from recsys.data.resident.rows import ResidentRows
from recsys.data.split import Split
from recsys.data.store import RowStore
from recsys.errors import InputError
from recsys.schema.feature_selection import FeatureConfig
from tests.helpers.small import prepare_small, small_schema, small_table

ENCODINGS = {"color": ["count", "ctr"], "color*shop": ["ctr"]}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return small_table(1500)


@pytest.fixture(scope="module")
def encoded(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("encoded")
    return prepare_small(table, folder / "raw", folder / "out", small_schema(encodings=ENCODINGS), min_count=1)


def folds(dataset: PreparedDataset) -> np.ndarray:
    fold = np.empty(dataset.n_rows, np.int64)
    for number in range(5):
        fold[dataset.split(f"fold_{number}").held_out_rows.numbers()] = number
    return fold


def column(split: Split, rows: np.ndarray, name: str, store: RowStore | None = None) -> np.ndarray:
    dense = split.encoder.batch(store or split.store, rows, ()).dense
    return dense[:, split.schema.dense.index(name)].numpy()


def rates_by_hand(values: list[object], label: np.ndarray, counted: np.ndarray) -> list[float]:
    """The smoothed log odds of the value of each row, from the counted rows."""
    n_rows, n_clicks = Counter(), Counter()
    for row in np.flatnonzero(counted):
        n_rows[values[row]] += 1
        n_clicks[values[row]] += int(label[row])
    known = sorted(set(values), key=str)
    rows, clicks = (np.array([of[value] for value in known]) for of in (n_rows, n_clicks))
    odds = dict(zip(known, BetaPrior.fit(rows, clicks).log_odds(rows, clicks).tolist(), strict=True))
    return [odds[value] for value in values]


def assert_proportional(found: np.ndarray, expected: np.ndarray, rows: np.ndarray, scale: tuple[float, float]) -> None:
    assert found[rows] == pytest.approx((expected[rows] - scale[0]) / scale[1], abs=2e-5)


@pytest.mark.parametrize("name", ["color", "color*shop"])
def test_rates_by_hand(encoded: PreparedDataset, table: pa.Table, name: str) -> None:
    color, shop = table["color"].to_pylist(), table["shop"].to_pylist()
    pairs = list(zip(color, shop, strict=True))  # a pair with one null is a value too
    values, label, fold = (color if name == "color" else pairs), table["click"].to_numpy(), folds(encoded)
    split, rows = encoded.split("fold_0"), np.arange(len(table))
    found = column(split, rows, f"ctr({name})")
    outside = np.array(rates_by_hand(values, label, fold != 0))
    fitted, inner = fold != 0, np.zeros(len(table))
    for number in range(1, 5):
        own = fold == number
        inner[own] = np.array(rates_by_hand(values, label, fitted & ~own))[own]
    scale = float(inner[fitted].mean()), float(inner[fitted].std())
    assert_proportional(found, outside, fold == 0, scale)
    assert_proportional(found, inner, fitted, scale)


def test_rows_to_score_are_encoded_by_all_fitting_rows(encoded: PreparedDataset) -> None:
    split, rows = encoded.split("full"), np.arange(encoded.n_rows)
    in_memory = RowStore.from_encoded(encoded.store.encoded(rows), encoded.manifest.schema_)
    assert in_memory.groups(rows) is None
    to_score = column(split, rows, "ctr(color)", in_memory)
    by_color = {}
    for code, value in zip(encoded.store.read_sparse(rows)[:, 0].tolist(), to_score.tolist(), strict=True):
        assert by_color.setdefault(code, value) == value
    assert not np.array_equal(to_score, column(split, rows, "ctr(color)"))  # fitting rows leave their own fold out


def test_products_are_only_encoded(encoded: PreparedDataset) -> None:
    schema = encoded.split("fold_0").schema
    assert "color*shop" in encoded.manifest.schema_.categorical
    assert schema.categorical == ("color", "shop")
    assert set(schema.num_embeddings) == {"color", "shop", "seen"}
    assert schema.dense[-3:] == ("count(color)", "ctr(color)", "ctr(color*shop)")
    _, numbers = encoded.split("fold_0").table(np.arange(10))
    assert numbers[:, -1].tolist() == column(encoded.split("fold_0"), np.arange(10), "ctr(color*shop)").tolist()
    plain = encoded.split("fold_0", FeatureConfig(encodings=False)).schema
    assert plain.dense == schema.dense[:-3]


def test_labels_of_the_held_out_fold_have_no_say(encoded: PreparedDataset, table: pa.Table, tmp_path: Path) -> None:
    fold, label = folds(encoded), table["click"].to_numpy()
    flipped = pa.array(np.where(fold == 2, 1 - label, label).astype(np.int8))
    other = table.set_column(table.schema.get_field_index("click"), "click", flipped)
    dataset = prepare_small(other, tmp_path / "raw", tmp_path / "out", small_schema(encodings=ENCODINGS), min_count=1)
    rows = np.arange(len(table))
    for name in ("ctr(color)", "ctr(color*shop)"):
        before, after = (column(data.split("fold_2"), rows, name) for data in (encoded, dataset))
        assert np.array_equal(before, after)
        before, after = (column(data.split("fold_1"), rows, name) for data in (encoded, dataset))
        assert not np.array_equal(before, after)


def test_counts_do_not_depend_on_the_order_of_rows(encoded: PreparedDataset, table: pa.Table, tmp_path: Path) -> None:
    shuffled = table.take(pc.sort_indices(table, sort_keys=[("x_10", "ascending"), ("id", "descending")]))
    schema = small_schema(encodings=ENCODINGS)
    dataset = prepare_small(shuffled, tmp_path / "raw", tmp_path / "out", schema, min_count=1)
    first, second = (data.folder / layout.ENCODING_COUNTS_FILE for data in (encoded, dataset))
    assert first.read_bytes() == second.read_bytes()


def test_resident_rows_have_the_same_encodings(encoded: PreparedDataset) -> None:
    split = encoded.split("fold_1")
    resident = resident_batches(split, ResidentRows.of(split.store, torch.device("cpu")))
    options = (split.fit_rows, 256, (), None, 2, None)
    for found, expected in zip(ResidentLoader(resident, *options), Loader(split, *options), strict=True):
        assert np.allclose(found.dense, expected.dense, atol=1e-6)


def test_two_folds_leave_no_rows_to_count(table: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="schema.encodings: with prepare.n_folds=2"):
        prepare_small(table, tmp_path / "raw", tmp_path / "out", small_schema(encodings=ENCODINGS), n_folds=2)
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "3", small_schema(encodings=ENCODINGS), n_folds=3)
    split = dataset.split("fold_0")
    assert column(split, split.fit_rows.numbers(), "ctr(color)").std() > 0.5


def test_an_unknown_feature(table: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="schema.encodings: 'colour\\*shop' is not a column"):
        prepare_small(table, tmp_path / "raw", tmp_path / "out", small_schema(encodings={"colour*shop": ["ctr"]}))
