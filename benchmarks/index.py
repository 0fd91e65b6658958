"""Approximate search against exact search, side by side in one run: recall, queries a second, memory.

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
"""Length of a vector's own part, its centre's being 1."""


def index(
    vectors: Annotated[int, typer.Option(min=1000, help="Vectors in the catalog.")] = 1_000_000,
    width: Annotated[int, typer.Option(min=2, help="Of each.")] = 64,
    centres: Annotated[int, typer.Option(min=1, help="That they lie around.")] = 4000,
    queries: Annotated[int, typer.Option(min=10, help="Requests, around the same centres.")] = 1000,
    kinds: Annotated[str, typer.Option(help="Comma-separated: auto, flat, ivf_flat, ivf_pq, hnsw.")] = "auto",
    plot: Annotated[Path | None, typer.Option(help="PNG to draw speed over recall into.")] = None,
) -> None:
    """Measure indexes of many vectors against exact search.

    The vectors stand in a file that is mapped into memory and read block by block.
    """
    names = [kind.strip() for kind in kinds.split(",")]
    known = ("auto", *get_args(IndexKind))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--kinds {unknown[0]}: there is no such index, take some of {', '.join(known)}")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, faiss {faiss.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        catalog, asked = draw(Path(folder) / "vectors.npy", vectors, width, centres, queries)
        before = peak_rss_gib()
        exact = exact_search(catalog, asked, N_RECALLED)
        table = Table(title=f"{vectors:,} vectors of width {width} around {centres:,} centres", title_justify="left")
        for column in (
            "index",
            "parameters",
            f"recall@{N_RECALLED}",
            "queries/s",
            "times exact",
            "bytes",
            "built in s",
        ):
            table.add_column(column, justify="left" if column in ("index", "parameters") else "right")
        flat = build_index(catalog, IndexConfig(kind="flat", device="cpu"))
        speed = queries_per_s(flat, asked, N_RECALLED, n_rounds=2)
        table.add_row("exact (flat)", "", "1.0000", f"{speed:,.0f}", "", f"{4 * vectors * width:,}", "")
        del flat
        points = [("flat", 1.0, speed)]
        for name in names:
            start = time.perf_counter()
            built = build_index(catalog, validate(IndexConfig, {"kind": name, "device": "cpu"}, "--kinds"))
            seconds = time.perf_counter() - start
            recall, fast = recall_of(built, asked, exact), queries_per_s(built, asked, N_RECALLED)
            points += [(name, recall, fast), *around(name, built, asked, exact)] if plot else []
            size = built.save(Path(folder), "benchmark").n_bytes
            label = name if name == built.kind else f"{name} ({built.kind})"
            parameters = ", ".join(f"{key} {value:,}" for key, value in built.parameters.items())
            figures = (f"{recall:.4f}", f"{fast:,.0f}", f"{fast / speed:.1f}", f"{size:,}", f"{seconds:.0f}")
            table.add_row(label, parameters, *figures)
        console.print(table)
        gib = peak_rss_gib()
        console.print(f"wanted of auto: recall .95 and 5 times exact; peak memory {gib:.2f} GiB, {before:.2f} before")
    if plot is not None:
        plot_index(points, plot)


def draw(path: Path, n: int, width: int, n_centres: int, n_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """[n, width] unit vectors in a file, and [n_queries, width] in memory."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n_centres, width)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def some(count: int) -> np.ndarray:
        own = rng.normal(size=(count, width)).astype(np.float32) * (_SPREAD / np.sqrt(width))
        found = centres[rng.integers(0, n_centres, count)] + own
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (n, width))
    for start in range(0, n, _BLOCK):
        vectors[start : start + _BLOCK] = some(min(_BLOCK, n - start))
    return vectors, some(n_queries)


def around(name: str, index: ItemIndex, queries: np.ndarray, exact: np.ndarray) -> list[tuple[str, float, float]]:
    """Recall and speed at half and at twice the effort."""
    own = index.parameters.get("n_probe") or index.parameters.get("ef_search")
    found = []
    for effort in (max(1, own // 4), max(1, own // 2), 2 * own) if own else ():
        index.set_effort(effort)
        found.append((name, recall_of(index, queries, exact), queries_per_s(index, queries, N_RECALLED)))
    if own:
        index.set_effort(own)
    return found


if __name__ == "__main__":
    run_pipeline(index)
