from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranking.insight.columns import range_cells, value_cells
from ranking.insight.drift import MIN_ROWS, day_rows, measure_drift, stability_index
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.drift import RowsDrift
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

N = 12_000
NAMES = ["ad", "site", "x", "y"]


def rows_of(n: int, seed: int) -> dict[str, np.ndarray]:
    """Rows of two equal days, with a column of many values, most of them rare."""
    rng = np.random.default_rng(seed)
    return {
        "day": rng.integers(1, 3, n),
        "ad": np.minimum(rng.zipf(1.3, n), 50_000),
        "site": rng.integers(0, 20, n),
        "x": rng.normal(size=n).astype(np.float32),
        "y": rng.normal(size=n).astype(np.float32),
        "click": (rng.random(n) < 0.3).astype(np.int8),
    }


def prepared(
    folder: Path, train: dict[str, np.ndarray], test: dict[str, np.ndarray], min_count: int, user: str | None = None
) -> PreparedDataset:
    for name, columns in (("train", train), ("test", test)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    schema = SchemaConfig.model_validate(
        {"label": "click", "day": "day", "categorical": ["ad", "site"], "numeric": ["x", "y"], "user": user}
    )
    files = RawFiles(train=("train.parquet",), test=("test.parquet",))
    prepare(schema, files, PrepareConfig(min_count=min_count), folder, folder / f"prepared-{user}", "drifting")
    return PreparedDataset.open(folder / f"prepared-{user}")


def later_against_train(dataset: PreparedDataset) -> RowsDrift:
    parts = [(name, dataset.partition_rows(name)) for name in ("train", "test")]
    return measure_drift(dataset, parts[0], parts[1], NAMES, 50_000, seed=0)


def day_against_day(dataset: PreparedDataset) -> RowsDrift:
    first, second = day_rows(dataset).values()
    return measure_drift(dataset, ("day 1", first), ("day 2", second), NAMES, 50_000, seed=0)


@pytest.mark.parametrize("min_count", [1, 2, 10])
def test_rows_of_one_distribution_cannot_be_told_apart(tmp_path: Path, min_count: int) -> None:
    """Many test rows' ads have no training row, but as many training rows' ads have no other one."""
    dataset = prepared(tmp_path, rows_of(N, 1), rows_of(N // 2, 2), min_count)
    for found in (later_against_train(dataset), day_against_day(dataset)):
        assert found.low < 0.5 < found.high
        assert found.high - found.low < 0.05
        ad = next(one for one in found.columns if one.name == "ad")
        assert ad.rare is not None
        assert ad.rare[0] == pytest.approx(ad.rare[1], abs=0.02)
        assert all(one.roc_auc == pytest.approx(0.5, abs=0.02) and one.psi < 0.02 for one in found.columns)


def test_other_users_of_the_same_kind_are_no_drift(tmp_path: Path) -> None:
    """Ten rows of a user share its numbers: a classifier of the user's other rows would recognise them."""
    parts = {}
    for name, n, seed in (("train", N, 1), ("test", N // 2, 2)):
        parts[name] = rows_of(n, seed)
        user = np.random.default_rng(seed).integers(0, n // 10, n)
        of_user = np.random.default_rng(seed + 10).normal(size=(n // 10, 2)).astype(np.float32)
        parts[name] |= {"user": user + 1_000_000 * seed, "x": of_user[user, 0], "y": of_user[user, 1]}
    with_users = later_against_train(prepared(tmp_path, parts["train"], parts["test"], 2, user="user"))
    assert with_users.by == "user"
    assert with_users.low < 0.5 < with_users.high
    assert all(one.roc_auc == pytest.approx(0.5, abs=0.03) for one in with_users.columns)
    without = later_against_train(prepared(tmp_path, parts["train"], parts["test"], 2))
    assert without.low > 0.6


def test_a_shifted_column_is_named_first(tmp_path: Path) -> None:
    test = rows_of(N // 2, 2)
    test["y"] += 0.3
    found = later_against_train(prepared(tmp_path, rows_of(N, 1), test, 2))
    assert found.low > 0.53
    assert found.columns[0].name == "y"
    assert found.columns[0].roc_auc == pytest.approx(0.584, abs=0.02)  # of N(0.3, 1) over N(0, 1): Phi(0.3 / sqrt 2)
    assert found.columns[0].psi == pytest.approx(0.09, abs=0.02)  # 0.3^2 for equal variances
    assert all(one.roc_auc == pytest.approx(0.5, abs=0.02) for one in found.columns[1:])


@pytest.mark.parametrize("n_ads", [20, 3000])
def test_ids_that_are_new_every_day_are_named_as_such(tmp_path: Path, n_ads: int) -> None:
    rng = np.random.default_rng(0)
    train, test = rows_of(N, 1), rows_of(N // 2, 2)
    train["ad"] = 10_000 * train["day"] + rng.integers(0, n_ads, N)
    test["ad"] = 90_000 + rng.integers(0, n_ads, N // 2)
    dataset = prepared(tmp_path, train, test, 1)
    for found in (later_against_train(dataset), day_against_day(dataset)):
        assert found.columns[0].name == "ad"
        assert found.columns[0].gain > 0.9
        assert found.columns[0].roc_auc > 0.9
        assert found.columns[0].rare is not None
        assert found.columns[0].rare[1] == 1
        assert found.columns[0].rare[0] < 0.2


def test_missing_values_are_a_cause(tmp_path: Path) -> None:
    test = rows_of(N // 2, 2)
    test["x"][::2] = np.nan
    found = later_against_train(prepared(tmp_path, rows_of(N, 1), test, 2))
    assert found.columns[0].name == "x"
    assert found.columns[0].missing == pytest.approx((0, 0.5))
    assert found.columns[0].roc_auc == pytest.approx(0.75, abs=0.01)  # half of the later rows are recognised


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, rows_of(N, 1), rows_of(MIN_ROWS - 1, 2), 2)
    with pytest.raises(InputError, match="test 199: at least 200 of each"):
        later_against_train(dataset)


def test_cells_keep_frequent_values_and_count_the_others() -> None:
    codes = np.repeat([0, 1, 2, 3, 4], [60, 70, 80, 3, 4])
    n_others = np.repeat([500, 0, 79, 2, 3], [60, 70, 80, 3, 4])
    cells = value_cells(codes, n_others)
    assert [len(set(cells[codes == code])) for code in range(5)] == [1] * 5
    of_code = {int(code): int(cells[codes == code][0]) for code in range(5)}
    assert of_code[0] == 0
    assert of_code[1] == 1  # no other row
    assert of_code[3] == of_code[4] == 3  # 2 and 3 other rows: one magnitude
    assert of_code[2] not in (of_code[0], of_code[1], of_code[3])
    np.testing.assert_array_equal(range_cells(np.array([np.nan, 1.0, np.nan])), [0, 1, 0])


def test_stability_index_by_hand() -> None:
    p, q = np.array([1000, 3000]), np.array([2000, 2000])
    expected = 0.25 * np.log(0.5 / 0.25) - 0.25 * np.log(0.5 / 0.75)
    assert stability_index(p, q) == pytest.approx(expected, abs=1e-3)
