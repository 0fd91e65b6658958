"""Faults, brought about for real: what each pipeline says, what it leaves, and whether a second attempt succeeds.

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
from benchmarks.faults.forked import Ended, run
from benchmarks.faults.kinds import (
    at_random,
    flipped,
    flipped_checkpoint,
    full_disk,
    interrupted_after,
    other_schema,
    other_version,
    read_only,
    two_processes,
    while_importing,
)
from pipelines.common.cli import run_pipeline
from recsys.system.progress import console


def faults(
    kills: Annotated[int, typer.Option(min=1, help="Times that each pipeline is killed, at random moments.")] = 20,
    rows: Annotated[int, typer.Option(min=1000, help="Generated rows to work on.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the moments.")] = 0,
    keep: Annotated[bool, typer.Option(help="Leave the working folder.")] = False,
) -> None:
    """Bring faults about and print what came of them; exit code 1 when one did not end as it should."""
    start = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    here = Path.cwd()
    found = []
    try:
        os.chdir(folder)
        for row in bring_about(rows, kills, seed):
            console.print(
                f"{time.perf_counter() - start:4.0f} s  {'as it should' if row.is_fine else 'NOT':12}  {row.fault}"
            )
            found.append(row)
    finally:
        os.chdir(here)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    table = Table(title="faults", title_justify="left", show_lines=True)
    for column in ("fault", "what was said", "state left", "second attempt"):
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(row.fault, row.said, row.left, row.second, style=None if row.is_fine else "red")
    console.print(table)
    wrong = sum(not row.is_fine for row in found)
    console.print(f"{len(found)} faults, {wrong} that did not end as they should; {time.perf_counter() - start:.0f} s")
    if wrong:
        raise typer.Exit(1)


def bring_about(rows: int, kills: int, seed: int) -> Iterator[Row]:
    """Every fault in turn, in the working folder."""
    moments = random.Random(seed)
    _must(run("generate", ["--rows", str(rows), "--out", "raw"]))
    seconds = {}
    for command in COMMANDS:
        seconds[command] = _must(command.run(command.out("whole"))).seconds
        if command is RANK:
            _must(command.run(Path("other"), "model.embedding_dim=4"))
    for command in COMMANDS:
        yield at_random(command, signal.SIGKILL, [moments.uniform(0, seconds[command]) for _ in range(kills)])
    for command in COMMANDS:
        times = max(1, kills // 4)
        yield at_random(command, signal.SIGINT, [moments.uniform(0, seconds[command]) for _ in range(times)])
    imports = _must(interrupted_after(60, ["prepare", "--help"])).seconds
    for command in COMMANDS:
        # Python itself takes the first tenth of a second, in which nothing of ours can answer
        yield while_importing(command, moments.uniform(0.2, 0.7 * imports))
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


def _must(undisturbed: Ended) -> Ended:
    if undisturbed.code != 0:
        raise RuntimeError(f"an undisturbed run failed: {undisturbed.said}")
    return undisturbed


if __name__ == "__main__":
    run_pipeline(faults)
