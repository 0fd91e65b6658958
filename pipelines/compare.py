"""Compares finished runs on their shared rows with the paired bootstrap.

python -m pipelines.compare runs/a runs/b
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.common.cli import run_pipeline
from pipelines.common.output import check_file
from recsys.errors import InputError
from recsys.evaluation.comparison import COMPARED, Difference, paired_bootstrap
from recsys.evaluation.metrics import LOWER_IS_BETTER
from recsys.runs.predictions import join_predictions, read_predictions
from recsys.system.files import write_json
from recsys.system.progress import console, progress_line


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders. The first is the baseline of all others.")
    ],
    replicates: Annotated[int, typer.Option(min=100, help="Number of bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the differences to.")] = None,
) -> None:
    """Compare finished runs.

    Joins rows by id and prints, for each metric, the values of the baseline and
    of the run, their difference and its 95 % interval.
    """
    if len(runs) < 2:
        raise InputError(f"compare needs at least two runs, got only {runs[0]}: add another run folder")
    names = [run.name for run in runs[1:]]
    if len(set(names)) < len(names):
        raise InputError("two runs have the same name: rename a folder, because differences are listed by name")
    if out is not None:
        check_file(out)
    baseline, *candidates = join_predictions([read_predictions(run) for run in runs])
    console.print(f"{len(baseline.label):,} shared rows, {int(baseline.label.sum()):,} positives")
    differences: dict[str, dict[str, Difference]] = {}
    for run in candidates:
        with progress_line(f"bootstrap {run.name}", replicates, unit="replicates") as line:
            differences[run.name] = paired_bootstrap(
                baseline.label,
                baseline.logits,
                run.logits,
                replicates,
                seed=seed,
                on_replicate=lambda: line.advance(1),
                weight=baseline.weight,
            )
        print_differences(differences[run.name], f"{run.name} vs. {baseline.name} (baseline)")
    if out is not None:
        write_json(
            out, {name: {key: d.model_dump() for key, d in values.items()} for name, values in differences.items()}
        )


def print_differences(differences: dict[str, Difference], title: str) -> None:
    """Prints the differences of two runs, colored if the interval excludes zero: green is better, red is worse."""
    table = Table(title=title, title_justify="left")
    for column in ("metric", "baseline", "run", "difference", "95 % interval"):
        table.add_column(column, justify="right")
    for name in COMPARED:
        d = differences[name]
        lower_is_better = name in LOWER_IS_BETTER
        is_better = d.high < 0 if lower_is_better else d.low > 0
        is_worse = d.low > 0 if lower_is_better else d.high < 0
        style = "green" if is_better else "red" if is_worse else None
        interval = f"{d.low:+.5f} .. {d.high:+.5f}"
        table.add_row(name, f"{d.first:.5f}", f"{d.second:.5f}", f"{d.difference:+.5f}", interval, style=style)
    console.print(table)


if __name__ == "__main__":
    run_pipeline(compare)
