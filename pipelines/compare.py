"""Compares finished runs on their shared rows with the paired bootstrap.

python -m pipelines.compare runs/a runs/b
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import run_pipeline
from pipelines.common.output import check_file
from recsys.errors import InputError
from recsys.evaluation.comparison import Difference, paired_bootstrap
from recsys.evaluation.metrics import LOWER_IS_BETTER, MetricName
from recsys.evaluation.shown import TITLES, format_interval, format_metric, interval_sd, shown_metrics
from recsys.report.tables import TextRow, text_table
from recsys.runs.metrics import read_metrics
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
    shown = shown_metrics(name for run in runs for name in read_metrics(run).named_metrics)
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
        print_differences(differences[run.name], f"{run.name} vs. {baseline.name} (baseline)", shown)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            out, {name: {key: d.model_dump() for key, d in values.items()} for name, values in differences.items()}
        )


def print_differences(differences: dict[str, Difference], title: str, shown: Sequence[MetricName]) -> None:
    """Prints the differences of two runs, colored if the interval excludes zero: green is better, red is worse.

    Args:
        differences: by metric.
        title: the title of the table.
        shown: the metrics to print; those without a difference are left out.
    """
    rows = []
    for name in shown:
        if name not in differences:
            continue
        d = differences[name]
        lower_is_better, sd = name in LOWER_IS_BETTER, interval_sd(d.low, d.high)
        is_better = d.high < 0 if lower_is_better else d.low > 0
        is_worse = d.low > 0 if lower_is_better else d.high < 0
        values = (format_metric(d.first, sd), format_metric(d.second, sd), format_metric(d.difference, sd, "+"))
        style = "green" if is_better else "red" if is_worse else None
        rows.append(TextRow((TITLES[name], *values, format_interval(d.low, d.high)), style))
    console.print(text_table(title, ("metric", "baseline", "run", "difference", "95 % interval"), rows))


if __name__ == "__main__":
    run_pipeline(compare)
