"""Folds by user: the out-of-fold metric is that on new users, whatever the order and the files of the rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score

from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig
from tests.helpers.users import USER_SCHEMA, features, fitted, folds_of, out_of_fold_scores, prepare_users, user_clicks


def users_of(dataset: PreparedDataset) -> np.ndarray:
    users = dataset.store.users(np.arange(dataset.n_rows))
    assert users is not None
    return users


def has_whole_users(fold: np.ndarray, user: np.ndarray) -> bool:
    """Whether all rows of a user, among those that have one, are in one fold."""
    pairs = {(u, f) for u, f in zip(user.tolist(), fold.tolist(), strict=True) if u is not None and u != -1}
    return len(pairs) == len({u for u, _ in pairs})


def ap_and_deviation(label: np.ndarray, scores: np.ndarray, user: np.ndarray) -> tuple[float, float]:
    """The average precision, and its standard error over 40 resamples of the users."""
    rng, rows_of = np.random.default_rng(0), [np.flatnonzero(user == one) for one in np.unique(user)]
    resampled = []
    for _ in range(40):
        rows = np.concatenate([rows_of[index] for index in rng.integers(0, len(rows_of), len(rows_of))])
        resampled.append(average_precision_score(label[rows], scores[rows]))
    return float(average_precision_score(label, scores)), float(np.std(resampled))


def test_out_of_fold_metrics_are_those_on_new_users(tmp_path: Path) -> None:
    """1,500 users with 20 rows each; folds by row have seen the user of almost every evaluation row."""
    table, new = user_clicks(1500, 20), user_clicks(1500, 20, seed=1)
    by_user = prepare_users(table, tmp_path / "by_user")
    by_row = prepare_users(table, tmp_path / "by_row", folds={"by": "row"})
    new = new.set_column(0, "user", pa.array(new["user"].to_numpy() + 1500))
    in_time = pa.concat_tables([table, new]).append_column("day", pa.array(np.repeat([1, 2], len(table))))
    to_new = prepare_users(in_time, tmp_path / "to_new", {"day": "day"}).split("holdout")
    rows = to_new.held_out_rows.numbers()
    expected, deviation_of_expected = ap_and_deviation(
        to_new.store.labels(rows), fitted(to_new).decision_function(features(to_new, rows)), new["user"].to_numpy()
    )

    label = by_user.store.labels(np.arange(by_user.n_rows))
    out_of_fold, deviation = ap_and_deviation(label, out_of_fold_scores(by_user), users_of(by_user))
    assert abs(out_of_fold - expected) < 2 * np.hypot(deviation, deviation_of_expected)
    assert average_precision_score(label, out_of_fold_scores(by_row)) > out_of_fold + 10 * deviation


def test_known_users_have_a_fitting_row(tmp_path: Path) -> None:
    table = user_clicks(30, 6)
    user = table["user"].to_pylist()
    user[7] = None
    table = table.set_column(0, "user", pa.array(user))
    by_user, by_row = (
        prepare_users(table, tmp_path / "user"),
        prepare_users(table, tmp_path / "row", folds={"by": "row"}),
    )
    for dataset in (by_user, by_row):
        for split in map(dataset.split, ("fold_0", "fold_4", "full")):
            fitted_users = {user[row] for row in split.fit_rows.numbers()} - {None}
            known = split.has_known_user(np.arange(180))
            assert known is not None
            assert known.tolist() == [one in fitted_users for one in user]
    held_out = by_user.split("fold_1").held_out_rows.numbers()
    assert not np.any(by_user.split("fold_1").has_known_user(held_out))
    assert np.any(by_row.split("fold_1").has_known_user(by_row.split("fold_1").held_out_rows.numbers()))


@pytest.mark.parametrize("stratify", ["hash", "exact"])
def test_folds_do_not_depend_on_the_order_and_the_files_of_rows(tmp_path: Path, stratify: str) -> None:
    table = user_clicks(200, 5)
    order = np.random.default_rng(3).permutation(1000)
    first = prepare_users(table, tmp_path / "first", stratify=stratify)
    second = prepare_users(table.take(pa.array(order)), tmp_path / "second", n_files=3, stratify=stratify)
    assert np.array_equal(folds_of(first)[order], folds_of(second))
    assert np.array_equal(users_of(first)[order], users_of(second))
    user = table["user"].to_numpy()
    assert has_whole_users(folds_of(first), user)
    assert len(np.unique(users_of(first))) == len(np.unique(user)) == users_of(first).max() + 1


def test_exact_stratification_deals_out_users_with_and_without_clicks(tmp_path: Path) -> None:
    table = user_clicks(203, 5)
    dataset = prepare_users(table, tmp_path / "data", stratify="exact")
    user, fold = table["user"].to_numpy(), folds_of(dataset)
    clicks = np.bincount(user, table["click"].to_numpy())
    fold_of_user = np.zeros(203, int)
    fold_of_user[user] = fold
    for has_click in (True, False):
        counts = np.bincount(fold_of_user[(clicks > 0) == has_click], minlength=5)
        assert counts.sum() > 30
        assert counts.max() - counts.min() <= 1


def test_few_users_are_dealt_out_to_all_folds(tmp_path: Path) -> None:
    dataset = prepare_users(user_clicks(6, 50), tmp_path / "six", n_folds=5)
    assert sorted(np.bincount(folds_of(dataset)).tolist()) == [50, 50, 50, 50, 100]
    alone = prepare_users(user_clicks(4, 50), tmp_path / "four", n_folds=5)
    with pytest.raises(InputError, match="no split 'fold_0': it has full .its training rows have fewer than 5 users"):
        alone.split("fold_0")


def test_rows_without_a_user_are_clusters_of_their_own(tmp_path: Path) -> None:
    """Copies among them share a fold; copies of other users do not join it."""
    table = user_clicks(40, 10)
    user = [None if row % 4 == 0 else one for row, one in enumerate(table["user"].to_pylist())]
    table = table.set_column(0, "user", pa.array(user))
    twice = pa.concat_tables([table, table])
    dataset = prepare_users(twice, tmp_path / "data", {"categorical": [], "numeric": ["x"]})
    fold, users = folds_of(dataset), users_of(dataset)
    assert np.array_equal(fold[:400], fold[400:])
    assert np.array_equal(users == -1, np.array([one is None for one in user * 2]))
    assert has_whole_users(fold, np.array(user * 2))
    assert len(np.unique(fold[:400][users[:400] == -1])) == 5
    assert dataset.stats.n_copies == 400
    other = twice.set_column(0, "user", pa.array([*user, *[None if u is None else u + 40 for u in user]]))
    dataset = prepare_users(other, tmp_path / "other", {"categorical": [], "numeric": ["x"]})
    assert dataset.stats.n_copies == 100  # the rows without a user
    assert not np.array_equal(folds_of(dataset)[:400], folds_of(dataset)[400:])  # the user decides


def test_a_user_means_the_same_in_every_file_and_type(tmp_path: Path) -> None:
    """Integers, floats and CSV text of one user are one user, and one fold."""
    table = user_clicks(60, 6)
    parts = [table.slice(start, 120) for start in (0, 120, 240)]
    floats = parts[1].set_column(0, "user", parts[1]["user"].cast(pa.float64()))
    for name, part in (("a", parts[0]), ("b", floats)):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    pa.csv.write_csv(parts[2], tmp_path / "c.csv")
    schema = SchemaConfig.model_validate(USER_SCHEMA)
    files = RawFiles(train=("a.parquet", "b.parquet", "c.csv"))
    prepare(schema, files, PrepareConfig(), tmp_path, tmp_path / "out", "mixed")
    plain = prepare_users(table, tmp_path / "plain")
    mixed = PreparedDataset.open(tmp_path / "out")
    assert np.array_equal(users_of(mixed), users_of(plain))
    assert np.array_equal(folds_of(mixed), folds_of(plain))


def test_the_user_is_a_feature_only_if_named(tmp_path: Path) -> None:
    table = user_clicks(30, 5)
    dataset = prepare_users(table, tmp_path / "data", {"categorical": [], "numeric": ["*"]})
    assert dataset.manifest.schema_.numeric == ("x",)
    assert dataset.manifest.schema_.categorical == ()
    without = prepare_users(table, tmp_path / "without", {"user": None})
    assert without.store.users(np.arange(150)) is None
    assert without.split("fold_0").has_known_user(np.arange(150)) is None
    assert layout.USER not in without.store.columns
    assert "user" not in without.manifest.schema_.model_dump()


def test_users_of_a_side_table_and_test_files_without_users(tmp_path: Path) -> None:
    table = user_clicks(30, 5)
    session = np.arange(150) // 2
    sessions = pa.table({"session": np.arange(75), "user": table["user"].take(pa.array(np.arange(75) * 2))})
    rows = table.drop_columns("user").append_column("session", pa.array(session))
    pq.write_table(rows, tmp_path / "train.parquet")
    pq.write_table(sessions, tmp_path / "sessions.parquet")
    side = {"file": "sessions.parquet", "key": "session", "columns": ["user"]}
    schema = SchemaConfig.model_validate(USER_SCHEMA | {"categorical": [], "side_tables": {"sessions": side}})
    prepare(schema, RawFiles(train=("train.parquet",)), PrepareConfig(), tmp_path, tmp_path / "side", "side")
    users = users_of(PreparedDataset.open(tmp_path / "side"))
    user = sessions["user"].to_numpy()[session]
    assert len(set(zip(users.tolist(), user.tolist(), strict=True))) == len(set(user.tolist()))

    pq.write_table(table, tmp_path / "known.parquet")
    pq.write_table(table.drop_columns(["user"]), tmp_path / "test.parquet")
    files = RawFiles(train=("known.parquet",), test=("test.parquet",))
    schema = SchemaConfig.model_validate(USER_SCHEMA | {"categorical": []})
    prepare(schema, files, PrepareConfig(), tmp_path, tmp_path / "out", "test")
    users = users_of(PreparedDataset.open(tmp_path / "out"))
    assert users[:150].min() == 0
    assert set(users[150:].tolist()) == {-1}


@pytest.mark.parametrize(
    ("schema", "settings", "message"),
    [
        ({"user": "usr"}, {}, r"schema.user: .*'usr'.*user"),
        ({"user": "click"}, {}, "schema.user: 'click' is the label, not the user"),
        ({"user": None}, {"folds": {"by": "user"}}, "prepare.folds.by is user, but schema.user names no column"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, schema: dict, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_users(user_clicks(30, 5), tmp_path / "data", schema, **settings)
