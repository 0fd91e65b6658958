"""Encodings of tokens in prepared data: against counts by hand, on the device, for rows to score, and without leaks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.data.encodings.rates import BetaPrior
from recsys.data.loader import Loader
from recsys.data.resident.loader import ResidentLoader, resident_batches
from recsys.data.resident.rows import ResidentRows, resident_bytes
from recsys.data.split import Split
from recsys.data.store import RowStore
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.schema.feature_selection import FeatureConfig
from tests.helpers.small import prepare_small, small_schema, small_table

SCHEMA = small_schema(encodings={"seen": ["count", "ctr"], "color": ["ctr"]})
NAMES = [f"{kind}_{pool}(seen)" for kind in ("count", "ctr") for pool in ("mean", "max", "last_1", "last_2", "last_3")]


def clicks_by_token(n: int) -> pa.Table:
    """Rows with a click that depends on the tokens."""
    table, rng = small_table(n), np.random.default_rng(1)
    has_token = np.array(["7" in text.split(",") for text in table["seen"].to_pylist()])
    click = pa.array((rng.random(len(table)) < np.where(has_token, 0.8, 0.2)).astype(np.int8))
    return table.set_column(table.schema.get_field_index("click"), "click", click)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return clicks_by_token(1500)


@pytest.fixture(scope="module")
def encoded(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("tokens")
    return prepare_small(table, folder / "raw", folder / "out", SCHEMA, min_count=1)


def columns(split: Split, rows: np.ndarray, store: RowStore | None = None) -> np.ndarray:
    """[n, 10] encodings of the tokens."""
    dense = split.encoder.batch(store or split.store, rows, ()).dense.numpy()
    return dense[:, [split.schema.dense.index(name) for name in NAMES]]


def folds(dataset: PreparedDataset) -> np.ndarray:
    fold = np.empty(dataset.n_rows, np.int64)
    for number in range(5):
        fold[dataset.split(f"fold_{number}").held_out_rows.numbers()] = number
    return fold


def by_hand(tokens: Sequence[Sequence[str]], label: np.ndarray, counted: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """[n, 10] columns of all rows, from the counted ones among the fitted rows, not standardized."""
    known = sorted({token for row in tokens for token in row})
    contains = np.array([[token in row for token in known] for row in tokens])
    rows, clicks = contains[counted].sum(axis=0), contains[counted & (label == 1)].sum(axis=0)
    scale = contains[fitted].sum() / rows.sum()
    encodings = np.log1p(rows * scale), BetaPrior.fit(rows, clicks).log_odds(rows, clicks)
    found = np.zeros((len(tokens), 10))
    for number, row in enumerate(tokens):
        for kind, values in enumerate(encodings):
            of = dict(zip(known, values, strict=True))
            if row:
                distinct = [of[token] for token in set(row)]
                last = [of[token] for token in reversed(row)][:3]
                found[number, 5 * kind : 5 * kind + 2 + len(last)] = [np.mean(distinct), max(distinct), *last]
    return found


def test_columns_by_hand(encoded: PreparedDataset, table: pa.Table) -> None:
    tokens = [text.split(",")[-5:] if text else [] for text in table["seen"].to_pylist()]  # max_length is 5
    label, fold = table["click"].to_numpy(), folds(encoded)
    split, fitted, expected = encoded.split("fold_0"), fold != 0, np.zeros((len(table), 10))
    for number in range(5):
        of_fold = fold == number
        expected[of_fold] = by_hand(tokens, label, fitted & ~of_fold, fitted)[of_fold]
    expected = (expected - expected[fitted].mean(axis=0)) / expected[fitted].std(axis=0)
    assert columns(split, np.arange(len(table))) == pytest.approx(expected, abs=2e-5)
    assert columns(split, np.flatnonzero(fitted)).std(axis=0) == pytest.approx(1, abs=1e-4)


def test_names_follow_those_of_categorical_features(encoded: PreparedDataset) -> None:
    split = encoded.split("fold_0")
    assert split.schema.dense[-11:] == ("ctr(color)", *NAMES)
    _, numbers = split.table(np.arange(10))
    assert numbers[:, -10:].tolist() == columns(split, np.arange(10)).tolist()
    assert encoded.split("fold_0", FeatureConfig(encodings=False)).schema.dense == split.schema.dense[:-11]


def test_rows_to_score_are_encoded_by_all_fitting_rows(encoded: PreparedDataset) -> None:
    split, rows = encoded.split("full"), np.arange(encoded.n_rows)
    in_memory = RowStore.from_encoded(encoded.store.encoded(rows), encoded.manifest.schema_)
    found = columns(split, rows, in_memory)
    codes, lengths = encoded.store.read_tokens("seen", rows)
    last = codes[np.cumsum(lengths)[lengths > 0] - 1]
    for code in np.unique(last)[:5]:
        assert len(np.unique(found[lengths > 0, 7][last == code])) == 1
    assert len(np.unique(found[lengths == 0], axis=0)) == 1
    assert not np.array_equal(found, columns(split, rows))  # fitting rows leave their own fold out


def test_labels_of_the_held_out_fold_have_no_say(encoded: PreparedDataset, table: pa.Table, tmp_path: Path) -> None:
    fold, label = folds(encoded), table["click"].to_numpy()
    flipped = pa.array(np.where(fold == 2, 1 - label, label).astype(np.int8))
    other = table.set_column(table.schema.get_field_index("click"), "click", flipped)
    dataset = prepare_small(other, tmp_path / "raw", tmp_path / "out", SCHEMA, min_count=1)
    rows = np.arange(len(table))
    assert np.array_equal(*(columns(data.split("fold_2"), rows) for data in (encoded, dataset)))
    assert not np.array_equal(*(columns(data.split("fold_1"), rows) for data in (encoded, dataset)))


def test_rates_of_random_labels_say_nothing(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 4000
    table = small_table(n).set_column(7, "seen", pa.array([f"t{rng.integers(n // 3)}" for _ in range(n)]))
    table = table.set_column(8, "click", pa.array((rng.random(n) < 0.3).astype(np.int8)))
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", SCHEMA, min_count=1)
    split, label = dataset.split("fold_0"), table["click"].to_numpy()
    for rows in (split.fit_rows.numbers(), split.held_out_rows.numbers()):
        deviation = np.sqrt(len(rows) / (12 * label[rows].sum() * (1 - label[rows]).sum()))
        assert abs(roc_auc_score(label[rows], columns(split, rows)[:, 6]) - 0.5) < 3.5 * deviation
    rows = split.fit_rows.numbers()  # with its own label among the counts, the rate of a rare token tells it
    own = RowStore.from_encoded(dataset.store.encoded(rows), dataset.manifest.schema_)
    assert roc_auc_score(label[rows], columns(split, np.arange(len(rows)), own)[:, 6]) > 0.7


def test_later_rows_are_ranked_as_well_as_held_out_ones(tmp_path: Path) -> None:
    dataset = prepare_small(clicks_by_token(6000), tmp_path / "raw", tmp_path / "out", SCHEMA, min_count=1)

    def auc(split: Split, rows: np.ndarray) -> float:
        return float(roc_auc_score(dataset.store.labels(rows), columns(split, rows)[:, 5]))

    holdout, fold = dataset.split("holdout"), dataset.split("fold_0")
    later, held_out = (auc(split, split.held_out_rows.numbers()) for split in (holdout, fold))
    assert later > held_out - 0.06  # about 860 and 1,200 rows: three standard errors of the difference
    assert held_out > 0.6
    assert auc(fold, fold.fit_rows.numbers()) < held_out + 0.05  # no row's own label is among its counts


def test_any_order_and_number_of_files(encoded: PreparedDataset, table: pa.Table, tmp_path: Path) -> None:
    shuffled = table.take(pc.sort_indices(table, sort_keys=[("x_10", "ascending"), ("id", "descending")]))
    pq.write_table(shuffled[:400], tmp_path / "b.parquet")
    pq.write_table(shuffled[400:], tmp_path / "a.parquet", row_group_size=100)
    config = PrepareConfig.model_validate({"min_count": 1})
    prepare(SCHEMA, RawFiles(train=("b.parquet", "a.parquet")), config, tmp_path, tmp_path / "out", "small")
    first, second = (folder / layout.ENCODING_COUNTS_FILE for folder in (encoded.folder, tmp_path / "out"))
    assert first.read_bytes() == second.read_bytes()


def test_resident_rows_have_the_same_encodings(encoded: PreparedDataset) -> None:
    split = encoded.split("fold_1")
    resident = resident_batches(split, ResidentRows.of(split.store, torch.device("cpu")))
    options = (split.fit_rows, 256, (), None, 2, None)
    for found, expected in zip(ResidentLoader(resident, *options), Loader(split, *options), strict=True):
        assert np.allclose(found.dense, expected.dense, atol=1e-6)


def test_memory_of_resident_rows(encoded: PreparedDataset, table: pa.Table, tmp_path: Path) -> None:
    plain = prepare_small(table, tmp_path / "raw", tmp_path / "out", min_count=1)
    assert resident_bytes(encoded.store) - resident_bytes(plain.store) == 10 * 4 * len(table)


def test_a_sequence_that_shares_the_vocabulary_of_a_column(table: pa.Table, tmp_path: Path) -> None:
    seen = [["red", "blue"][: n % 3] for n in range(len(table))]
    table = table.set_column(table.schema.get_field_index("seen"), "seen", pa.array(seen, pa.list_(pa.string())))
    sequences = {"seen": {"kind": "list", "vocabulary": "color"}}
    schema = small_schema(encodings={"seen": ["count"]}, sequences=sequences, segments={})
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema)
    split = dataset.split("full")
    codes = {value: code + 2 for code, value in enumerate(dataset.vocabularies["color"].values.to_pylist())}
    n_rows = dataset.value_counts["seen"].n_rows.sum(axis=1)
    assert len(n_rows) == dataset.vocabularies["color"].n_codes
    expected = {"red": 1000, "blue": 500, "green": 0, "grey": 0}
    assert {value: int(n_rows[code]) for value, code in codes.items()} == expected
    assert split.schema.dense[-5:] == tuple(NAMES[:5])


def test_a_sequence_of_numbers(table: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="schema.encodings: 'steps' is a sequence of numbers"):
        prepare_small(table, tmp_path / "raw", tmp_path / "out", small_schema(encodings={"steps": ["ctr"]}))
