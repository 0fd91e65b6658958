"""The tuning part: its rows are fitted to by every fold and evaluated by none, nor are later rows of its users."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.helpers.users import folds_of, prepare_users, user_clicks

SHARE = {"tuning_share": 0.3}


def rows_of(dataset: PreparedDataset, name: str) -> tuple[set[int], set[int]]:
    split = dataset.split(name)
    return set(split.fit_rows.numbers().tolist()), set(split.held_out_rows.numbers().tolist())


def test_no_fold_evaluates_the_tuning_rows(tmp_path: Path) -> None:
    """By row, without days: all rows are fitted to or evaluated by `tuning`."""
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", small_schema(day=None), folds=SHARE)
    fitted, tuning = rows_of(dataset, "tuning")
    assert 500 < len(tuning) < 700
    assert fitted | tuning == set(range(2000))
    assert not fitted & tuning
    evaluated: set[int] = set()
    for name in [f"fold_{fold}" for fold in range(5)]:
        fitted, held_out = rows_of(dataset, name)
        assert tuning <= fitted
        assert not fitted & held_out
        assert fitted | held_out == set(range(2000))
        evaluated |= held_out
    assert evaluated == set(range(2000)) - tuning
    assert list(dataset.split("tuning").evaluation_rows) == ["tuning"]
    assert not dataset.split("tuning").is_by_time
    assert rows_of(dataset, "fold_0") == rows_of(
        prepare_small(small_table(), tmp_path / "raw", tmp_path / "again", small_schema(day=None), folds=SHARE),
        "fold_0",
    )


def test_only_rows_before_the_first_window_are_tuning_rows(tmp_path: Path) -> None:
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", folds=SHARE)
    day = small_table()["day"].to_numpy()
    fitted, tuning = rows_of(dataset, "tuning")
    assert fitted | tuning == set(np.flatnonzero(day <= 4).tolist())
    assert set(np.flatnonzero(folds_of(dataset) == -1).tolist()) == tuning  # later rows are evaluated by their folds
    assert rows_of(dataset, "forward_1")[0] == fitted | tuning


def test_later_rows_of_tuning_users_are_evaluated_by_no_fold(tmp_path: Path) -> None:
    """Every fold is fitted to the users of the tuning part: as evaluation rows they would be no unseen users."""
    table = user_clicks(100, 12)
    day = np.random.default_rng(0).integers(0, 6, len(table))
    table = table.append_column("day", pa.array(day))
    dataset = prepare_users(table, tmp_path / "data", {"day": "day"}, folds=SHARE)
    user = table["user"].to_numpy()
    fitted, tuning = rows_of(dataset, "tuning")
    tuned = set(user[list(tuning)].tolist())
    assert tuning == set(np.flatnonzero((day < 3) & np.isin(user, list(tuned))).tolist())
    assert 20 < len(tuned) < 40
    assert not tuned & set(user[list(fitted)].tolist())
    for name in [f"fold_{fold}" for fold in range(5)]:
        fold_fitted, held_out = rows_of(dataset, name)
        assert not set(user[list(fold_fitted)].tolist()) & set(user[list(held_out)].tolist())
    assert set(user[folds_of(dataset) == -1].tolist()) == tuned
    assert rows_of(dataset, "forward_2")[1] == set(np.flatnonzero(day == 4).tolist())


def test_copies_are_in_the_tuning_part_together(tmp_path: Path) -> None:
    table = small_table().drop_columns(["id"])
    schema = small_schema(id=None, day=None)
    dataset = prepare_small(pa.concat_tables([table, table]), tmp_path / "raw", tmp_path / "out", schema, folds=SHARE)
    is_tuning = folds_of(dataset) == -1
    assert np.array_equal(is_tuning[:2000], is_tuning[2000:])
    assert 0.2 < is_tuning.mean() < 0.4


def test_data_without_a_tuning_part_says_how_to_get_one(small: PreparedDataset) -> None:
    with pytest.raises(InputError, match=r"no split 'tuning'.*\(a tuning part needs prepare.folds.tuning_share above"):
        small.split("tuning")
