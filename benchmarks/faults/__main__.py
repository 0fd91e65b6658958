"""Injects real faults into each pipeline: its message, the state of its output, and the result of a second attempt.

python -m benchmarks.faults
python -m benchmarks.faults --kills 1
"""

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.faults.disturbed import COMMANDS, ENSEMBLE, RANK, RETRIEVAL, Row
from benchmarks.faults.forked import ProcessResult, run
from benchmarks.faults.kinds import (
    flipped,
    flipped_checkpoint,
    full_disk,
    interrupted_after,
    other_schema,
    other_version,
    read_only,
    signals_at_random,
    two_processes,
    while_importing,
)
from pipelines.common.cli import run_pipeline
from recsys.system.progress import console


def faults(
    kills: Annotated[int, typer.Option(min=1, help="Kills of each pipeline, at random moments.")] = 20,
    rows: Annotated[int, typer.Option(min=1000, help="Rows to generate.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the moments.")] = 0,
    keep: Annotated[bool, typer.Option(help="Keep the working folder.")] = False,
) -> None:
    """Inject faults and print their results; exit code 1 if a result is unexpected."""
    start = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    initial_folder = Path.cwd()
    results = []
    try:
        os.chdir(folder)
        for row in inject_fault(rows, kills, seed):
            result = "as expected" if row.is_fine else "UNEXPECTED"
            console.print(f"{time.perf_counter() - start:4.0f} s  {result:12}  {row.fault}")
            results.append(row)
    finally:
        os.chdir(initial_folder)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    table = Table(title="faults", title_justify="left", show_lines=True)
    for column in ("fault", "message", "state of the output", "second attempt"):
        table.add_column(column, overflow="fold")
    for row in results:
        table.add_row(row.fault, row.message, row.state, row.second_result, style=None if row.is_fine else "red")
    console.print(table)
    n_unexpected = sum(not row.is_fine for row in results)
    seconds = time.perf_counter() - start
    console.print(f"{len(results)} faults, {n_unexpected} with an unexpected result; {seconds:.0f} s")
    if n_unexpected:
        raise typer.Exit(1)


def inject_fault(rows: int, kills: int, seed: int) -> Iterator[Row]:
    """Injects every fault in turn, in the working folder."""
    rng = random.Random(seed)
    _checked(run("generate", ["--rows", str(rows), "--out", "raw"]))
    seconds = {}
    for command in COMMANDS:
        seconds[command] = _checked(command.run(command.out("whole"))).seconds
        if command is RANK:
            _checked(command.run(Path("other"), "model.embedding_dim=4"))
    for command in COMMANDS:
        yield signals_at_random(command, signal.SIGKILL, [rng.uniform(0, seconds[command]) for _ in range(kills)])
    for command in COMMANDS:
        n_interrupts = max(1, kills // 4)
        yield signals_at_random(command, signal.SIGINT, [rng.uniform(0, seconds[command]) for _ in range(n_interrupts)])
    import_s = _checked(interrupted_after(60, ["prepare", "--help"])).seconds
    for command in COMMANDS:
        # Python's own start takes the first 0.1 s, before any code of ours can handle the signal
        yield while_importing(command, rng.uniform(0.2, 0.7 * import_s))
    for command in COMMANDS:
        yield full_disk(command)
    for command in (RANK, RETRIEVAL, ENSEMBLE):
        yield read_only(command)
    for command in COMMANDS:
        yield two_processes(command)
    yield from flipped()
    yield flipped_checkpoint()
    for command in (RANK, RETRIEVAL):
        yield other_schema(command)
        yield other_version(command)


def _checked(undisturbed: ProcessResult) -> ProcessResult:
    if undisturbed.code != 0:
        raise RuntimeError(f"an undisturbed run failed: {undisturbed.last_line}")
    return undisturbed


if __name__ == "__main__":
    run_pipeline(faults)
