"""Measures how many requests per second a finished retrieval run serves, and its parts: vectors, and exact search.

python -m benchmarks.retrieve --run runs/films --users user_id
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from pipelines.common.cli import run_pipeline
from pipelines.common.config import load_retrieval_config
from pipelines.retrieve import open_retriever
from recsys.data.dataset import PreparedDataset
from recsys.runs.layout import CONFIG_FILE
from recsys.system.progress import console
from retrieval.index import load_index
from retrieval.serving.retriever import Retriever


def benchmark_retrieve(
    run: Annotated[Path, typer.Option(help="Folder of a finished retrieval run with a log sequence.")],
    users: Annotated[str, typer.Option(help="The categorical column that is the key of the log.")],
    n_requests: Annotated[int, typer.Option(min=1, help="Requests, of known users.")] = 20_000,
    k: Annotated[int, typer.Option(min=1, help="Items of a request.")] = 100,
) -> None:
    """Print requests per second."""
    data = load_retrieval_config(run / CONFIG_FILE, []).run.data
    assert data is not None
    names = PreparedDataset.open(Path(data.folder)).vocabularies[users].values
    retriever = open_retriever(run)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.parquet"
        places = np.arange(n_requests) % len(names)
        pq.write_table(pa.table({users: names.take(pa.array(places)).cast(pa.int64())}), path)
        whole = {e: rate(n_requests, partial(retrieve, retriever, path, k, e)) for e in ("none", "seen")}
        requests = retriever.open_requests([path])
        blocks = [rows.encoded for _, rows in requests.blocks()]
    vectors = np.concatenate([retriever.request_vectors(rows) for rows in blocks])
    encoding = rate(n_requests, lambda: [retriever.request_vectors(rows) for rows in blocks])
    index = load_index(run)
    faiss.omp_set_num_threads(1)
    searching = rate(n_requests, lambda: index.search(vectors, k))
    both = 1 / (1 / encoding + 1 / searching)
    for exclude, value in whole.items():
        console.print(f"retrieve, exclude {exclude}: {value:,.0f} requests/s, {value / both:.2f} x vectors and search")
    console.print(f"vectors {encoding:,.0f}/s, search {searching:,.0f}/s, one after the other {both:,.0f}/s")


def retrieve(retriever: Retriever, path: Path, k: int, exclude: str) -> None:
    """Retrieves all candidates, without writing them."""
    for table in retriever.retrieve(retriever.open_requests([path]), k, exclude):
        assert table.num_rows


def rate(n: int, work: Callable[[], object]) -> float:
    """Returns n per second of the faster of two calls."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return n / min(seconds)


if __name__ == "__main__":
    run_pipeline(benchmark_retrieve)
