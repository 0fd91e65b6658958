"""Compares finished runs on the rows they share, by the paired bootstrap.

python -m pipelines.compare runs/a runs/b
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.common.cli import run_pipeline
from recsys.errors import InputError
from recsys.evaluation.comparison import COMPARED, Difference, paired_bootstrap
from recsys.evaluation.metrics import LOWER_IS_BETTER
from recsys.runs.predictions import join_predictions, read_predictions
from recsys.system.files import write_json
from recsys.system.progress import console, progress_line


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; all are set against the first.")],
    replicates: Annotated[int, typer.Option(min=100, help="Bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the differences to.")] = None,
) -> None:
    """Compare finished runs.

    For each metric: the first run's value, another's, their difference and its 95 % interval. Rows are joined by id.
    """
    if len(runs) < 2:
        raise InputError(f"{runs[0]} alone cannot be compared: name two runs or more")
    first, *others = join_predictions([read_predictions(run) for run in runs])
    console.print(f"{len(first.label):,} shared rows, {int(first.label.sum()):,} positive; all against {first.name}")
    found: dict[str, dict[str, Difference]] = {}
    for other in others:
        with progress_line(f"{other.name} replicates", replicates, unit="replicates") as line:
            found[other.name] = paired_bootstrap(
                first.label, first.logits, other.logits, replicates, seed=seed, on_replicate=lambda: line.advance(1)
            )
        print_differences(found[other.name], f"{other.name} - {first.name}")
    if out is not None:
        write_json(out, {name: {k: d.model_dump() for k, d in each.items()} for name, each in found.items()})


def print_differences(differences: dict[str, Difference], title: str) -> None:
    """Shows the differences of two runs, coloured where the interval leaves zero out."""
    table = Table(title=title, title_justify="left")
    for column in ("metric", "first", "second", "difference", "95 % interval"):
        table.add_column(column, justify="right")
    for name in COMPARED:
        d = differences[name]
        falls_well = name in LOWER_IS_BETTER
        is_better = d.high < 0 if falls_well else d.low > 0
        is_worse = d.low > 0 if falls_well else d.high < 0
        style = "green" if is_better else "red" if is_worse else None
        interval = f"{d.low:+.5f} .. {d.high:+.5f}"
        table.add_row(name, f"{d.first:.5f}", f"{d.second:.5f}", f"{d.difference:+.5f}", interval, style=style)
    console.print(table)


if __name__ == "__main__":
    run_pipeline(compare)
