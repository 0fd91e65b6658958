"""Scores rows with a finished run or ensemble and writes a submission.

python -m pipelines.submit --run runs/a --test data/test.parquet --out submission.csv
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipelines.common.cli import ModelClass, run_pipeline
from pipelines.common.output import check_file
from pipelines.parts.ranked_lists import ListMaker, ListOptions, ListsSummary
from pipelines.parts.run_data import ScoringRun
from ranking.own_model import name_model
from recsys.errors import InputError
from recsys.evaluation.logits import Logits, logit_of
from recsys.evaluation.shown import format_metric, format_metrics, titles
from recsys.report.tables import TextRow, text_table
from recsys.runs.labels import Labels, read_labels
from recsys.runs.metrics import read_metrics
from recsys.runs.rows_to_score import FileRows, PreparedRows
from recsys.runs.sample import read_sample
from recsys.runs.submission import (
    SCALE_HELP,
    ChosenScale,
    Scale,
    ScaleStats,
    ScoredRows,
    SubmissionSummary,
    SubmissionWriter,
    check_unique,
    resolve_scale,
)
from recsys.runs.summary import sampling_note
from recsys.system.files import new_folder, removed_if_refused, write_json
from recsys.system.lock import held
from recsys.system.progress import console
from retrieval.serving.retriever import NONE


def submit(
    run: Annotated[Path, typer.Option(help="Folder of a finished run, ensemble or plan.")],
    out: Annotated[Path, typer.Option(help="CSV file to write; a summary is written beside it as a .json file.")],
    test: Annotated[
        list[Path] | None,
        typer.Option(
            help="Rows to score: a parquet or CSV file, a folder or a glob; repeatable. Default: the test rows of the "
            "prepared data set."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data set of the run. Default: the folder recorded in the run.")
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(help="Sample submission (CSV), which sets the header, the ids and their order.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Parquet or CSV file with labels of the rows, to compute metrics (truth.parquet of the generator)."
        ),
    ] = None,
    model_class: ModelClass = None,
    scale: Annotated[ChosenScale, typer.Option(help=SCALE_HELP)] = "auto",
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help="Write ranked lists of this length, of items that --retrieval finds for each request."
        ),
    ] = None,
    retrieval: Annotated[
        Path | None, typer.Option(help="Folder of a finished retrieval run on the same prepared data, for --top.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Items to retrieve and rank for each request, for --top.")
    ] = 200,
    exclude: Annotated[
        str, typer.Option(help="As in pipelines.retrieve, for --top: seen, none or a parquet file of pairs.")
    ] = NONE,
    max_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Rank as many candidates as a request has time for: mean milliseconds, for --top."
        ),
    ] = None,
) -> Path:
    """Write a submission.

    Averages the logits of the fold models, stacks the members of an ensemble
    and applies the run's calibration. Reads, scores and writes rows block by
    block, in the order of the files or of --sample. With --top, a row of --test
    is a request without an item, and gets a list of items.
    """
    if out.exists():
        raise InputError(f"{out} exists: choose another --out, or remove it")
    check_file(out)
    for path in model_class or ():
        name_model(path)
    scoring = ScoringRun.open(run, data)
    if top is not None or retrieval is not None or exclude != NONE or max_ms is not None:
        if top is None or retrieval is None or not test or sample is not None or labels is not None:
            raise InputError(
                "ranked lists, and --exclude and --max-ms, need --top, --retrieval and --test, and take no "
                "--sample and --labels: "
                "python -m pipelines.retrieval --reranker measures lists of evaluation rows"
            )
        options = ListOptions(retrieval, top, max(candidates, top), exclude, max_ms)
        return submit_lists(scoring, test, out, options, scale)
    run, dataset = scoring.folder, scoring.dataset
    written = resolve_scale(scale, run)
    rows = FileRows(dataset, test) if test else PreparedRows(dataset)
    schema = dataset.manifest.schema_
    layout = read_sample(sample) if sample else None
    truth = None
    if labels is not None:
        truth = read_labels(labels, schema, rows.n_rows, rows.ids)
        if truth.is_by_order:
            console.print(f"{labels} has no ids or row numbers: its {rows.n_rows:,} rows are matched by their order")
    elif isinstance(rows, PreparedRows) and (test_labels := rows.labels()) is not None:
        rate = dataset.stats.sampling_rate or 1.0  # the rows are sampled like the training rows
        truth = Labels(test_labels, None, weight=rows.weights(), log_sampling_rate=float(np.log(rate)))
    scorer = scoring.scorer
    if test and scorer.reads_retrieval_score:
        raise InputError(
            f"{run} reads the scores of a retrieval run, which only the test rows of {dataset.folder} have: leave out "
            "--test, or submit a run without them"
        )

    partial = out.with_name(out.name + ".partial")
    with new_folder(out.parent), held(out), removed_if_refused(partial):
        if out.exists():  # another process wrote it after the first check
            raise InputError(f"{out} exists: choose another --out, or remove it")
        assert schema.label is not None, "ranking runs have a label"
        names = (layout.id_name, layout.label_name) if layout else (rows.id_name, schema.label)
        scored = ScoredRows(scorer.log_pos_weight)
        with SubmissionWriter(partial, names, layout, written, scorer.log_pos_weight) as writer:
            for ids, logit in scoring.score(rows):
                scored.add(ids, logit)
                writer.add(ids, logit)
            check_unique(scored, rows.origin)
            writer.finish(scored)
        report(run, out, scored.logits, truth, written)
        partial.rename(out)  # last: a file with the final name is complete
    console.print(f"{rows.n_rows:,} rows written to {out}")
    return out.with_suffix(".json")


def submit_lists(scoring: ScoringRun, test: list[Path], out: Path, options: ListOptions, scale: ChosenScale) -> Path:
    """Writes a CSV file of ranked lists, and a summary beside it; returns the path of the summary."""
    schema, written = scoring.dataset.manifest.schema_, resolve_scale(scale, scoring.folder)
    assert schema.label is not None, "ranking runs have a label"
    lists = ListMaker(scoring, test, options)
    partial = out.with_name(out.name + ".partial")
    with new_folder(out.parent), held(out), removed_if_refused(partial):
        n_rows, ms = lists.write(partial, (schema.id or "row_id", schema.label), written)
        partial.rename(out)  # last: a file with the final name is complete
    summary = ListsSummary(
        run=str(scoring.folder),
        retrieval=str(options.retrieval),
        scale=written,
        n_requests=lists.n_requests,
        n_rows=n_rows,
        top=options.top,
        n_candidates=lists.n_candidates,
        ms_per_request=ms,
    )
    write_json(out.with_suffix(".json"), summary.model_dump(mode="json"))
    console.print(
        f"lists of {options.top} for {lists.n_requests:,} requests written to {out}: {lists.n_candidates:,} candidates "
        f"each, {ms:.3g} ms a request"
    )
    return out.with_suffix(".json")


def report(run: Path, out: Path, logits: Logits, truth: Labels | None, scale: Scale) -> None:
    """Prints and writes as JSON the distribution of the predictions, and their metrics if labels are known."""
    scales: dict[Scale, np.ndarray] = {"natural": logits.p, "balanced": logits.q}
    stats = {name: ScaleStats(mean=float(p.mean()), std=float(p.std())) for name, p in scales.items()}
    for name, distribution in stats.items():
        written = "  (written)" if name == scale else ""
        console.print(
            f"{name:8}  mean {format_metric(distribution.mean)}  std {format_metric(distribution.std)}{written}"
        )
    metrics = {}
    if truth is not None:
        estimate = read_metrics(run)
        metrics = {"estimated by the run": estimate.overall, "by the labels": truth.measure(logits)}
        if truth.p is not None:
            metrics["best possible"] = truth.measure(logits.with_natural(logit_of(truth.p)))
        rows = [
            TextRow((row, *format_metrics(figures, estimate.shown, estimate.sd))) for row, figures in metrics.items()
        ]
        console.print(text_table(f"{out.name}: {len(logits):,} rows", ("metrics", *titles(estimate.shown)), rows))
        if (note := sampling_note(estimate)) is not None:
            is_of_all = truth.log_sampling_rate != 0  # a file of labels is a full log
            console.print(note if is_of_all else f"estimated by the run: {note}")
    summary = SubmissionSummary(run=str(run), scale=scale, n_rows=len(logits), predictions=stats, metrics=metrics)
    write_json(out.with_suffix(".json"), summary.model_dump(mode="json"))


if __name__ == "__main__":
    run_pipeline(submit)
