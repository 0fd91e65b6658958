"""Tells test rows from training rows, or the rows of one day from those before, and names the columns that do it.

python -m pipelines.drift --data prepared/toss
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.common.cli import run_pipeline
from pipelines.common.data import open_data
from pipelines.common.output import check_file
from ranking.insight.drift import day_rows, measure_drift
from recsys.data.dataset import PreparedDataset
from recsys.data.groups import Partition
from recsys.data.rows import Rows
from recsys.errors import InputError
from recsys.evaluation.drift import DRIFT_FILE, Drift, RowsDrift
from recsys.evaluation.shown import format_metric, interval_sd
from recsys.patterns import match_columns
from recsys.report.insight_plots import plot_drift
from recsys.report.tables import TextRow, text_table
from recsys.system.files import write_json
from recsys.system.progress import console, progress_line

_LATER: tuple[Partition, ...] = ("valid", "test")
_N_SHOWN = 10


def drift(
    data: Annotated[Path, typer.Option(help="Folder of a prepared data set.")],
    by: Annotated[
        Literal["split", "day"] | None,
        typer.Option(
            help="split: valid and test rows against training rows; day: each day of the training rows against the day "
            "before, and the last against the first. Default: split if the data has other rows than training rows."
        ),
    ] = None,
    n_rows: Annotated[int, typer.Option(min=200, help="Largest number of rows of each of two sets.")] = 50_000,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Feature or pattern that the classifier does not read, to see what else differs; repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples, the classifier and the bootstrap.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help=f"JSON file to write, and its plot. Default: {DRIFT_FILE} in --data.")
    ] = None,
) -> Path:
    """Find the columns that change between rows of different times.

    A small classifier, cross-fitted, tells later rows from earlier ones: a
    ROC-AUC of .5 means that nothing differs. Prints its 95 % interval and the
    columns by their share of its gain, each with the ROC-AUC of the column
    alone. Crosses are left out, because they are made of other columns.
    """
    out = out or data / DRIFT_FILE
    check_file(out)
    dataset = open_data(data, data, "")
    names = compared_names(dataset, leave_out or [])
    comparisons = []
    for earlier, later in compared_rows(dataset, by):
        with progress_line(f"{earlier[0]} / {later[0]}", 200, unit="replicates") as line:
            comparisons.append(
                measure_drift(dataset, earlier, later, names, n_rows, seed, on_replicate=lambda: line.advance(1))
            )
        print_columns(comparisons[-1])
    result = Drift(data=str(data), seed=seed, comparisons=tuple(comparisons))
    out.parent.mkdir(parents=True, exist_ok=True)
    plot_drift(result, out.with_suffix(".png"))
    write_json(out, result.model_dump(mode="json"))
    console.print(f"{out}, {out.with_suffix('.png')}")
    return out


def compared_names(dataset: PreparedDataset, leave_out: list[str]) -> list[str]:
    """The features that may tell rows apart: all but crosses and those left out.

    Raises:
        InputError: for an unknown feature to leave out, or if none remains.
    """
    schema = dataset.manifest.schema_
    tokens = [sequence.name for sequence in schema.token_sequences]
    names = [*(name for name in schema.categorical if name not in schema.crosses), *schema.measured, *tokens]
    dropped = set(match_columns(leave_out, names, "--leave-out"))
    if dropped >= set(names):
        raise InputError("--leave-out leaves no feature: leave out fewer")
    return [name for name in names if name not in dropped]


def compared_rows(
    dataset: PreparedDataset, by: Literal["split", "day"] | None
) -> list[tuple[tuple[str, Rows], tuple[str, Rows]]]:
    """The pairs of earlier and later rows, with their names.

    Raises:
        InputError: if the data has no such rows.
    """
    train = ("train", dataset.partition_rows("train"))
    parts = [(name, rows) for name in _LATER if len(rows := dataset.partition_rows(name))]
    if by == "split" or (by is None and parts):
        if not parts:
            raise InputError(f"{dataset.folder} has training rows only: pass --by day, or prepare it with test rows")
        return [(train, part) for part in parts]
    days = [(f"day {number + 1}", rows) for number, rows in day_rows(dataset).items()]
    if len(days) < 2:
        raise InputError(
            f"{dataset.folder} has neither test rows nor two days: name schema.day, or prepare it with test rows"
        )
    return [*pairwise(days), *([(days[0], days[-1])] if len(days) > 2 else [])]


def print_columns(found: RowsDrift) -> None:
    """Prints the columns that tell two sets of rows apart, the first by gain."""
    columns = ("column", "share of gain", "ROC-AUC alone", "PSI", "missing", "rare or new")
    rows = []
    for one in found.columns[:_N_SHOWN]:
        shares = ["" if pair is None else f"{pair[0]:.1%} / {pair[1]:.1%}" for pair in (one.missing, one.rare)]
        rows.append(TextRow((one.name, f"{one.gain:.1%}", f"{one.roc_auc:.3f}", f"{one.psi:.3f}", *shares)))
    sd = interval_sd(found.low, found.high)
    low, value, high = (format_metric(number, sd) for number in (found.low, found.roc_auc, found.high))
    verdict = "they differ" if found.low > 0.5 else "no difference shown"
    console.print(
        text_table(
            f"{found.name}: ROC-AUC {value} ({low} .. {high}, by {found.by}), {found.n_rows:,} rows each: {verdict}",
            columns,
            rows,
        )
    )


if __name__ == "__main__":
    run_pipeline(drift)
