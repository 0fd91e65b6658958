"""Click rates of values, smoothed toward the mean rate by a prior that is fitted to the same counts.

The rate of a value is drawn from a beta distribution with mean p0 and strength m, so the posterior mean of a value with
n rows and k clicks is (k + m p0) / (n + m) (Carlin and Louis, "Bayes and empirical Bayes methods for data analysis",
section 3.4). m comes of the moments of the rates: with the share rho of the variance that lies between values,
m = 1 / rho - 1 (Kleinman, "Proportions with extraneous variance: single and independent samples", JASA 1973).

Shapes: V values of a feature.
"""

from dataclasses import dataclass

import numpy as np

MAX_STRENGTH = 1e6
"""Strength of the prior if the rates of values differ no more than by chance."""
_MIN_STRENGTH = 1.0


@dataclass(frozen=True)
class BetaPrior:
    """The beta distribution that the rates of values are drawn from."""

    mean: float
    """p0, the click rate of all rows."""
    strength: float
    """m, the number of rows that the prior counts as."""

    @classmethod
    def fit(cls, n_rows_V: np.ndarray, n_clicks_V: np.ndarray) -> "BetaPrior":
        """Fits the prior to the rows and clicks of values; values without a row have no say.

        Without rows of both classes the mean is one half a click, or one half of a row without a click, and the
        strength is the largest.
        """
        n_rows, n_clicks = n_rows_V.astype(np.float64), n_clicks_V.astype(np.float64)
        n, k = float(n_rows.sum()), float(n_clicks.sum())
        mean = (min(max(k, 0.5), n - 0.5) if n >= 1 else 0.5) / max(n, 1.0)
        n_values = int(np.count_nonzero(n_rows))
        variance = mean * (1 - mean)
        # the sum over values of n (rate - p0)^2, and what it would be if all values had the rate p0
        deviations = float(np.sum((n_clicks - n_rows * mean) ** 2 / np.maximum(n_rows, 1)))
        by_chance = variance * (n_values - 1)
        slope = variance * (n - float(np.square(n_rows).sum()) / max(n, 1.0) - (n_values - 1))
        rho = (deviations - by_chance) / slope if slope > 0 else 0.0
        strength = 1 / rho - 1 if rho > 0 else MAX_STRENGTH
        return cls(mean, float(np.clip(strength, _MIN_STRENGTH, MAX_STRENGTH)))

    def log_odds(self, n_rows: np.ndarray, n_clicks: np.ndarray) -> np.ndarray:
        """Float64 log odds of the smoothed rates, less those of the mean rate: 0 for a value without a row.

        Args:
            n_rows: rows of values, of any shape.
            n_clicks: their clicks, of the same shape.
        """
        clicks = n_clicks + self.strength * self.mean
        others = (n_rows - n_clicks) + self.strength * (1 - self.mean)
        return np.log(clicks) - np.log(others) - (np.log(self.mean) - np.log1p(-self.mean))
