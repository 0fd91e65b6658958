"""Prepare's speed beside merely reading the same files, its growth with the rows, and its memory.

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
from recsys.raw.files import READ_ROWS, find_files, open_parquet
from recsys.synthetic import GeneratorConfig, generate
from recsys.system.memory import peak_rss_gib
from recsys.system.progress import console

FILE_ROWS = 100_000
N_FILES = 10
"""Of different rows; of more rows than these hold, the files are read again under other names."""
ROUNDS = 2


@dataclass(frozen=True)
class Figures:
    """Of one number of rows."""

    rows: int
    floor_s: float
    prepare_s: float
    peak_gib: float


def measure(
    rows: Annotated[
        list[int] | None, typer.Option(help="Training rows, in hundred thousands; may be given several times.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the generated files go, and what is prepared.")] = Path(
        "data/benchmark-prepare"
    ),
    fuxictr: Annotated[
        Path | None, typer.Option(help="The Python of an environment that has FuxiCTR, to measure beside.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Leave the largest prepared data set.")] = False,
) -> None:
    """Measure preparation.

    The floor is pyarrow reading all columns of the same files, in batches of the same size and with its own threads.
    """
    sizes = sorted(rows or [100_000, 300_000, 1_000_000])
    if any(size % FILE_ROWS for size in sizes):
        raise InputError(f"--rows {sizes}: take multiples of {FILE_ROWS:,}")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores; seq of full length, 531 tokens on average")
    found = []
    for size in sizes:
        folder = raw_files(data, size)
        floor = min(run("read_files", folder)[0] for _ in range(ROUNDS))
        out = data / f"prepared-{size}"
        results = []
        for _ in range(ROUNDS if size <= 1_000_000 else 1):
            shutil.rmtree(out, ignore_errors=True)
            results.append(run("prepare_files", folder, out))
        seconds, peak = min(results)
        found.append(Figures(size, floor, seconds, peak))
        console.print(f"{size:,} rows: read in {floor:.1f} s, prepared in {seconds:.1f} s, {peak:.2f} GiB")
        if not (keep and size == sizes[-1]):
            shutil.rmtree(out)
    console.print(table_of(found))
    plot(found, data / "prepare.png")
    if fuxictr is not None:
        console.print(beside_fuxictr(fuxictr, data, found[0]))


def raw_files(data: Path, rows: int) -> Path:
    """A folder of parquet files with so many rows."""
    folder = data / f"raw-{rows}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(rows // FILE_ROWS):
        path = folder / f"{number:04d}.parquet"
        if not path.exists():
            config = GeneratorConfig(n_rows=FILE_ROWS, n_test_rows=1, seed=number % N_FILES)
            made = generate(config, data / f"generated-{number % N_FILES}")
            os.link(made / "train.parquet", path)
    return folder


def read_files(folder: Path) -> None:
    """Reads every value of all files."""
    for path in find_files([str(folder)], Path()):
        for _ in open_parquet(path).iter_batches(batch_size=READ_ROWS):
            pass


def prepare_files(folder: Path, out: Path) -> None:
    """Prepares all files by the Toss config."""
    prepare_raw(load_data_config(TOSS_CONFIG, []), train=[str(folder)], valid=[], test=[], out=out)


def run(function: str, *paths: Path) -> tuple[float, float]:
    """Seconds that one of the functions above takes in a process of its own, and the memory it had at most, in GiB."""
    code = f"from benchmarks.prepare import timed; timed({function!r}, {[str(path) for path in paths]!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{function} failed:\n{done.stderr[-3000:]}")
    seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, peak


def timed(function: str, paths: list[str]) -> None:
    """Runs one of the functions above and prints its seconds and memory."""
    work = {"read_files": read_files, "prepare_files": prepare_files}[function]
    start = time.perf_counter()
    work(*[Path(path) for path in paths])  # type: ignore[operator]
    print(json.dumps([time.perf_counter() - start, peak_rss_gib()]))


def table_of(found: list[Figures]) -> Table:
    """The figures and what they are to be."""
    table = Table(title="prepare", title_justify="left")
    for column in ("rows", "read, s", "prepare, s", "prepare / read", "wanted", "rows/s", "memory, GiB", "wanted"):
        table.add_column(column, justify="right")
    for f in found:
        figures = (f"{f.floor_s:.1f}", f"{f.prepare_s:.1f}", f"{f.prepare_s / f.floor_s:.2f}", "3 or less")
        table.add_row(f"{f.rows:,}", *figures, f"{f.rows / f.prepare_s:,.0f}", f"{f.peak_gib:.2f}", "under 3")
    return table


def plot(found: list[Figures], path: Path) -> None:
    """Seconds against rows."""
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    rows = [f.rows for f in found]
    axes.plot(rows, [f.prepare_s for f in found], "o-", label="prepare")
    axes.plot(rows, [f.floor_s for f in found], "o-", label="pyarrow reads the files")
    axes.set(xlabel="rows", ylabel="seconds", xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    console.print(f"plot: {path}")


def beside_fuxictr(python: Path, data: Path, ours: Figures) -> Table:
    """FuxiCTR's feature processor on the same columns of the fewest rows."""
    work = data / "fuxictr"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    schema = load_data_config(TOSS_CONFIG, []).schema_
    (raw, *_) = find_files([str(data / f"raw-{ours.rows}")], Path())
    config = fuxictr_config(schema, open_parquet(raw).schema_arrow.names)
    (work / "config.json").write_text(json.dumps(config))
    folder = (data / f"raw-{ours.rows}").resolve()
    done = subprocess.run(
        [str(python), "-c", SCRIPT, str(folder), str(work.resolve())], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InputError(f"FuxiCTR did not run by {python}: {done.stderr.strip().splitlines()[-1]}")
    seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
    table = Table(title=f"{ours.rows:,} rows, the same columns", title_justify="left")
    for column in ("", "seconds", "rows/s", "memory, GiB", "ours / it", "wanted"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("ours", f"{ours.prepare_s:.1f}", f"{ours.rows / ours.prepare_s:,.0f}", f"{ours.peak_gib:.2f}", "", "")
    ratio = f"{seconds / ours.prepare_s:.1f}"
    table.add_row("FuxiCTR", f"{seconds:.1f}", f"{ours.rows / seconds:,.0f}", f"{peak:.2f}", ratio, "3 or more")
    return table


if __name__ == "__main__":
    assert importlib.util.find_spec("benchmarks") is not None, "start it in the project's folder"
    run_pipeline(measure)
