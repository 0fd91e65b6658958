"""Shares of simulations whose interval holds the true difference, if users are drawn and if rows are."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.coverage.scenarios import MEASURED, Scenario
from recsys.evaluation.comparison import Difference, paired_bootstrap
from recsys.evaluation.metrics import MetricName

_CHUNK = 5
"""Simulations that a process takes at once."""


@dataclass(frozen=True)
class Coverage:
    """What the simulations of a scenario found."""

    by_user: dict[MetricName, float]
    """By metric that has an interval: the share of intervals that hold the true difference, if users are drawn."""
    by_row: dict[MetricName, float]
    n_simulations: int
    n_clicks: float
    """The mean over simulations."""


def measure_coverage(
    scenario: Scenario,
    n_simulations: int,
    n_replicates: int,
    seed: int = 0,
    n_processes: int = 1,
    on_simulation: Callable[[], None] = lambda: None,
) -> Coverage:
    """Simulates a scenario.

    Args:
        scenario: the data and the models.
        n_simulations: number of data sets.
        n_replicates: number of bootstrap samples of each.
        seed: seed of the data sets.
        n_processes: number of processes; 1 starts none.
        on_simulation: called after each simulation, to show progress.
    """
    simulate = partial(_simulate, scenario, scenario.true_differences(), n_replicates, seed)
    results = []
    if n_processes == 1:
        for index in range(n_simulations):
            results.append(simulate(index))
            on_simulation()
    else:
        with ProcessPoolExecutor(n_processes) as pool:
            for result in pool.map(simulate, range(n_simulations), chunksize=_CHUNK):
                results.append(result)
                on_simulation()
    covered, n_clicks = np.array([flags for flags, _ in results]), [n for _, n in results]
    by_user, by_row = (dict(zip(MEASURED, covered[:, way].mean(axis=0).tolist(), strict=True)) for way in (0, 1))
    return Coverage(_defined(by_user), _defined(by_row), n_simulations, float(np.mean(n_clicks)))


def _defined(shares: dict[MetricName, float]) -> dict[MetricName, float]:
    return {name: share for name, share in shares.items() if not np.isnan(share)}


def _simulate(
    scenario: Scenario, truth: np.ndarray, n_replicates: int, seed: int, index: int
) -> tuple[list[list[float]], int]:
    """Whether the intervals by user and by row hold the true difference of each metric; and the number of clicks.

    NaN stands for a metric that has no interval.
    """
    sample = scenario.draw(np.random.default_rng([seed, index]))
    by_user = paired_bootstrap(
        sample.label, sample.first, sample.second, n_replicates, seed=index, cluster=sample.user, by="user"
    )
    by_row = paired_bootstrap(sample.label, sample.first, sample.second, n_replicates, seed=index)
    covered = [
        [_holds(comparison.differences.get(name), true) for name, true in zip(MEASURED, truth, strict=True)]
        for comparison in (by_user, by_row)
    ]
    return covered, int(sample.label.sum())


def _holds(difference: Difference | None, true: float) -> float:
    return np.nan if difference is None else float(difference.low <= true <= difference.high)
