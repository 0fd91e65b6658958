"""Simulated logs and models with known differences.

The logit of a click is a base rate plus an effect of the user plus one of the row. A model's logit is that of the click
plus an error, which has a part of the user, shared by all rows of the user, and a part of the row: rows of a user
resemble each other in their labels and in the difference of two models. A model whose error is smaller is better. The
error of a fit differs from that of another seed in its size and in a share of its variance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from recsys.evaluation.logits import Logits, log_pos_weight_of, probability
from recsys.evaluation.metrics import MetricName, measure

MEASURED: tuple[MetricName, ...] = ("ap", "logloss", "roc_auc", "wll", "gauc")
"""Intervals by row have no GAUC, and neither have users of one row."""
_USER_EFFECT, _ROW_EFFECT = 0.8, 1.0
_USER_ERROR, _ROW_ERROR = 1.0, 0.4
_SEED_SHARE = 0.3
"""Share of the error's variance that differs between seeds."""
_LARGE_ROWS = 50_000
_N_QUANTILES = 8
"""Fits of each large sample if they differ in quality, at evenly spaced quantiles: their mean is the model's."""


@dataclass(frozen=True)
class Sample:
    """Rows, and the predictions of the fits of two models."""

    label: np.ndarray
    """[n] 0 / 1."""
    user: np.ndarray
    """[n] indices of users."""
    first: list[Logits]
    """By seed."""
    second: list[Logits]


@dataclass(frozen=True)
class Scenario:
    """A simulated comparison."""

    n_users: int
    rows_a_user: int
    """The mean number, if users differ in it."""
    base_logit: float = -2.0
    second_error: float = 1.0
    """Size of the second model's error over that of the first: equal models have 1."""
    user_spread: float = 0.0
    """Standard deviation of ln of a user's number of rows."""
    n_seeds: int = 1
    seed_sd: float = 0.0
    """Standard deviation of ln of the error's size over seeds."""
    are_twins: bool = False
    """Whether both models are the same one, so that only their seeds differ."""

    @property
    def is_equal(self) -> bool:
        """Whether the models are equally good, so that an interval without zero is a false alarm."""
        return self.second_error == 1.0

    @property
    def holds_seeds(self) -> bool:
        """Whether intervals speak of the models: single fits of unequal quality differ although their models do not."""
        return self.n_seeds > 1 or self.seed_sd == 0

    def draw(self, rng: np.random.Generator, qualities: np.ndarray | None = None) -> Sample:
        """Draws users, rows, labels and fits.

        Args:
            rng: the source of chance.
            qualities: [n_seeds] standard normal qualities of the fits of either model; None draws them.
        """
        sizes = np.full(self.n_users, self.rows_a_user)
        if self.user_spread:
            relative = rng.lognormal(-(self.user_spread**2) / 2, self.user_spread, self.n_users)
            sizes = np.maximum(1, np.round(self.rows_a_user * relative)).astype(np.int64)
        user = np.repeat(np.arange(self.n_users), sizes)

        def effects(user_sd: float, row_sd: float) -> np.ndarray:
            return user_sd * rng.normal(size=self.n_users)[user] + row_sd * rng.normal(size=len(user))

        logit = self.base_logit + effects(_USER_EFFECT, _ROW_EFFECT)
        label = (rng.random(len(user)) < probability(logit)).astype(np.int8)
        log_pos_weight = log_pos_weight_of(label)
        fits: list[list[Logits]] = []
        shared = np.sqrt(1 - _SEED_SHARE) * effects(_USER_ERROR, _ROW_ERROR)
        for size in (1.0, self.second_error):
            if not self.are_twins:
                shared = np.sqrt(1 - _SEED_SHARE) * effects(_USER_ERROR, _ROW_ERROR)
            errors = [shared + np.sqrt(_SEED_SHARE) * effects(_USER_ERROR, _ROW_ERROR) for _ in range(self.n_seeds)]
            drawn = rng.normal(size=self.n_seeds) if qualities is None else qualities
            sizes_of_fits = size * np.exp(self.seed_sd * drawn)
            pairs = zip(sizes_of_fits, errors, strict=True)
            fits.append([Logits.of_one_fit(logit + scale * error, log_pos_weight) for scale, error in pairs])
        return Sample(label, user, *fits)

    def true_differences(self, n_samples: int = 20) -> np.ndarray:
        """[metrics] second - first in the population, by large samples; exactly zero for equal models; else NaN where
        the metric is undefined."""
        if self.is_equal:
            return np.zeros(len(MEASURED))
        rng, n_seeds = np.random.default_rng(1), _N_QUANTILES if self.seed_sd else self.n_seeds
        large = replace(self, n_users=_LARGE_ROWS // self.rows_a_user, n_seeds=n_seeds)
        quantiles = norm.ppf((np.arange(n_seeds) + 0.5) / n_seeds)
        differences = []
        for _ in range(n_samples):
            sample = large.draw(rng, quantiles)
            first, second = (
                np.array([self._metrics(sample, fit) for fit in fits], np.float64)
                for fits in (sample.first, sample.second)
            )
            differences.append(second.mean(axis=0) - first.mean(axis=0))
        return np.mean(differences, axis=0)

    def _metrics(self, sample: Sample, fit: Logits) -> list[float | None]:
        metrics = measure(sample.label, fit, user=sample.user)
        return [metrics.value(name) for name in MEASURED]


_BETTER = 0.6
SCENARIOS: Mapping[str, Scenario] = {
    "rows-1": Scenario(3000, 1),
    "rows-1-better": Scenario(3000, 1, second_error=_BETTER),
    "rows-10": Scenario(300, 10),
    "rows-10-better": Scenario(300, 10, second_error=_BETTER),
    "rows-50": Scenario(100, 50),
    "rows-50-better": Scenario(100, 50, second_error=_BETTER),
    "rows-differ": Scenario(100, 50, user_spread=1.0),
    "clicks-500": Scenario(500, 10, base_logit=-3.0),
    "clicks-100": Scenario(500, 10, base_logit=-4.8),
    "clicks-100-better": Scenario(500, 10, base_logit=-4.8, second_error=_BETTER),
    "users-30": Scenario(30, 50),
    "users-30-better": Scenario(30, 50, second_error=_BETTER),
    "users-10": Scenario(10, 100),
    "users-10-better": Scenario(10, 100, second_error=_BETTER),
    "seeds-3": Scenario(200, 20, n_seeds=3, seed_sd=0.1),
    "seeds-3-better": Scenario(200, 20, second_error=_BETTER, n_seeds=3, seed_sd=0.1),
    "twins-3": Scenario(200, 20, n_seeds=3, seed_sd=0.1, are_twins=True),
    "twins-1": Scenario(200, 20, seed_sd=0.1, are_twins=True),
}
"""By name; `better`: the second model is."""
