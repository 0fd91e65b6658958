"""Encodings by earlier rows of prepared data against a loop over the raw rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.data.loader import Loader
from recsys.data.resident.loader import ResidentLoader, resident_batches
from recsys.data.resident.rows import ResidentRows
from recsys.data.split import Split
from recsys.data.store import RowStore
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.schema.feature_selection import FeatureConfig
from tests.helpers.small import prepare_small, small_schema, small_table

ENCODINGS = {"color": ["ctr", "past_ctr", "past_count"], "color*x_10": ["past_ctr"]}
N = 1200


def make_table() -> pa.Table:
    """Rows with a time that has ties and nulls, and a split by time; the files are not in the order of time."""
    rng = np.random.default_rng(3)
    table = small_table(N)
    at = table["day"].to_numpy() * 30 + rng.integers(0, 30, N)
    split = np.where(at >= 210, "test", np.where(at >= 180, "valid", "train"))
    table = table.append_column("at", pa.array(at, mask=rng.random(N) < 0.03))
    return table.append_column("part", pa.array(split))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return make_table()


def schema_of(order: str = "at", until: str = "split", **changes: object):
    past = {"order": order, "history_until": until}
    return small_schema(**{"encodings": ENCODINGS, "encodings_past": past} | changes)


@pytest.fixture(scope="module")
def data(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedDataset]:
    """By `history_until`: data with a split column."""
    folder = tmp_path_factory.mktemp("past")
    return {
        until: prepare_small(table, folder / "raw", folder / until, schema_of(until=until, split="part"), min_count=1)
        for until in ("split", "row")
    }


def column(split: Split, rows: np.ndarray, name: str, store: RowStore | None = None) -> np.ndarray:
    dense = split.encoder.batch(store or split.store, rows, ()).dense
    return dense[:, split.schema.dense.index(name)].numpy()


def counts_by_hand(table: pa.Table, part: np.ndarray, order: str = "at") -> np.ndarray:
    """[n] numbers of earlier rows with the same color, among rows of a part up to that of the row."""
    color, time = table["color"].to_pylist(), table[order].to_pylist()
    found = np.zeros(len(color), np.int64)
    for i, (value, at) in enumerate(zip(color, time, strict=True)):
        for j in range(len(color)):
            is_earlier = at is not None and time[j] is not None and time[j] < at
            found[i] += is_earlier and color[j] == value and part[j] <= part[i]
    return found


def assert_standardized(found: np.ndarray, raw: np.ndarray, fitting: np.ndarray) -> None:
    values = np.log1p(raw)
    assert found == pytest.approx((values - values[fitting].mean()) / values[fitting].std(), abs=2e-5)


def test_evaluated_rows_count_earlier_rows(data: dict[str, PreparedDataset], table: pa.Table) -> None:
    split, rows = data["row"].split("full"), np.arange(N)
    part = np.array([["train", "valid", "test"].index(name) for name in table["part"].to_pylist()])
    found = column(split, rows, "past_count(color)")
    assert_standardized(found, counts_by_hand(table, part), part == 0)


def test_evaluated_rows_count_all_fitting_rows(data: dict[str, PreparedDataset], table: pa.Table) -> None:
    split, rows = data["split"].split("full"), np.arange(N)
    part = np.array([["train", "valid", "test"].index(name) for name in table["part"].to_pylist()])
    raw = counts_by_hand(table, part)
    color = np.array(table["color"].to_pylist(), object)
    for row in np.flatnonzero(part > 0):
        raw[row] = np.sum((color == color[row]) & (part == 0))
    assert_standardized(column(split, rows, "past_count(color)"), raw, part == 0)


def test_the_last_day_is_encoded_by_the_days_before(table: pa.Table, tmp_path: Path) -> None:
    """The order is the day: a row counts those of earlier days alone."""
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema_of("day"), min_count=1)
    day, rows = table["day"].to_numpy(), np.arange(N)
    raw = counts_by_hand(table, np.zeros(N), "day")
    for name, is_fitted in (("holdout", day < 7), ("full", day < 8), ("forward_1", day < 5)):
        split = dataset.split(name)
        assert np.array_equal(np.sort(split.fit_rows.numbers()), np.flatnonzero(is_fitted))
        expected, color = raw.copy(), np.array(table["color"].to_pylist(), object)
        for row in np.flatnonzero(~is_fitted):
            expected[row] = np.sum((color == color[row]) & is_fitted)
        assert_standardized(column(split, rows, "past_count(color)"), expected, is_fitted)


def test_names_of_weekdays_are_an_order(table: pa.Table, tmp_path: Path) -> None:
    names = [["mon", "tue", "wed", "thu", "fri", "sat", "sun"][day - 1] for day in table["day"].to_pylist()]
    renamed = table.set_column(table.schema.get_field_index("day"), "day", pa.array(names))
    first, second = (
        prepare_small(of, tmp_path / "raw", tmp_path / str(number), schema_of("day"), min_count=1)
        for number, of in enumerate((table, renamed))
    )
    rows = np.arange(N)
    assert np.array_equal(first.store.past_counts(rows), second.store.past_counts(rows))


def test_rows_to_submit_are_encoded_as_test_rows(data: dict[str, PreparedDataset]) -> None:
    for until, is_equal in (("split", True), ("row", False)):
        split, store = data[until].split("full"), data[until].store
        rows = split.evaluation_rows["test"].numbers()
        in_memory = RowStore.from_encoded(store.encoded(rows), data[until].manifest.schema_)
        for name in ("past_ctr(color)", "past_count(color)", "past_ctr(color*x_10)"):
            to_submit = column(split, np.arange(len(rows)), name, in_memory)
            assert np.array_equal(to_submit, column(split, rows, name)) == is_equal


def test_flipped_labels_reach_later_rows_alone(
    data: dict[str, PreparedDataset], table: pa.Table, tmp_path: Path
) -> None:
    at, label = table["at"].to_pylist(), table["click"].to_numpy().copy()
    row = next(i for i in range(N) if at[i] == 100)
    label[row] = 1 - label[row]
    flipped = table.set_column(table.schema.get_field_index("click"), "click", pa.array(label))
    schema = schema_of(until="row", split="part")
    other = prepare_small(flipped, tmp_path / "raw", tmp_path / "out", schema, min_count=1)
    before, after = (of.store.past_counts(np.arange(N)) for of in (data["row"], other))
    changed = np.flatnonzero((before != after).any(axis=1))
    assert len(changed) > 50
    assert all(at[i] is not None and at[i] > 100 for i in changed)


def test_random_labels_show_no_signal(table: pa.Table, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    shop, label = rng.integers(0, N // 4, N), rng.integers(0, 2, N)
    shuffled = table.set_column(table.schema.get_field_index("shop"), "shop", pa.array(shop))
    shuffled = shuffled.set_column(shuffled.schema.get_field_index("click"), "click", pa.array(label))
    schema = schema_of(encodings={"shop": ["past_ctr"]})
    dataset = prepare_small(shuffled, tmp_path / "raw", tmp_path / "out", schema, min_count=1)
    rate = column(dataset.split("full"), np.arange(N), "past_ctr(shop)")
    assert abs(np.corrcoef(rate, label)[0, 1]) < 3 / np.sqrt(N)


def test_files_and_their_order_do_not_matter(data: dict[str, PreparedDataset], table: pa.Table, tmp_path: Path) -> None:
    shuffled = np.random.default_rng(5).permutation(N)
    (tmp_path / "raw").mkdir()
    for number, rows in enumerate(np.array_split(shuffled, 3)):
        pq.write_table(table.take(pa.array(rows)), tmp_path / "raw" / f"train_{number}.parquet")
    schema, config = schema_of(until="row", split="part"), PrepareConfig(min_count=1)
    prepare(schema, RawFiles(train=("train_*.parquet",)), config, tmp_path / "raw", tmp_path / "out", "small")
    other = PreparedDataset.open(tmp_path / "out")
    first, second = (of.store.past_counts(np.arange(N)) for of in (data["row"], other))
    assert np.array_equal(first[shuffled], second)
    paths = [of.folder / layout.ENCODING_COUNTS_FILE for of in (data["row"], other)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    dense = [
        column(of.split("full"), rows, "past_ctr(color)")
        for of, rows in ((data["row"], shuffled), (other, np.arange(N)))
    ]
    assert dense[0] == pytest.approx(dense[1], abs=1e-6)


@pytest.mark.parametrize("until", ["split", "row"])
def test_resident_rows_have_the_same_encodings(data: dict[str, PreparedDataset], until: str) -> None:
    split = data[until].split("full")
    resident = resident_batches(split, ResidentRows.of(split.store, torch.device("cpu")))
    for rows in (split.fit_rows, split.evaluation_rows["test"]):
        options = (rows, 256, (), None, 2, None)
        for found, expected in zip(ResidentLoader(resident, *options), Loader(split, *options), strict=True):
            assert np.allclose(found.dense, expected.dense, atol=1e-6)


def test_columns_of_the_model(data: dict[str, PreparedDataset]) -> None:
    names = data["row"].split("full").schema.dense
    assert names[-4:] == ("ctr(color)", "past_ctr(color)", "past_count(color)", "past_ctr(color*x_10)")
    assert data["row"].split("full", FeatureConfig(encodings=False)).schema.dense == names[:-4]


def test_test_rows_without_labels_need_no_order(table: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    pq.write_table(table, tmp_path / "raw" / "train.parquet")
    pq.write_table(table.drop_columns(["click", "at"]).slice(0, 50), tmp_path / "raw" / "test.parquet")
    files = RawFiles(train=("train.parquet",), test=("test.parquet",))
    prepare(schema_of(until="row"), files, PrepareConfig(min_count=1), tmp_path / "raw", tmp_path / "out", "small")
    dataset = PreparedDataset.open(tmp_path / "out")
    past = dataset.store.past_counts(np.arange(N + 50))
    assert (past[N:] == -1).all()
    assert (past[:N] >= 0).all()


def test_evaluated_rows_need_an_order(table: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    pq.write_table(table, tmp_path / "raw" / "train.parquet")
    pq.write_table(table.drop_columns(["at", "id"]).slice(0, 50), tmp_path / "raw" / "test.parquet")
    files, config = RawFiles(train=("train.parquet",), test=("test.parquet",)), PrepareConfig(min_count=1)
    with pytest.raises(InputError, match="test files with labels lack the order 'at'"):
        prepare(schema_of(until="row"), files, config, tmp_path / "raw", tmp_path / "out", "small")
    out = prepare(schema_of(), files, config, tmp_path / "raw", tmp_path / "out", "small")
    assert (PreparedDataset.open(out).store.past_counts(np.arange(N, N + 50)) == -1).all()


def test_two_folds_suffice_for_encodings_by_earlier_rows(table: pa.Table, tmp_path: Path) -> None:
    schema = schema_of(encodings={"color": ["past_ctr"]})
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema, min_count=1, n_folds=2)
    assert dataset.split("fold_1").schema.dense[-1] == "past_ctr(color)"


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("att", r"schema.encodings_past.order: 'att' is not a column"),
        ("seen", r"the order of schema.encodings_past \(column 'seen'\) contains the text"),
    ],
)
def test_an_order_that_is_none(table: pa.Table, tmp_path: Path, order: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_small(table, tmp_path / "raw", tmp_path / "out", schema_of(order))
