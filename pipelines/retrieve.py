"""Retrieves items for requests with a finished retrieval run.

python -m pipelines.retrieve --run runs/a --requests requests.parquet --k 100 --exclude seen --out candidates.parquet
"""

import time
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from pipelines.common.cli import run_pipeline
from pipelines.common.output import check_file
from pipelines.parts.retrieval_run import open_retriever
from recsys.errors import InputError
from recsys.system.allocator import keep_freed_memory
from recsys.system.files import new_folder, removed_if_refused
from recsys.system.lock import held
from recsys.system.progress import console, progress_line
from retrieval.serving.retriever import NONE


def retrieve(
    run: Annotated[Path, typer.Option(help="Folder of a finished retrieval run.")],
    requests: Annotated[
        list[Path],
        typer.Option(help="Parquet or CSV files with the columns of the towers user and context; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Parquet file to write: row_id, rank, item, score.")],
    k: Annotated[int, typer.Option(min=1, help="Items of a request.")] = 100,
    exclude: Annotated[
        str,
        typer.Option(
            help="seen: no items of the request's history; none: all items; or a parquet file of pairs, with "
            "the column of the item and a column of the requests."
        ),
    ] = NONE,
    items: Annotated[
        Path | None,
        typer.Option(help="File with the columns of the item tower: retrieves its items instead of the run's."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data set of the run. Default: the folder recorded in the run.")
    ] = None,
) -> None:
    """Retrieve items for requests.

    Reads, scores and writes the requests block by block. A request without a
    list of its history has the latest history of its key in the data.
    """
    if out.exists():
        raise InputError(f"{out} exists: choose another --out, or remove it")
    check_file(out)
    keep_freed_memory()
    retriever = open_retriever(run, data, items)
    opened = retriever.open_requests(requests)
    partial = out.with_name(out.name + ".partial")
    start, n_candidates, n_shown = time.perf_counter(), 0, 0
    with new_folder(out.parent), held(out), removed_if_refused(partial):
        writer: pq.ParquetWriter | None = None
        with progress_line("requests", opened.n_rows) as line:
            for table in retriever.retrieve(opened, k, exclude):
                writer = writer or pq.ParquetWriter(partial, table.schema, compression="zstd")
                writer.write_table(table)
                n_candidates += table.num_rows
                line.advance(opened.n_read - n_shown)
                n_shown = opened.n_read
        assert writer is not None, "files of requests have rows"
        writer.close()
        partial.rename(out)  # last: a file with the final name is complete
    rate = opened.n_rows / (time.perf_counter() - start)
    console.print(f"{n_candidates:,} candidates of {opened.n_rows:,} requests written to {out}, {rate:,.0f} requests/s")


if __name__ == "__main__":
    run_pipeline(retrieve)
