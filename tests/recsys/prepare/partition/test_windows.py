"""Forward windows: the last days, or parts of the last half of the rows in time; fitting rows are all earlier ones."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.partition.windows import windows_of_days, windows_of_times
from tests.helpers.small import prepare_small, small_schema, small_table


def test_windows_of_days_by_hand() -> None:
    day = np.array([3, 0, 5, 2, 3, 7])
    assert windows_of_days(day, 2).tolist() == [0, 0, 1, 0, 0, 2]
    assert windows_of_days(day, 3).tolist() == [1, 0, 2, 0, 1, 3]
    assert windows_of_days(day, 9).tolist() == [2, 0, 3, 1, 2, 4]  # one day is before the first window
    assert windows_of_days(np.array([4, 4]), 3).tolist() == [0, 0]


def test_windows_of_times_by_hand() -> None:
    time = np.arange(12)[::-1]
    assert windows_of_times(time, 3)[::-1].tolist() == [0] * 6 + [1, 1, 2, 2, 3, 3]
    assert windows_of_times(time, 2)[::-1].tolist() == [0] * 6 + [1, 1, 1, 2, 2, 2]
    ties = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    assert windows_of_times(ties, 3).tolist() == [0] * 4 + [1] * 4 + [2] * 4  # two starts are at one time
    assert windows_of_times(np.array([7, 7, 7]), 3).tolist() == [0, 0, 0]
    assert windows_of_times(np.array([1, 2, 2, 2]), 2).tolist() == [0, 1, 1, 1]


def rows_and_days(dataset: PreparedDataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The days of the fitting and of the evaluation rows of a split."""
    split = dataset.split(name)
    fitted, evaluated = (dataset.store.days(rows.numbers()) for rows in (split.fit_rows, split.held_out_rows))
    assert fitted is not None
    assert evaluated is not None
    return fitted, evaluated


def test_the_last_days_are_windows(small: PreparedDataset) -> None:
    """Seven days, numbered from 0."""
    assert small.split_names == (
        "full",
        *(f"fold_{k}" for k in range(5)),
        "holdout",
        *(f"forward_{k}" for k in (1, 2, 3)),
    )
    days = small.store.days(np.arange(small.n_rows))
    for window, day in ((1, 4), (2, 5), (3, 6)):
        fitted, evaluated = rows_and_days(small, f"forward_{window}")
        assert set(evaluated.tolist()) == {day}
        assert set(fitted.tolist()) == set(range(day))
        assert (len(fitted), len(evaluated)) == (np.sum(days < day), np.sum(days == day))
        split = small.split(f"forward_{window}")
        assert list(split.evaluation_rows) == [f"forward_{window}"]
        assert split.prior.n_positive == small.store.labels(split.fit_rows.numbers()).sum()
        assert split.is_by_time
        assert split.monitored_fold is None


def test_parts_of_the_times_are_windows(tmp_path: Path) -> None:
    minute = np.random.default_rng(0).permutation(400) // 4  # four rows of each time, 280 before the test rows
    table = small_table(400).append_column("at", pa.array(minute))
    schema = small_schema(day=None, split={"column": "at", "test_from": 70})
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema, folds={"n_windows": 2})
    assert dataset.split_names[-2:] == ("forward_1", "forward_2")
    assert "holdout" not in dataset.split_names
    for window, low, high in ((1, 35, 52), (2, 52, 70)):
        split = dataset.split(f"forward_{window}")
        assert sorted(minute[split.fit_rows.numbers()].tolist()) == sorted([*range(low)] * 4)
        assert sorted(minute[split.held_out_rows.numbers()].tolist()) == sorted([*range(low, high)] * 4)


@pytest.mark.parametrize("name", ["forward_1", "forward_3", "tuning", "fold_2"])
def test_statistics_are_those_of_the_fitting_rows_alone(tmp_path: Path, name: str) -> None:
    table = small_table()
    settings = {"folds": {"tuning_share": 0.3}}
    whole = prepare_small(table, tmp_path / "whole", tmp_path / "whole/out", **settings)
    split = whole.split(name)
    rows = np.sort(split.fit_rows.numbers())
    alone = prepare_small(table.take(pa.array(rows)), tmp_path / "alone", tmp_path / "alone/out").split("full")
    ids, numbers = split.table(rows)
    ids_alone, numbers_alone = alone.table(np.arange(len(rows)))
    assert np.array_equal(ids, ids_alone)
    assert np.array_equal(numbers, numbers_alone, equal_nan=True)
    assert split.schema.num_embeddings == alone.schema.num_embeddings
    evaluated = np.sort(split.held_out_rows.numbers())
    unseen = np.setdiff1d(table["shop"].to_numpy()[evaluated], table["shop"].to_numpy()[rows])
    is_unseen = np.isin(table["shop"].to_numpy()[evaluated], unseen)
    assert set(split.table(evaluated)[0][is_unseen, 1].tolist()) <= {1}  # the rare id


def test_too_many_groups_are_refused(tmp_path: Path) -> None:
    message = "prepare.n_folds=64 and prepare.folds.n_windows=6 make 4.. groups of rows, more than 255: lower"
    with pytest.raises(InputError, match=message):
        prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", n_folds=64, folds={"n_windows": 6})
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out2", n_folds=64, folds={"n_windows": 2})
    assert len(dataset.groups) == 64 * 3


def test_weekdays_are_windows_in_their_order(tmp_path: Path) -> None:
    names = np.array(["Mon", "tuesday", "WED", "Thursday", "fri", "Saturday", "Sun"])
    table = small_table()
    day = table["day"].to_numpy()
    place = table.column_names.index("day")
    dataset = prepare_small(
        table.set_column(place, "day", pa.array(names[day - 1])), tmp_path / "raw", tmp_path / "out"
    )
    assert dataset.manifest.holdout_day == "Sunday"
    assert np.array_equal(np.sort(dataset.split("holdout").held_out_rows.numbers()), np.flatnonzero(day == 7))
    assert np.array_equal(np.sort(dataset.split("forward_1").held_out_rows.numbers()), np.flatnonzero(day == 5))


def test_data_without_days_has_no_windows(tmp_path: Path) -> None:
    table = small_table()
    for number, changes in enumerate(({"day": None}, {})):
        one_day = table.filter(pc.equal(table["day"], 3)) if not changes else table
        dataset = prepare_small(one_day, tmp_path / str(number), tmp_path / f"out{number}", small_schema(**changes))
        assert not any(name.startswith(("forward_", "holdout")) for name in dataset.split_names)
        with pytest.raises(InputError, match=r"no split 'forward_1'.*\(forward windows need schema.day or a split by"):
            dataset.split("forward_1")
