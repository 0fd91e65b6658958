"""Scores a file of rows by a finished run or ensemble and writes the submission.

python -m pipelines.submit --run runs/a --test data/test.parquet --out submission.csv
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.table import Table

from pipelines.cli import run_pipeline
from ranking.scoring import Scorer, find_run_data, load_scorer
from recsys.allocator import keep_freed_memory
from recsys.calibration import logit_of, probability
from recsys.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.experiment import METRICS_FILE
from recsys.files import read_json, write_json
from recsys.lock import held
from recsys.metrics import Metrics, measure
from recsys.prepare.digest import columns_to_read, in_threads
from recsys.prepare.encode import encode_rows
from recsys.prepare.layout import IDS_FILE
from recsys.prepare.source import READ_ROWS, Source, open_new
from recsys.progress import console, progress_line
from recsys.submission import Labels, Scale, Scored, Writer, check_unique, read_labels, read_sample
from recsys.world import join_world

_SHOWN = ("ap", "wll", "roc_auc", "logloss", "ece", "score")


def submit(
    run: Annotated[Path, typer.Option(help="A finished run or ensemble.")],
    out: Annotated[Path, typer.Option(help="CSV file to write; a JSON file of the same name tells of it.")],
    test: Annotated[
        list[Path] | None,
        typer.Option(
            help="Parquet file of rows to score; may be given several times. Left out: the test rows that the data was "
            "prepared with, which are encoded already."
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
    found = find_run_data(run)
    dataset = PreparedDataset(data or found.folder)
    manifest = dataset.manifest
    files = test or [Path(path) for path in manifest.test_files]
    if not files:
        raise InputError(f"{dataset.folder} was prepared without test files: name some with --test")
    paths = [str(path.absolute()) for path in files]
    source = open_new(manifest.schema_config, manifest.schema_, manifest.kinds, paths, files[0].parent)
    wanted = read_sample(sample) if sample else None
    truth = read_labels(labels, source) if labels else None
    keep_freed_memory()
    scorer = load_scorer(run, found, dataset, join_world())

    out.parent.mkdir(parents=True, exist_ok=True)
    with held(out):
        if out.exists():  # by another process, since the first look
            raise InputError(f"{out} exists: choose another --out, or remove it")
        partial = out.with_name(out.name + ".partial")
        names = (wanted.id_name, wanted.label_name) if wanted else (source.schema.id or "row_id", source.schema.label)
        scored = Scored([], [])
        with Writer(partial, names, wanted, scale, scorer.balance) as writer:
            rows = score_source(source, dataset, scorer) if test else score_prepared(dataset, scorer)
            for ids, logit in rows:
                scored.add(ids, logit)
                writer.add(ids, logit)
            check_unique(scored, files[0])
            writer.finish(scored)
        partial.rename(out)
    report(run, out, scored, scorer.balance, truth, scale)


def score_source(source: Source, dataset: PreparedDataset, scorer: Scorer) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """Ids and natural logits of all rows, piece by piece."""
    schema, n_done = source.schema, 0
    columns = columns_to_read(schema)
    has_id = schema.id is not None and schema.id in source.columns_of("test")
    if has_id and schema.id not in columns:
        columns.append(str(schema.id))
    with progress_line("scoring", source.n_rows("test")) as line:
        tables = (found for found in source.batches("test", columns))
        encoded = in_threads(lambda found: encode_rows(found[1], schema, dataset.vocabularies), tables)
        for (path, table), rows in encoded:
            n = table.num_rows
            if has_id and table[schema.id].null_count:
                raise InputError(f"{path}: id column {schema.id!r} has nulls: every row needs an id of its own")
            ids = table[schema.id].combine_chunks() if has_id else pa.array(np.arange(n_done, n_done + n))
            yield pc.cast(ids, pa.string()), scorer.natural_logit(rows)
            n_done += n
            line.advance(n)


def score_prepared(dataset: PreparedDataset, scorer: Scorer) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """The same of the test rows that were prepared with the data."""
    rows, n_done = dataset.given_rows("test"), 0
    with progress_line("scoring", len(rows)) as line:
        while n_done < len(rows):
            number = rows(np.arange(n_done, min(n_done + READ_ROWS, len(rows))))
            has_ids = (dataset.folder / IDS_FILE).is_file()
            ids = dataset.row_ids(number) if has_ids else pa.array(np.arange(n_done, n_done + len(number)))
            yield pc.cast(ids, pa.string()), scorer.natural_logit(dataset.encoded(number))
            n_done += len(number)
            line.advance(len(number))


def report(run: Path, out: Path, scored: Scored, balance: float, truth: Labels | None, scale: Scale) -> None:
    """Says what was written, and how good it is where labels are known; also as JSON beside the file."""
    logit = scored.logit
    scales = {"natural": probability(logit), "balanced": probability(logit + balance)}
    found: dict[str, Any] = {
        "run": str(run),
        "scale": scale,
        "n_rows": len(logit),
        "predictions": {name: {"mean": float(p.mean()), "std": float(p.std())} for name, p in scales.items()},
    }
    for name, figures in found["predictions"].items():
        written = ", written" if name == scale else ""
        console.print(f"{name:8}  mean {figures['mean']:.5f}  std {figures['std']:.5f}{written}")
    estimate = read_json(run / METRICS_FILE)["overall"]
    if truth is not None:
        rows = {
            "estimated by the run": Metrics.model_validate(estimate),
            "by the labels": measure(truth.label, logit, logit + balance),
        }
        if truth.p is not None:
            best = logit_of(truth.p)
            rows["best possible"] = measure(truth.label, best, best + balance)
        table = Table(title=f"{out.name}: {len(logit):,} rows", title_justify="left")
        table.add_column("")
        for name in _SHOWN:
            table.add_column(name, justify="right")
        for name, metrics in rows.items():
            values = metrics.model_dump()
            table.add_row(name, *["-" if values[key] is None else f"{values[key]:.5f}" for key in _SHOWN])
        console.print(table)
        found["metrics"] = {name: metrics.model_dump() for name, metrics in rows.items()}
    write_json(out.with_suffix(".json"), found)
    console.print(f"{len(logit):,} rows written to {out}")


if __name__ == "__main__":
    run_pipeline(submit)
