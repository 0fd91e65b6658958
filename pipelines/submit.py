"""Scores a file of rows by a finished run or ensemble and writes the submission.

python -m pipelines.submit --run runs/a --test data/test.parquet --out submission.csv
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from pipelines.common.cli import run_pipeline
from ranking.scoring import find_run_data, load_scorer, score_blocks
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.logits import Logits, logit_of
from recsys.evaluation.metrics import METRIC_NAMES, measure
from recsys.runs.layout import PLAN_STATE_FILE
from recsys.runs.metrics import read_metrics
from recsys.runs.rows_to_score import FileRows, PreparedRows
from recsys.runs.submission import (
    Labels,
    Scale,
    ScaleStats,
    ScoredRows,
    SubmissionSummary,
    Writer,
    check_unique,
    read_labels,
    read_sample,
)
from recsys.system.allocator import keep_freed_memory
from recsys.system.files import read_json, write_json
from recsys.system.lock import held
from recsys.system.progress import console, progress_line
from recsys.system.world import join_world


def submit(
    run: Annotated[Path, typer.Option(help="A finished run, ensemble or plan.")],
    out: Annotated[Path, typer.Option(help="CSV file to write; a JSON file of the same name tells of it.")],
    test: Annotated[
        list[Path] | None,
        typer.Option(
            help="Parquet file of rows to score; may be given several times. Left out: the test rows of the prepared "
            "data set."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The prepared data set of the run. Left out: where the run found it.")
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(help="A sample submission (CSV), whose header, ids and order are taken.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Parquet file with the labels of these rows, to measure by: the generator's truth, say."),
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="balanced: q, at which WLL is lowest; natural: p, the click rate.")
    ] = "balanced",
) -> None:
    """Write a submission.

    The models of all folds are averaged by their logits, members stacked, and what comes of it calibrated. Rows are
    read, scored and written piece by piece, in the order of the file or of the sample.
    """
    if out.exists():
        raise InputError(f"{out} exists: choose another --out, or remove it")
    run = final_run(run)
    found = find_run_data(run)
    dataset = PreparedDataset.open(data or found.folder)
    rows = FileRows(dataset, test) if test else PreparedRows(dataset)
    schema = dataset.manifest.schema_
    wanted = read_sample(sample) if sample else None
    truth = None
    if labels is not None:
        truth = read_labels(labels, schema, rows.n_rows, rows.ids)
    elif isinstance(rows, PreparedRows) and (known := rows.labels()) is not None:
        truth = Labels(known, None)
    keep_freed_memory()
    scorer = load_scorer(run, found, dataset, join_world())

    out.parent.mkdir(parents=True, exist_ok=True)
    with held(out):
        if out.exists():  # by another process, since the first look
            raise InputError(f"{out} exists: choose another --out, or remove it")
        partial = out.with_name(out.name + ".partial")
        names = (wanted.id_name, wanted.label_name) if wanted else (rows.id_name, schema.label)
        scored = ScoredRows(scorer.log_pos_weight)
        with (
            Writer(partial, names, wanted, scale, scorer.log_pos_weight) as writer,
            progress_line("scoring", rows.n_rows) as line,
        ):
            for (ids, _), logit in score_blocks(scorer, rows.blocks(), lambda block: block[1]):
                scored.add(ids, logit)
                writer.add(ids, logit)
                line.advance(len(ids))
            check_unique(scored, rows.origin)
            writer.finish(scored)
        report(run, out, scored.logits, truth, scale)
        partial.rename(out)  # last: a file of the final name is refused next time
    console.print(f"{rows.n_rows:,} rows written to {out}")


def final_run(run: Path) -> Path:
    """The run folder that scores for a plan; any other folder is itself.

    Raises:
        InputError: for a plan that has no final run.
    """
    path = run / PLAN_STATE_FILE
    if not path.is_file():
        return run
    final = read_json(path).get("final")
    if final is None:
        raise InputError(f"{run} is a plan without a last step: give one of its run folders")
    return run / str(final)


def report(run: Path, out: Path, logits: Logits, truth: Labels | None, scale: Scale) -> None:
    """Prints what was written, and how good it is where labels are known; also as JSON beside the file."""
    scales: dict[Scale, np.ndarray] = {"natural": logits.p, "balanced": logits.q}
    stats = {name: ScaleStats(mean=float(p.mean()), std=float(p.std())) for name, p in scales.items()}
    for name, found in stats.items():
        written = ", written" if name == scale else ""
        console.print(f"{name:8}  mean {found.mean:.5f}  std {found.std:.5f}{written}")
    metrics = {}
    if truth is not None:
        metrics = {"estimated by the run": read_metrics(run).overall, "by the labels": measure(truth.label, logits)}
        if truth.p is not None:
            metrics["best possible"] = measure(truth.label, logits.with_natural(logit_of(truth.p)))
        table = Table(title=f"{out.name}: {len(logits):,} rows", title_justify="left")
        table.add_column("")
        for metric in METRIC_NAMES:
            table.add_column(metric, justify="right")
        for row, figures in metrics.items():
            table.add_row(row, *figures.formatted())
        console.print(table)
    summary = SubmissionSummary(run=str(run), scale=scale, n_rows=len(logits), predictions=stats, metrics=metrics)
    write_json(out.with_suffix(".json"), summary.model_dump(mode="json"))


if __name__ == "__main__":
    run_pipeline(submit)
