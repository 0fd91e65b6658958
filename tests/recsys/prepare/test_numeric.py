import numpy as np
import pytest
from scipy.stats import norm
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from recsys.data.config import PrepareConfig
from recsys.data.transforms import N_KNOTS, NumericTransformer, QuantileNormal, quantile_grid
from recsys.errors import InputError
from recsys.prepare.numeric import NumericCounter, NumericSample, measure_column, quantiles, sort_values_and_groups

VALUES = np.sort(np.random.default_rng(0).lognormal(size=4000))


def apply(transform: str, values: np.ndarray, clip_quantile: float = 0.0) -> np.ndarray:
    stats = measure_column(VALUES, transform, clip_quantile, n_null=0)
    return NumericTransformer([stats])(values.astype(np.float32).reshape(-1, 1))[:, 0]


def test_standardize_agrees_with_scikit_learn() -> None:
    expected = StandardScaler().fit_transform(VALUES.reshape(-1, 1))[:, 0]
    assert np.allclose(apply("standardize", VALUES), expected, atol=1e-4)


def test_log_by_hand() -> None:
    logs = np.log1p(VALUES)
    assert np.allclose(apply("log", VALUES), (logs - logs.mean()) / logs.std(), atol=1e-4)


def test_log_keeps_the_sign() -> None:
    stats = measure_column(np.array([-3.0, -1.0, 0.0, 1.0, 3.0]), "log", 0.0, 0)
    found = NumericTransformer([stats])(np.array([[-3.0], [0.0], [3.0]], np.float32))[:, 0]
    assert found[1] == pytest.approx(0, abs=1e-6)
    assert found[0] == pytest.approx(-found[2])


def test_quantile_normal_agrees_with_scikit_learn() -> None:
    model = QuantileTransformer(n_quantiles=257, output_distribution="normal", subsample=None)
    expected = model.fit(VALUES.reshape(-1, 1)).transform(VALUES.reshape(-1, 1))[:, 0]
    inner = np.abs(expected) < 2.5  # the two clip the tails at different values
    assert np.allclose(apply("quantile_normal", VALUES)[inner], expected[inner], atol=0.02)


def test_quantile_normal_maps_a_repeated_value_to_its_middle_quantile() -> None:
    ordered = np.array([0.0] * 50 + list(range(1, 51)), float)
    stats = measure_column(ordered, "quantile_normal", 0.0, 0)
    zero = NumericTransformer([stats])(np.zeros((1, 1), np.float32))[0, 0]
    assert zero == pytest.approx(norm.ppf(0.25), abs=0.02)


def test_quantile_normal_agrees_with_numpy_between_knots() -> None:
    rng = np.random.default_rng(1)
    columns = {
        0: tuple(np.sort(rng.lognormal(size=N_KNOTS))),
        2: tuple(np.sort(rng.integers(0, 9, N_KNOTS)).astype(float)),
        3: (4.0,) * N_KNOTS,
        4: (0.0, *[5e-324] * (N_KNOTS - 1)),
    }
    values = rng.normal(2, 3, (1000, 5)).astype(np.float32)
    values[::7] = np.nan
    values[1::7] = np.round(values[1::7])
    values[2::7] = 0
    found = values.copy()
    QuantileNormal(columns)(found)
    assert np.array_equal(found[:, 1], values[:, 1], equal_nan=True)
    for column, knots in columns.items():
        expected = np.interp(values[:, column], *quantile_grid(knots))
        expected[np.isnan(values[:, column])] = np.nan
        assert np.allclose(found[:, column], expected, atol=1e-6, equal_nan=True)


def test_values_are_sorted_with_their_groups() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(size=500), [0, -0.0, 1e37, -1e37, 1e-45, -1e-45]]).astype(np.float32)
    group = rng.integers(0, 256, len(values)).astype(np.uint8)
    ordered, mine = sort_values_and_groups(values, group)
    order = np.lexsort((group, np.signbit(values) == 0, values))
    assert np.array_equal(ordered, values[order])
    assert np.array_equal(mine, group[order])


def test_clipping_limits_outliers() -> None:
    values = np.array([*VALUES, 1e9])
    stats = measure_column(np.sort(values), "standardize", 0.001, 0)
    found = NumericTransformer([stats])(np.array([[1e9], [np.inf], [-np.inf], [np.nan]], np.float32))[:, 0]
    assert found[0] == found[1] < 20
    assert np.isfinite(found[2])
    assert np.isnan(found[3])


def test_clipping_keeps_a_column_that_is_rarely_not_zero() -> None:
    ordered = np.array([0.0] * 9999 + [1.0])
    stats = measure_column(ordered, "standardize", 0.001, 0)
    assert stats.high == 1.0


def test_a_constant_column_becomes_zero() -> None:
    stats = measure_column(np.full(10, 0.1), "standardize", 0.001, 0)
    assert NumericTransformer([stats])(np.array([[0.1], [5.0]], np.float32)).tolist() == [[0.0], [0.0]]


def sample(values: np.ndarray, order: np.ndarray) -> NumericSample:
    counter = NumericCounter(tuple("abc"), 2)
    hashes = np.random.default_rng(5).integers(0, 2**63, len(values)).astype(np.uint64)
    group = (np.arange(len(values)) % 2).astype(np.uint8)
    for rows in np.array_split(order, 3):
        counter.add(values[rows], group[rows], hashes[rows], np.ones(len(rows), bool))
    return counter.finish()


def test_columns_with_the_same_nulls_share_an_indicator() -> None:
    values = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    values[10:20, :2] = np.nan
    values[30:40, 2] = np.nan
    found = sample(values, np.arange(100))
    assert found.missing_indicators([0, 1], "abc") == [("a", "b"), ("c",)]
    values[12, 1] = 0.0
    assert sample(values, np.arange(100)).missing_indicators([0, 1], "abc") == [("a",), ("b",), ("c",)]


def test_statistics_do_not_depend_on_the_order_of_rows() -> None:
    values = np.random.default_rng(2).lognormal(size=(500, 3)).astype(np.float32)
    splits = {"full": [0, 1], "fold_0": [1]}
    expected = sample(values, np.arange(500)).measure(PrepareConfig(), splits)
    assert sample(values, np.random.default_rng(3).permutation(500)).measure(PrepareConfig(), splits) == expected


def test_split_statistics_use_only_its_groups() -> None:
    values = np.random.default_rng(4).normal(size=(200, 3)).astype(np.float32)
    stats = sample(values, np.arange(200)).measure(PrepareConfig(clip_quantile=0.0), {"fold_0": [1]})
    assert stats["fold_0"]["a"].mean == pytest.approx(values[1::2, 0].mean(), rel=1e-5)


def test_a_column_without_numbers_is_named() -> None:
    values = np.full((10, 3), np.nan, np.float32)
    with pytest.raises(InputError, match="column 'a' has no number in the training rows: remove it from the schema"):
        sample(values, np.arange(10)).measure(PrepareConfig(), {"full": [0, 1]})


def test_quantiles_agree_with_numpy() -> None:
    levels = np.linspace(0, 1, 23)
    for n in (1, 2, 3, 10, 997):
        ordered = np.sort(np.random.default_rng(n).normal(size=n))
        assert np.array_equal(quantiles(ordered, levels), np.quantile(ordered, levels))
