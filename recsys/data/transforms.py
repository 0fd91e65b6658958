"""Numeric transforms from raw numbers to model inputs, with the statistics of one split's fitting rows."""

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit
from scipy.special import ndtri

from recsys.config import StrictModel
from recsys.data.config import NumericTransform

MAX_NUMBER = 1e37
"""Larger absolute values count as infinite; differences of smaller values stay finite in float32."""


class NumericStats(StrictModel):
    """Statistics of one column over one split's fitting rows. Units are those of the column, except `mean` and `std` of
    a `log` column, which are computed after the logarithm."""

    transform: NumericTransform
    n_null: int
    low: float
    high: float
    """Values are first offset to [low, high]."""
    mean: float
    std: float
    knots: tuple[float, ...] = ()
    """Increasing quantiles of a quantile-normal column."""


def signed_log(values: np.ndarray) -> np.ndarray:
    """Computes sign(x) ln(1 + |x|), a logarithm for both signs that maps 0 to 0."""
    return np.sign(values) * np.log1p(np.abs(values))


class NumericTransformer:
    """Transforms raw numeric values to model inputs with one split's statistics."""

    def __init__(self, stats: Sequence[NumericStats]) -> None:
        self.low = np.array([s.low for s in stats], np.float32)
        self.high = np.array([s.high for s in stats], np.float32)
        is_scaled = [s.transform in ("standardize", "log") for s in stats]
        self.mean = np.array(
            [s.mean if scaled else 0.0 for s, scaled in zip(stats, is_scaled, strict=True)], np.float32
        )
        # A constant column becomes zero: it has no information, and a tiny std would amplify rounding errors.
        scale = [1.0 / s.std if s.std > max(1e-6 * abs(s.mean), 1 / MAX_NUMBER) else 0.0 for s in stats]
        self.inv_std = np.array(
            [factor if scaled else 1.0 for factor, scaled in zip(scale, is_scaled, strict=True)], np.float32
        )
        self.log_columns = [i for i, s in enumerate(stats) if s.transform == "log"]
        self.to_normal = QuantileNormal({i: s.knots for i, s in enumerate(stats) if s.knots})

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Transforms [n, n_columns] float32 raw values in place; NaN stays NaN."""
        np.clip(values, self.low, self.high, out=values)
        if self.log_columns:
            values[:, self.log_columns] = signed_log(values[:, self.log_columns])
        self.to_normal(values)
        values -= self.mean
        values *= self.inv_std
        return values


N_KNOTS = 257
"""Number of quantiles between which the transform interpolates."""


MAX_NORMAL = 3.0
"""Bound of a transformed value, in standard deviations: the normal score of the .13 % quantile."""


_N_INTERVALS = 256


class QuantileNormal:
    """Maps columns to normal scores by interpolation between their knots.

    Args:
        knots: [N_KNOTS] increasing quantiles of each transformed column, by column index.
    """

    def __init__(self, knots: Mapping[int, tuple[float, ...]]) -> None:
        self.columns = np.array(list(knots), np.int64)
        shape = (len(knots), _N_INTERVALS)
        self.start, self.width = np.full(shape, np.inf), np.ones(shape)
        self.score, self.rise = np.zeros(shape), np.zeros(shape)
        self.ends = np.zeros((len(knots), 2))
        for row, column_knots in enumerate(knots.values()):
            values, scores = quantile_grid(column_knots)
            n = max(1, len(values) - 1)
            self.start[row, :n], self.score[row, :n], self.ends[row] = values[:n], scores[:n], values[[0, -1]]
            self.width[row, : len(values) - 1], self.rise[row, : len(values) - 1] = np.diff(values), np.diff(scores)

    def __call__(self, values: np.ndarray) -> None:
        """Transforms [n, n_columns] float32 values in place; values beyond the knots count as the outermost knot."""
        if len(self.columns):
            _interpolate(values, self.columns, self.start, self.width, self.score, self.rise, self.ends)


def quantile_grid(knots: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct knots and their normal scores; equal knots (an atom) get the score of their middle rank."""
    values, first, count = np.unique(np.array(knots), return_index=True, return_counts=True)
    middle = (first + (count - 1) / 2) / (len(knots) - 1)
    scores = np.clip(ndtri(middle), -MAX_NORMAL, MAX_NORMAL)
    return values, scores


@njit(nogil=True, cache=True)
def _interpolate(values, columns, start, width, score, rise, ends):  # type: ignore[no-untyped-def]
    """Applies `np.interp` to many columns in place.

    The search for a value's interval takes eight steps for every value, so it has no branch to mispredict.
    """
    for row in range(values.shape[0]):
        for index in range(len(columns)):
            x = np.float64(values[row, columns[index]])
            interval, step = 0, _N_INTERVALS // 2
            while step:
                interval += step * (start[index, interval + step] <= x)
                step //= 2
            if not np.isnan(x):
                offset = (min(max(x, ends[index, 0]), ends[index, 1]) - start[index, interval]) / width[index, interval]
                values[row, columns[index]] = score[index, interval] + offset * rise[index, interval]
