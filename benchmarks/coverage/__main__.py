"""Simulates comparisons with a known difference, and prints how often their 95 % intervals hold it.

python -m benchmarks.coverage
python -m benchmarks.coverage --only rows-50 --only twins-3 --simulations 1000
"""

import os
import time
from functools import partial
from typing import Annotated

import numpy as np
import typer

from benchmarks.coverage.scenarios import MEASURED, SCENARIOS
from benchmarks.coverage.simulation import Coverage, measure_coverage
from pipelines.common.cli import run_pipeline
from recsys.errors import InputError
from recsys.evaluation.metrics import NEEDS_USERS
from recsys.evaluation.shown import titles
from recsys.report.tables import TextRow, text_table
from recsys.system.progress import console, progress_line

LOWEST, HIGHEST = 0.92, 0.98
"""The coverage that the intervals by user must have, up to the error of the simulation."""


def coverage(
    simulations: Annotated[int, typer.Option(min=10, help="Data sets of each scenario.")] = 300,
    replicates: Annotated[int, typer.Option(min=50, help="Bootstrap samples of each data set.")] = 200,
    only: Annotated[list[str] | None, typer.Option(help="Only this scenario; repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the data sets.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Processes. Default: one a core.")] = os.cpu_count() or 1,
) -> None:
    """Print the coverage of 95 % intervals; of equal models, the rest are false alarms.

    The intervals draw users, and beside it rows, which is too narrow where users
    have several rows. Exit code 1 if an interval by user covers too rarely or
    too often.
    """
    if unknown := [name for name in only or () if name not in SCENARIOS]:
        raise InputError(f"--only {unknown[0]}: choose from {', '.join(SCENARIOS)}")
    start, names = time.perf_counter(), only or list(SCENARIOS)
    found: dict[str, Coverage] = {}
    with progress_line("coverage", simulations * len(names), unit="simulations") as line:
        for name in names:
            found[name] = measure_coverage(
                SCENARIOS[name], simulations, replicates, seed, processes, partial(line.advance, 1, name)
            )
    of_rows = [name for name in MEASURED if name not in NEEDS_USERS]
    by_row = [f"{title}, by row" for title in titles(of_rows)]
    columns = ("scenario", "users", "rows a user", "clicks", "seeds", *titles(MEASURED), *by_row)
    error = np.sqrt(0.95 * 0.05 / simulations)
    rows, outside = [], []
    for name, result in found.items():
        scenario = SCENARIOS[name]
        is_outside = [not LOWEST - 2 * error <= value <= HIGHEST + 2 * error for value in result.by_user.values()]
        outside += [name] if scenario.holds_seeds and any(is_outside) else []
        counts = (f"{scenario.n_users:,}", str(scenario.rows_a_user), f"{result.n_clicks:,.0f}", str(scenario.n_seeds))
        cells = [result.by_user.get(name) for name in MEASURED] + [result.by_row[name] for name in of_rows]
        shares = ["-" if value is None else f"{100 * value:.1f}" for value in cells]
        style = "dim" if not scenario.holds_seeds else "red" if any(is_outside) else None
        rows.append(TextRow((name, *counts, *shares), style))
    title = "coverage of 95 % intervals, in %: users are drawn, and in the last columns rows"
    console.print(text_table(title, columns, rows))
    console.print(
        "Models are equally good except where the name says better: of equal ones, the rest are false alarms.\n"
        "twins-1: single fits of one model differ, because seeds do; its intervals speak of the two fits alone.\n"
        f"{simulations} simulations of {replicates} samples: Monte Carlo error (standard deviation) {100 * error:.1f}, "
        f"{time.perf_counter() - start:.0f} s"
    )
    if outside:
        console.print(f"outside {100 * LOWEST:.0f} to {100 * HIGHEST:.0f} %: {', '.join(outside)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    run_pipeline(coverage)
