"""Histories from the log: only strictly earlier rows of the same key, for any row order of the files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.raw.derive import meets_condition
from recsys.raw.order.history import History, LogRows, build_history
from recsys.raw.order.moments import join_moments, read_moments
from recsys.raw.tokens import encode_values
from recsys.schema.config import LogSequence, SchemaConfig

LOG = {"kind": "log", "key": "user", "item": "item", "order": "at", "max_length": 3}


def ratings(n: int = 600, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user": pa.array(rng.integers(0, 12, n), mask=rng.random(n) < 0.02),
            "item": rng.integers(100, 140, n),
            "at": rng.integers(0, 200, n),  # many ties
            "rating": rng.integers(1, 6, n),
        }
    )


def history_of(log: LogSequence, table: pa.Table) -> History:
    moments = join_moments([read_moments(table[log.order], Path("log"), "order")], "order")
    is_step = np.ones(len(table), bool) if log.where is None else meets_condition(log.where, table[log.where.column])
    part = np.array(table["part"], np.uint8) if "part" in table.column_names else np.zeros(len(table), np.uint8)
    key, item = encode_values(table[log.key]), encode_values(table[log.item])
    return build_history(log, LogRows(key, item, moments, is_step, part))


def plain_history(table: pa.Table, row: int, max_length: int, lowest: int = 0) -> list[tuple[int, str]]:
    """The steps of a row with their times, by a scan of all rows."""
    user, item, at, rating = (table[name].to_pylist() for name in ("user", "item", "at", "rating"))
    if user[row] is None:
        return []
    steps = [
        (at[i], str(item[i]))
        for i in range(len(user))
        if user[i] == user[row] and at[i] < at[row] and rating[i] >= lowest
    ]
    return sorted(steps)[-max_length:]


@pytest.mark.parametrize("where", [None, {"column": "rating", "min": 4}])
def test_agrees_with_a_scan_of_all_rows(where: dict | None) -> None:
    table = ratings()
    log = LogSequence.model_validate(LOG | {"where": where})
    lists = history_of(log, table).lists(0, table.num_rows).to_pylist()
    for row in range(table.num_rows):
        assert lists[row] == [item for _, item in plain_history(table, row, 3, 4 if where else 0)]
    assert max(map(len, lists)) == 3


def test_history_excludes_the_row_and_later_rows() -> None:
    table = ratings()
    before = history_of(LogSequence.model_validate(LOG), table).lists(0, 600).to_pylist()
    at, item = np.array(table["at"]), table["item"].to_pylist()
    moment = 120
    changed = pa.array([i if t < moment else 999 for i, t in zip(item, at, strict=True)])
    after = history_of(LogSequence.model_validate(LOG), table.set_column(1, "item", changed)).lists(0, 600).to_pylist()
    for row in np.flatnonzero(at <= moment):
        assert after[row] == before[row]


def test_history_does_not_depend_on_row_order() -> None:
    table = ratings()
    order = np.random.default_rng(1).permutation(600)
    log = LogSequence.model_validate(LOG)
    straight = history_of(log, table).lists(0, 600).to_pylist()
    shuffled = history_of(log, table.take(pa.array(order))).lists(0, 600).to_pylist()
    assert shuffled == [straight[row] for row in order]


def test_a_judged_part_is_no_step_of_its_own_histories() -> None:
    """User 1, by hand: parts 1 and 2 are evaluated at once; part 0 is not evaluated."""
    table = pa.table(
        {
            "user": [1, 1, 1, 1, 1, 1, 1, 2],
            "item": [10, 11, 12, 13, 14, 15, 16, 17],
            "at": [1, 2, 3, 4, 5, 6, 7, 4],
            "part": [0, 0, 1, 1, 0, 2, 2, 1],
        }
    )
    log = LogSequence.model_validate(LOG)
    history = history_of(log, table)
    expected = [[], ["10"], ["10", "11"], ["10", "11"], ["11", "12", "13"], *[["12", "13", "14"]] * 2, []]
    assert history.lists(0, 8).to_pylist() == expected
    assert history.full_lengths.tolist() == [0, 1, 2, 2, 4, 5, 5, 0]
    online = history_of(log.model_copy(update={"history_until": "row"}), table).lists(0, 8).to_pylist()
    assert online[3] == ["10", "11", "12"]
    assert online[6] == ["13", "14", "15"]


def test_parts_in_any_order_agree_with_a_scan_of_all_rows() -> None:
    """Parts that are no ranges of time, as with random test rows."""
    table = ratings()
    part = np.random.default_rng(2).integers(0, 4, 600)
    history = history_of(LogSequence.model_validate(LOG), table.append_column("part", pa.array(part)))
    lists = history.lists(0, 600).to_pylist()
    for row in range(600):
        others = np.flatnonzero((part != part[row]) | (part == 0) | (np.arange(600) == row))
        alone = table.take(pa.array(others))
        steps = plain_history(alone, int(np.searchsorted(others, row)), 600)
        assert lists[row] == [item for _, item in steps[-3:]]
        assert history.full_lengths[row] == len(steps)


@pytest.mark.parametrize("history_until", ["split", "row"])
def test_labels_of_the_evaluated_day_are_in_no_history(tmp_path: Path, history_until: str) -> None:
    """The twin: with `row`, a changed label of the last day changes histories of that day."""
    table = ratings().append_column("day", pa.array(np.array(ratings()["at"]) // 40))
    where = {"column": "rating", "min": 4}
    liked = LOG | {"where": where, "history_until": history_until}
    schema = {"split": None, "day": "day", "sequences": {"liked": liked}}
    day = np.array(table["day"])
    other_labels = np.where(day == 4, 6 - np.array(table["rating"]), np.array(table["rating"]))
    changed = table.set_column(table.column_names.index("rating"), "rating", pa.array(other_labels))
    folders = [tmp_path / "first", tmp_path / "second"]
    found = []
    for folder, rows in zip(folders, (table, changed), strict=True):
        folder.mkdir()
        dataset = prepare_ratings(rows, folder, **schema)
        last_day = np.sort(dataset.split("holdout").held_out_rows.numbers())
        assert np.array_equal(last_day, np.flatnonzero(day == 4))
        assert np.array_equal(last_day, np.sort(dataset.split("forward_3").held_out_rows.numbers()))
        values = ["missing", "rare", *dataset.vocabularies["item"].values.to_pylist()]
        codes, lengths = dataset.store.read_tokens("liked", last_day)
        found.append(([values[code] for code in codes], lengths.tolist()))
    assert (found[0] == found[1]) == (history_until == "split")


def prepare_ratings(table: pa.Table, folder: Path, **schema: object) -> PreparedDataset:
    (folder / "raw").mkdir()
    pq.write_table(table, folder / "raw" / "ratings.parquet", row_group_size=50)
    config = SchemaConfig.model_validate(
        {
            "label": {"column": "rating", "min": 4},
            "split": {"column": "at", "valid_from": 120, "test_from": 160},
            "categorical": ["user", "item"],
            "sequences": {"liked": LOG | {"where": {"column": "rating", "min": 4}, "history_until": "row"}},
            "target_item": "item",
        }
        | schema
    )
    files, settings = RawFiles(train=("ratings.parquet",)), PrepareConfig(min_count=1)
    return PreparedDataset.open(prepare(config, files, settings, folder / "raw", folder / "prepared", "ratings"))


def test_labels_splits_and_histories_from_a_plain_log(tmp_path: Path) -> None:
    table = ratings()
    dataset = prepare_ratings(table, tmp_path)
    every = np.arange(600)
    assert np.array_equal(dataset.store.labels(every), np.array(table["rating"]) >= 4)
    at = np.array(table["at"])
    for name, low, high in (("valid", 120, 160), ("test", 160, 1000)):
        rows = dataset.partition_rows(name)
        assert sorted(rows.numbers()) == np.flatnonzero((at >= low) & (at < high)).tolist()
    assert dataset.manifest.schema_.vocabularies["item"] == ("item", "liked")
    values = dataset.vocabularies["item"].values.to_pylist()
    for row in range(600):
        codes, _ = dataset.store.read_tokens("liked", np.array([row]))
        expected = [item for _, item in plain_history(table, row, 3, 4)]
        assert [values[code - 2] if code > 1 else item for code, item in zip(codes, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"sequences": {"liked": LOG | {"key": "usr"}}}, "schema.sequences.liked: 'usr' is not a column.*'user'"),
        ({"sequences": {"rating": LOG}}, "the data already has a column 'rating'"),
        ({"split": {"column": "at", "test_from": "soon"}}, "schema.split.test_from: 'soon' cannot be compared"),
        ({"label": {"column": "rating", "min": 9}}, "training labels 'rating' are all 0"),
        (
            {"sequences": {"liked": LOG | {"where": {"column": "rating", "min": 9}}}},
            "schema.sequences.liked.where: no row meets the condition",
        ),
    ],
)
def test_wrong_roles_are_named(tmp_path: Path, schema: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_ratings(ratings(), tmp_path, **schema)
