"""Compares approximate search with exact search in one run: recall, queries per second, memory.

python -m benchmarks.index
python -m benchmarks.index --kinds auto,hnsw,ivf_pq
"""

import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated, get_args

import faiss
import numpy as np
import typer
from rich.table import Table

from pipelines.common.cli import run_pipeline
from recsys.config import validate
from recsys.errors import InputError
from recsys.system.memory import peak_rss_gib
from recsys.system.progress import console
from retrieval.evaluation.plots import plot_index
from retrieval.index import (
    N_RECALLED,
    IndexConfig,
    IndexKind,
    ItemIndex,
    build_index,
    exact_search,
    queries_per_s,
    recall_of,
)

_BLOCK = 65_536
_SPREAD = 0.6
"""Expected norm of the noise added to a cluster center of norm 1."""


def index(
    vectors: Annotated[int, typer.Option(min=1000, help="Vectors in the catalog.")] = 1_000_000,
    width: Annotated[int, typer.Option(min=2, help="Width of a vector.")] = 64,
    centers: Annotated[int, typer.Option(min=1, help="Cluster centers of the vectors.")] = 4000,
    queries: Annotated[int, typer.Option(min=10, help="Query vectors, drawn around the same centers.")] = 1000,
    kinds: Annotated[str, typer.Option(help="Comma-separated: auto, flat, ivf_flat, ivf_pq, hnsw.")] = "auto",
    plot: Annotated[Path | None, typer.Option(help="PNG file for a plot of speed against recall.")] = None,
) -> None:
    """Compare approximate indexes with exact search.

    The vectors are in a memory-mapped file that is read block by block.
    """
    names = [kind.strip() for kind in kinds.split(",")]
    known = ("auto", *get_args(IndexKind))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--kinds must be among {', '.join(known)}, got {unknown[0]}")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, faiss {faiss.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        catalog, query_vectors = draw_vectors(Path(folder) / "vectors.npy", vectors, width, centers, queries)
        initial_gib = peak_rss_gib()
        exact_ids = exact_search(catalog, query_vectors, N_RECALLED)
        table = Table(title=f"{vectors:,} vectors of width {width} around {centers:,} centers", title_justify="left")
        for column in (
            "index",
            "parameters",
            f"recall@{N_RECALLED}",
            "queries/s",
            "speedup over exact",
            "size, bytes",
            "build time, s",
        ):
            table.add_column(column, justify="left" if column in ("index", "parameters") else "right")
        flat = build_index(catalog, IndexConfig(kind="flat", device="cpu"))
        exact_speed = queries_per_s(flat, query_vectors, N_RECALLED, n_rounds=2)
        table.add_row("exact (flat)", "", "1.0000", f"{exact_speed:,.0f}", "", f"{4 * vectors * width:,}", "")
        del flat
        points = [("flat", 1.0, exact_speed)]
        for name in names:
            start = time.perf_counter()
            built = build_index(catalog, validate(IndexConfig, {"kind": name, "device": "cpu"}, "--kinds"))
            seconds = time.perf_counter() - start
            recall = recall_of(built, query_vectors, exact_ids)
            speed = queries_per_s(built, query_vectors, N_RECALLED)
            points += (
                [(name, recall, speed), *measure_other_efforts(name, built, query_vectors, exact_ids)] if plot else []
            )
            size = built.save(Path(folder), "benchmark").n_bytes
            label = name if name == built.kind else f"{name} ({built.kind})"
            parameters = ", ".join(f"{key} {value:,}" for key, value in built.parameters.items())
            figures = (f"{recall:.4f}", f"{speed:,.0f}", f"{speed / exact_speed:.1f}", f"{size:,}", f"{seconds:.0f}")
            table.add_row(label, parameters, *figures)
        console.print(table)
        console.print("targets for auto: recall 0.95, speedup over exact 5")
        console.print(f"peak memory: {peak_rss_gib():.2f} GiB, {initial_gib:.2f} GiB before the first search")
    if plot is not None:
        plot_index(points, plot)


def draw_vectors(path: Path, n: int, width: int, n_centers: int, n_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws clustered unit vectors: [n, width] in a file and [n_queries, width] in memory."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(n_centers, width)).astype(np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)

    def sample(count: int) -> np.ndarray:
        noise = rng.normal(size=(count, width)).astype(np.float32) * (_SPREAD / np.sqrt(width))
        block = centers[rng.integers(0, n_centers, count)] + noise
        return block / np.linalg.norm(block, axis=1, keepdims=True)

    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (n, width))
    for start in range(0, n, _BLOCK):
        vectors[start : start + _BLOCK] = sample(min(_BLOCK, n - start))
    return vectors, sample(n_queries)


def measure_other_efforts(
    name: str, index: ItemIndex, queries: np.ndarray, exact_ids: np.ndarray
) -> list[tuple[str, float, float]]:
    """Measures recall and speed at a quarter, half and twice the index's search effort."""
    tuned = index.parameters.get("n_probe") or index.parameters.get("ef_search")
    points = []
    for effort in (max(1, tuned // 4), max(1, tuned // 2), 2 * tuned) if tuned else ():
        index.set_search_parameter(effort)
        points.append((name, recall_of(index, queries, exact_ids), queries_per_s(index, queries, N_RECALLED)))
    if tuned:
        index.set_search_parameter(tuned)
    return points


if __name__ == "__main__":
    run_pipeline(index)
