"""Compares finished runs on their shared rows with the paired bootstrap.

python -m pipelines.compare runs/a runs/b
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import run_pipeline
from pipelines.common.output import check_file
from pipelines.parts.comparison import compare_models
from recsys.config import Values
from recsys.errors import InputError
from recsys.evaluation.comparison import By, Comparison, Difference
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import LOWER_IS_BETTER, MetricName
from recsys.evaluation.shown import TITLES, format_interval, format_metric, interval_sd, shown_metrics
from recsys.report.tables import TextRow, text_table
from recsys.runs.clusters import clusters_of
from recsys.runs.metrics import read_metrics
from recsys.runs.predictions import RunPredictions, join_predictions, read_predictions
from recsys.system.files import write_json
from recsys.system.progress import console


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Run folders. The first is the baseline of all others. Runs of one model that differ in their seed "
            "are joined by commas: a-0,a-1,a-2.",
        ),
    ],
    by: Annotated[
        By | None,
        typer.Option(help="What a bootstrap sample draws. Default: user if the data names its users, otherwise row."),
    ] = None,
    replicates: Annotated[int, typer.Option(min=100, help="Number of bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the comparisons to.")] = None,
) -> Values:
    """Compare finished runs.

    Joins rows by id and prints, for each metric, the values of the baseline and
    of the run, their difference and its 95 % interval. Of several seeds, a
    value is the mean, and the interval holds the seeds.
    """
    if len(models) < 2:
        raise InputError(f"compare needs at least two runs, got only {models[0]}: add another run folder")
    folders = [[Path(folder) for folder in model.split(",") if folder] for model in models]
    if out is not None:
        check_file(out)
    compared = compare_runs(folders, by, replicates, seed)
    comparisons = compared.comparisons
    console.print(f"shared: {next(iter(comparisons.values())).counts}")
    for name, comparison in comparisons.items():
        title = f"{name} vs. {compared.baseline} (baseline)"
        print_differences(comparison.differences, title, compared.shown, comparison.by)
        console.print(comparison.scope)
        if comparison.note:
            console.print(comparison.note)
    values = {name: comparison.model_dump(mode="json") for name, comparison in comparisons.items()}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, values)
    return values


@dataclass(frozen=True)
class ComparedRuns:
    """The differences of runs from a baseline."""

    baseline: str
    """The name of its folder."""
    shown: tuple[MetricName, ...]
    """The metrics that their configs name, and those always shown."""
    comparisons: dict[str, Comparison]
    """By the name of the run."""


def compare_runs(
    folders: Sequence[Sequence[Path]], by: By | None = None, n_replicates: int = 1000, seed: int = 0
) -> ComparedRuns:
    """Compares runs with the first of them.

    Args:
        folders: the runs, each as the folders of its seeds.
        by: what a sample draws; None draws users where they are known, otherwise rows.
        n_replicates: number of bootstrap samples.
        seed: seed of the draws.

    Raises:
        InputError: for a run that is named twice, is not finished or shares no row with the others.
    """
    paths = [path for seeds in folders for path in seeds]
    names = [seeds[0].name for seeds in folders[1:]]
    if len(set(names)) < len(names):
        raise InputError("two runs have the same name: rename a folder, because differences are listed by name")
    if len({path.resolve() for seeds in folders[1:] for path in seeds}) < len(paths) - len(folders[0]):
        raise InputError("a run is named twice: name each seed's run once")
    runs = iter(join_predictions([read_predictions(path) for path in paths]))
    baseline, *candidates = [[next(runs) for _ in seeds] for seeds in folders]
    rows = baseline[0]
    clusters_of(rows, by)
    comparisons: dict[str, Comparison] = {}
    for seeds in candidates:
        name, logits = seeds[0].name, (_fits_of(baseline), _fits_of(seeds))
        comparisons[name] = compare_models(rows, *logits, f"bootstrap {name}", n_replicates, seed, by)
    has_gauc = any("gauc" in comparison.differences for comparison in comparisons.values())
    shown = shown_metrics((name for path in paths for name in read_metrics(path).named_metrics), has_gauc)
    return ComparedRuns(rows.name, shown, comparisons)


def _fits_of(runs: Sequence[RunPredictions]) -> list[Logits]:
    """The logits of every seed of runs of one model."""
    return [logits for run in runs for logits in run.predictions.by_seed()]


def print_differences(
    differences: dict[str, Difference], title: str, shown: Sequence[MetricName], by: By = "row"
) -> None:
    """Prints the differences of two runs, colored if the interval excludes zero: green is better, red is worse.

    Args:
        differences: by metric.
        title: the title of the table.
        shown: the metrics to print; those without a difference are left out.
        by: what the intervals draw.
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
    columns = ("metric", "baseline", "run", "difference", f"95 % interval, by {by}")
    console.print(text_table(title, columns, rows))


if __name__ == "__main__":
    run_pipeline(compare)
