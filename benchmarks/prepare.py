"""Compares the time of prepare with the time to read the same files, for several numbers of rows; measures its memory.

python -m benchmarks.prepare
python -m benchmarks.prepare --rows 100000 --rows 1000000 --rows 10000000 --keep
"""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import typer
from rich.table import Table

from benchmarks.fuxictr_processor import SCRIPT, fuxictr_config
from pipelines.common.cli import TOSS_CONFIG, run_pipeline
from pipelines.common.config import load_data_config
from pipelines.common.data import prepare_raw
from recsys.errors import InputError
from recsys.raw.files.find import find_files
from recsys.raw.files.parquet import open_parquet
from recsys.raw.files.raw_file import READ_ROWS
from recsys.synthetic import GeneratorConfig, generate
from recsys.system.memory import peak_rss_gib
from recsys.system.progress import console

FILE_ROWS = 100_000
N_FILES = 10
"""Number of distinct generated files; larger data sets repeat them under other file names."""
ROUNDS = 2


@dataclass(frozen=True)
class Figures:
    """Measurements at one number of rows."""

    rows: int
    floor_s: float
    prepare_s: float
    peak_gib: float


def measure(
    rows: Annotated[
        list[int] | None, typer.Option(help="Training rows, a multiple of 100,000; repeat the option for more sizes.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of the generated files and the prepared data sets.")] = Path(
        "data/benchmark-prepare"
    ),
    fuxictr: Annotated[
        Path | None, typer.Option(help="Python executable of an environment with FuxiCTR, to measure it too.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Keep the largest prepared data set.")] = False,
) -> None:
    """Measure the time and memory of prepare.

    The lower bound is pyarrow reading all columns of the same files, in batches
    of the same size, multi-threaded.
    """
    sizes = sorted(rows or [100_000, 300_000, 1_000_000])
    if any(size % FILE_ROWS for size in sizes):
        raise InputError(f"--rows must be multiples of {FILE_ROWS:,}, got {sizes}")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores; untruncated seq, 531 tokens on average")
    measurements = []
    for size in sizes:
        folder = raw_files(data, size)
        floor = min(run("read_files", folder)[0] for _ in range(ROUNDS))
        out = data / f"prepared-{size}"
        results = []
        for _ in range(ROUNDS if size <= 1_000_000 else 1):
            shutil.rmtree(out, ignore_errors=True)
            results.append(run("prepare_files", folder, out))
        seconds, peak = min(results)
        measurements.append(Figures(size, floor, seconds, peak))
        console.print(f"{size:,} rows: read in {floor:.1f} s, prepared in {seconds:.1f} s, {peak:.2f} GiB")
        if not (keep and size == sizes[-1]):
            shutil.rmtree(out)
    console.print(table_of(measurements))
    plot(measurements, data / "prepare.png")
    if fuxictr is not None:
        console.print(compare_with_fuxictr(fuxictr, data, measurements[0]))


def raw_files(data: Path, rows: int) -> Path:
    """Creates a folder of parquet files with a total number of rows."""
    folder = data / f"raw-{rows}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(rows // FILE_ROWS):
        path = folder / f"{number:04d}.parquet"
        if not path.exists():
            config = GeneratorConfig(n_rows=FILE_ROWS, n_test_rows=1, seed=number % N_FILES)
            generated = generate(config, data / f"generated-{number % N_FILES}")
            os.link(generated / "train.parquet", path)
    return folder


def read_files(folder: Path) -> None:
    """Reads every value of all files."""
    for path in find_files([str(folder)], Path()):
        for _ in open_parquet(path).iter_batches(batch_size=READ_ROWS):
            pass


def prepare_files(folder: Path, out: Path) -> None:
    """Prepares all files with the Toss config."""
    prepare_raw(load_data_config(TOSS_CONFIG, []), train=[str(folder)], valid=[], test=[], out=out)


def run(function: str, *paths: Path) -> tuple[float, float]:
    """Runs one of the functions above in a new process; returns its seconds and its peak memory in GiB."""
    code = f"from benchmarks.prepare import timed; timed({function!r}, {[str(path) for path in paths]!r})"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise RuntimeError(f"{function} failed:\n{completed.stderr[-3000:]}")
    seconds, peak = json.loads(completed.stdout.strip().splitlines()[-1])
    return seconds, peak


def timed(function: str, paths: list[str]) -> None:
    """Runs one of the functions above; prints its seconds and its peak memory in GiB."""
    work = {"read_files": read_files, "prepare_files": prepare_files}[function]
    start = time.perf_counter()
    work(*[Path(path) for path in paths])  # type: ignore[operator]
    print(json.dumps([time.perf_counter() - start, peak_rss_gib()]))


def table_of(measurements: list[Figures]) -> Table:
    """Tabulates the measurements and their targets."""
    table = Table(title="prepare", title_justify="left")
    for column in ("rows", "read, s", "prepare, s", "prepare / read", "target", "rows/s", "memory, GiB", "target"):
        table.add_column(column, justify="right")
    for m in measurements:
        times = (f"{m.floor_s:.1f}", f"{m.prepare_s:.1f}", f"{m.prepare_s / m.floor_s:.2f}", "3 or less")
        table.add_row(f"{m.rows:,}", *times, f"{m.rows / m.prepare_s:,.0f}", f"{m.peak_gib:.2f}", "under 3")
    return table


def plot(measurements: list[Figures], path: Path) -> None:
    """Plots seconds against rows."""
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    rows = [m.rows for m in measurements]
    axes.plot(rows, [m.prepare_s for m in measurements], "o-", label="prepare")
    axes.plot(rows, [m.floor_s for m in measurements], "o-", label="pyarrow reads the files")
    axes.set(xlabel="rows", ylabel="seconds", xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    console.print(f"plot: {path}")


def compare_with_fuxictr(python: Path, data: Path, ours: Figures) -> Table:
    """Runs FuxiCTR's feature processor on the same columns of the smallest data set."""
    work = data / "fuxictr"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    schema = load_data_config(TOSS_CONFIG, []).schema_
    (raw, *_) = find_files([str(data / f"raw-{ours.rows}")], Path())
    config = fuxictr_config(schema, open_parquet(raw).schema_arrow.names)
    (work / "config.json").write_text(json.dumps(config))
    folder = (data / f"raw-{ours.rows}").resolve()
    completed = subprocess.run(
        [str(python), "-c", SCRIPT, str(folder), str(work.resolve())], capture_output=True, text=True, check=False
    )
    if completed.returncode != 0:
        raise InputError(f"FuxiCTR failed with --fuxictr {python}: {completed.stderr.strip().splitlines()[-1]}")
    seconds, peak = json.loads(completed.stdout.strip().splitlines()[-1])
    table = Table(title=f"{ours.rows:,} rows, the same columns", title_justify="left")
    for column in ("", "seconds", "rows/s", "memory, GiB", "speedup of ours", "target"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("ours", f"{ours.prepare_s:.1f}", f"{ours.rows / ours.prepare_s:,.0f}", f"{ours.peak_gib:.2f}", "", "")
    ratio = f"{seconds / ours.prepare_s:.1f}"
    table.add_row("FuxiCTR", f"{seconds:.1f}", f"{ours.rows / seconds:,.0f}", f"{peak:.2f}", ratio, "3 or more")
    return table


if __name__ == "__main__":
    assert importlib.util.find_spec("benchmarks") is not None, "run this command in the project folder"
    run_pipeline(measure)
