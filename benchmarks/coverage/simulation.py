"""Shares of simulations whose interval holds the true difference, if users are drawn and if rows are."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.coverage.scenarios import MEASURED, Scenario
from recsys.evaluation.comparison import paired_bootstrap

_CHUNK = 5
"""Simulations that a process takes at once."""


@dataclass(frozen=True)
class Coverage:
    """What the simulations of a scenario found."""

    by_user: dict[str, float]
    """By metric: the share of intervals that hold the true difference, if users are drawn."""
    by_row: dict[str, float]
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
    return Coverage(by_user, by_row, n_simulations, float(np.mean(n_clicks)))


def _simulate(
    scenario: Scenario, truth: np.ndarray, n_replicates: int, seed: int, index: int
) -> tuple[list[list[bool]], int]:
    """Whether the intervals by user and by row hold the true difference of each metric; and the number of clicks."""
    sample = scenario.draw(np.random.default_rng([seed, index]))
    by_user = paired_bootstrap(
        sample.label, sample.first, sample.second, n_replicates, seed=index, cluster=sample.user, by="user"
    )
    by_row = paired_bootstrap(sample.label, sample.first, sample.second, n_replicates, seed=index)
    covered = [
        [d.low <= true <= d.high for name, true in zip(MEASURED, truth, strict=True) for d in (differences[name],)]
        for differences in (by_user.differences, by_row.differences)
    ]
    return covered, int(sample.label.sum())
