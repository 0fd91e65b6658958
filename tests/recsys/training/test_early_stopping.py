"""The rows that early stopping monitors."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.data.rows import ListedRows
from recsys.data.split import Prior, Split
from recsys.errors import InputError
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import DEFINED_FOR_ONE_CLASS, measure
from recsys.schema.config import SchemaConfig
from recsys.training.config import EarlyStopping
from recsys.training.copies import content_hashes
from recsys.training.early_stopping import few_clicks_warning, split_monitored_rows
from tests.helpers.small import SMALL_SCHEMA, prepare_small, small_schema, small_table
from tests.helpers.training import quick, trainer_of
from tests.helpers.users import prepare_users, user_clicks


def with_positives(split: Split, n_rows: int, n_positive: int) -> Split:
    """The split with only some of its fitting rows."""
    rows = split.fit_rows.numbers()
    label = split.store.labels(rows)
    chosen = np.concatenate([rows[label == 1][:n_positive], rows[label == 0][: n_rows - n_positive]])
    prior = Prior(n_positive, n_rows - n_positive)
    return replace(split, fit_rows=ListedRows(chosen), prior=prior, monitored=None)


def test_one_class_leaves_these_metrics_defined() -> None:
    metrics = measure(np.zeros(3), Logits.of_one_fit(np.array([-1.0, 0.0, 1.0]), 0.0))
    assert metrics.defined().keys() == DEFINED_FOR_ONE_CLASS


def test_monitored_rows_without_a_positive_are_an_error_before_the_first_step(small: PreparedDataset) -> None:
    rare = with_positives(small.split("fold_0"), 400, 3)
    by_score = EarlyStopping(weights={"toss_score": 1}, validation_fraction=0.05)
    with pytest.raises(InputError, match=r"toss_score is undefined on the 20 monitored rows .*\(0 positive\): raise"):
        split_monitored_rows(rare, None, by_score, 0)
    fitted, held_out = split_monitored_rows(rare, None, EarlyStopping(validation_fraction=0.05), 0)
    assert held_out is not None
    assert (len(fitted), len(held_out)) == (380, 20)
    assert split_monitored_rows(rare, None, None, 0) == (rare.fit_rows, None)


def test_rows_to_train_on_without_a_positive_are_an_error(small: PreparedDataset) -> None:
    split = with_positives(small.split("fold_0"), 40, 1)
    stopping = EarlyStopping(weights={"logloss": -1}, validation_fraction=0.49)
    errors = []
    for seed in range(20):  # about half of the seeds hold out the only positive
        try:
            split_monitored_rows(split, None, stopping, seed)
        except InputError as error:
            errors.append(str(error))
    assert 3 < len(errors) < 17
    assert all("monitors all rows of one class, so that none is left to train on" in error for error in errors)


def test_validation_rows_without_a_positive_have_their_own_cure(small: PreparedDataset) -> None:
    split = small.split("fold_0")
    negatives = ListedRows(np.array([row for row in range(200) if small.store.labels(np.array([row]))[0] == 0]))
    with pytest.raises(InputError, match="validation rows of early stopping.*add validation rows of both classes"):
        split_monitored_rows(split, negatives, EarlyStopping(weights={"roc_auc": 1}), 0)


def test_a_split_by_day_monitors_its_latest_rows(small: PreparedDataset) -> None:
    for name, is_by_time in (("holdout", True), ("full", True), ("fold_0", False)):
        split = small.split(name)
        fitted, held_out = split_monitored_rows(split, None, EarlyStopping(validation_fraction=0.2), 0)
        assert held_out is not None
        assert sorted([*fitted.numbers(), *held_out.numbers()]) == sorted(split.fit_rows.numbers())
        assert len(held_out) == round(0.2 * len(split.fit_rows))
        days_fitted, days_held_out = (small.store.days(rows.numbers()) for rows in (fitted, held_out))
        assert (days_fitted.max() <= days_held_out.min()) == is_by_time


def test_a_split_at_a_time_monitors_its_latest_rows(tmp_path: Path) -> None:
    """Rows in a shuffled order: the fitting rows are before time 70, and the latest of them are monitored."""
    minute = np.random.default_rng(0).permutation(400) // 4  # four rows of each time
    times = pa.array(np.datetime64("2025-01-31T10:00", "s") + minute * np.timedelta64(60, "s"))
    schema = small_schema(id=None, day=None, split={"column": "at", "test_from": "2025-01-31 11:10"})
    table = small_table(400).append_column("at", times)
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema)
    split = dataset.split("full")
    fitted, held_out = split_monitored_rows(split, None, EarlyStopping(validation_fraction=0.2), 0)
    assert held_out is not None
    assert len(held_out) == 56  # a fifth of 4 x 70 rows
    assert sorted(minute[held_out.numbers()]) == sorted([*range(56, 70)] * 4)
    assert sorted(minute[fitted.numbers()]) == sorted([*range(56)] * 4)
    held_out_of_fold = split_monitored_rows(dataset.split("fold_0"), None, EarlyStopping(), 0)[1]
    assert held_out_of_fold is not None
    assert minute[held_out_of_fold.numbers()].min() < 56  # folds are no split by time


@pytest.mark.parametrize("fraction", [0.1, 0.4])
def test_a_fold_monitors_rows_of_the_next_fold_alone(small: PreparedDataset, fraction: float) -> None:
    """At most all rows of that fold; the twin is a sample of all fitting rows, which has rows of four folds."""
    fold = np.empty(small.n_rows, int)
    for number in range(5):
        fold[small.split(f"fold_{number}").held_out_rows.numbers()] = number
    for number in range(5):
        split = small.split(f"fold_{number}")
        following = (number + 1) % 5
        assert split.monitored_fold == following
        fitted, held_out = split_monitored_rows(split, None, EarlyStopping(validation_fraction=fraction), 3)
        assert held_out is not None
        assert set(fold[held_out.numbers()].tolist()) == {following}
        assert sorted([*fitted.numbers(), *held_out.numbers()]) == sorted(split.fit_rows.numbers())
        expected = round(fraction * len(split.fit_rows)) if fraction < 0.2 else np.sum(fold == following)
        assert len(held_out) == expected
        twin = split_monitored_rows(replace(split, monitored=None), None, EarlyStopping(), 3)[1]
        assert twin is not None
        assert len(set(fold[twin.numbers()].tolist())) == 4
    assert small.split("full").monitored_fold is None


def test_a_small_monitored_fold_has_its_own_cure(tmp_path: Path) -> None:
    dataset = prepare_small(small_table(300), tmp_path / "raw", tmp_path / "out", n_folds=60)
    stopping = EarlyStopping(weights={"roc_auc": 1}, validation_fraction=0.1)
    errors = []
    for name in [name for name in dataset.split_names if name.startswith("fold_")]:
        try:
            split_monitored_rows(dataset.split(name), None, stopping, 0)
        except InputError as error:
            errors.append(str(error))
    assert errors
    assert all(re.search(r"early stopping monitors at most fold \d+: lower prepare.n_folds", one) for one in errors)


@pytest.mark.parametrize("name", ["fold_0", "full", "tuning"])
def test_whole_users_are_monitored_where_folds_are_by_user(tmp_path: Path, name: str) -> None:
    """The twin: a sample of rows has users that the model is fitted to."""
    table = user_clicks(300, 8)
    user = [None if row < 90 else one for row, one in enumerate(table["user"].to_pylist())]
    table = table.set_column(0, "user", pa.array(user))
    by_user = prepare_users(table, tmp_path / "user", folds={"tuning_share": 0.2})
    by_row = prepare_users(table, tmp_path / "row", folds={"tuning_share": 0.2, "by": "row"})
    for dataset in (by_user, by_row):
        split = dataset.split(name)
        fitted, held_out = split_monitored_rows(split, None, EarlyStopping(validation_fraction=0.1), 0)
        assert held_out is not None
        n = round(0.1 * len(split.fit_rows))
        assert n <= len(held_out) < n + 8
        assert sorted([*fitted.numbers(), *held_out.numbers()]) == sorted(split.fit_rows.numbers())
        users_fitted, users_held_out = ({user[row] for row in rows.numbers()} - {None} for rows in (fitted, held_out))
        assert (not users_fitted & users_held_out) == (dataset is by_user)
        again = split_monitored_rows(split, None, EarlyStopping(validation_fraction=0.1), 0)[1]
        assert again is not None
        assert np.array_equal(again.numbers(), held_out.numbers())


@pytest.mark.parametrize("name", ["fold_0", "full"])
def test_copies_are_monitored_together_where_they_are_in_one_fold(tmp_path: Path, name: str) -> None:
    """Rows without ids and days have copies; the twins are rows with ids, and a row that differs in its last token."""
    some = small_table(400).drop_columns(["day"])
    table = pa.concat_tables([some] * 3)
    schema = {key: value for key, value in SMALL_SCHEMA.items() if key not in ("id", "day")}
    copies = prepare_small(table.drop_columns(["id"]), tmp_path / "a", tmp_path / "b", SchemaConfig(**schema))
    ids = pa.array([f"row-{row}" for row in range(1200)])
    schema["id"] = "id"
    others = prepare_small(table.set_column(0, "id", ids), tmp_path / "c", tmp_path / "d", SchemaConfig(**schema))
    for dataset in (copies, others):
        split = dataset.split(name)
        fitted, held_out = split_monitored_rows(split, None, EarlyStopping(validation_fraction=0.1), 0)
        assert held_out is not None
        assert sorted([*fitted.numbers(), *held_out.numbers()]) == sorted(split.fit_rows.numbers())
        n = round(0.1 * len(split.fit_rows))
        assert n <= len(held_out) < n + 3
        shared = set(fitted.numbers() % 400) & set(held_out.numbers() % 400)
        assert (not shared) == (dataset is copies)


def test_copies_of_few_rows_are_monitored_one_by_one(tmp_path: Path) -> None:
    """Forty different rows: the sample has rows of all of them, the clusters would be four."""
    table = pa.concat_tables([small_table(40).drop_columns(["day", "id"])] * 30)
    schema = {key: value for key, value in SMALL_SCHEMA.items() if key not in ("id", "day")}
    split = prepare_small(table, tmp_path / "a", tmp_path / "b", SchemaConfig(**schema)).split("full")
    held_out = split_monitored_rows(split, None, EarlyStopping(validation_fraction=0.1), 0)[1]
    assert held_out is not None
    assert len(held_out) == 120
    assert len(set(held_out.numbers() % 40)) > 30


def test_content_is_every_feature_of_a_row_and_its_time(small: PreparedDataset) -> None:
    numbers = np.arange(small.n_rows)
    hashes = content_hashes(small.store, numbers)
    table = small_table(small.n_rows).drop_columns(["id", "click"])
    columns = [column.to_pylist() for column in table.columns]
    assert len(set(hashes)) == len(set(zip(*columns, strict=True)))
    assert np.array_equal(content_hashes(small.store, numbers[::-3]), hashes[::-3])


def test_windows_monitor_their_latest_fitting_day(small: PreparedDataset) -> None:
    held_out = split_monitored_rows(small.split("forward_2"), None, EarlyStopping(validation_fraction=0.1), 0)[1]
    assert held_out is not None
    assert set(small.store.days(held_out.numbers()).tolist()) == {4}  # days 0 to 4 are fitted, 5 is evaluated


def test_few_monitored_clicks_are_reported(small: PreparedDataset) -> None:
    split = small.split("fold_0")
    few, enough = split.fit_rows.numbers()[:200], split.fit_rows.numbers()
    n_clicks = int(small.store.labels(few).sum())
    one, other = (split, ListedRows(few)), (split, ListedRows(enough))
    assert f"early stopping monitors {n_clicks} clicks: below 500" in (few_clicks_warning([one]) or "")
    assert f"monitors {n_clicks} to " in (few_clicks_warning([one, other, (split, None)]) or "")
    assert few_clicks_warning([other]) is None
    assert few_clicks_warning([(split, None)]) is None


def test_no_row_left_to_train_on(small: PreparedDataset) -> None:
    split = replace(small.split("fold_0"), fit_rows=ListedRows(np.array([0])), monitored=None)
    with pytest.raises(InputError, match="has no rows left to train on"):
        split_monitored_rows(split, None, EarlyStopping(), 0)


def test_tables_beyond_the_memory_are_an_error(small: PreparedDataset, tmp_path: Path) -> None:
    """A batch has at most all rows, so that a huge batch_size fits; huge tables do not."""
    trainer_of(small, "fold_0", quick(batch_size=10**20), tmp_path)
    with pytest.raises(InputError, match="l2 must be at most 3e"):
        trainer_of(small, "fold_0", quick(embeddings={"l2": 1e300}), tmp_path)
