"""Injects real faults into each pipeline: its message, the state of its output, and the result of a second attempt.

python -m benchmarks.faults
python -m benchmarks.faults --kills 1 --interrupts 1
python -m benchmarks.faults --kills 0 --interrupts 250 --only prepare --only rank
"""

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.faults.disturbed import COMMANDS, ENSEMBLE, RANK, RETRIEVAL, Command, Row
from benchmarks.faults.forked import run
from benchmarks.faults.kinds import (
    flipped,
    flipped_checkpoint,
    full_disk,
    other_schema,
    other_version,
    read_only,
    two_processes,
)
from benchmarks.faults.result import ProcessResult
from benchmarks.faults.signals import signals_at_random, while_ending, while_importing
from benchmarks.faults.started import run_as_user
from pipelines.common.cli import run_pipeline
from recsys.errors import InputError
from recsys.system.progress import console

END_S = 0.5
"""About the time from the last file of a pipeline to the end of its process."""


def faults(
    kills: Annotated[int, typer.Option(min=0, help="Kills of each pipeline, at random moments.")] = 20,
    interrupts: Annotated[int, typer.Option(min=0, help="Interrupts of each pipeline, at random moments.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Only the faults of this pipeline; repeatable.")] = None,
    rows: Annotated[int, typer.Option(min=1000, help="Rows to generate.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the moments.")] = 0,
    keep: Annotated[bool, typer.Option(help="Keep the working folder.")] = False,
) -> None:
    """Inject faults and print their results; exit code 1 if a result is unexpected."""
    commands = _commands(only or [command.name for command in COMMANDS])
    start = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    initial_folder = Path.cwd()
    results = []
    try:
        os.chdir(folder)
        for row in inject_fault(rows, kills, interrupts, seed, commands):
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


def inject_fault(
    rows: int, kills: int, interrupts: int, seed: int, commands: Sequence[Command] = COMMANDS
) -> Iterator[Row]:
    """Injects every fault of the commands in turn, in the working folder."""
    rng = random.Random(seed)
    _checked(run("generate", ["--rows", str(rows), "--out", "raw"]))
    seconds = {}
    for command in COMMANDS[: 1 + max(COMMANDS.index(command) for command in commands)]:
        seconds[command] = _checked(command.run(command.out("whole"))).seconds
        if command is RANK:
            _checked(command.run(Path("other"), "model.embedding_dim=4"))
    for sent, n_moments in ((signal.SIGKILL, kills), (signal.SIGINT, interrupts)):
        for command in commands if n_moments else ():
            yield signals_at_random(command, sent, [rng.uniform(0, seconds[command]) for _ in range(n_moments)])
    import_s = _checked(run_as_user(["prepare", "--help"], lambda process: None)).seconds
    for command in commands:
        # Python's own start takes the first 0.1 s, before any code of ours can handle the signal
        yield while_importing(command, rng.uniform(0.2, 0.7 * import_s))
        yield while_ending(command, rng.uniform(0, END_S))
    for command in commands:
        yield full_disk(command)
    for command in (RANK, RETRIEVAL, ENSEMBLE):
        if command in commands:
            yield read_only(command)
    for command in commands:
        yield two_processes(command)
    yield from flipped(commands)
    if RANK in commands:
        yield flipped_checkpoint()
    for command in (RANK, RETRIEVAL):
        if command in commands:
            yield other_schema(command)
            yield other_version(command)


def _commands(names: list[str]) -> list[Command]:
    known = {command.name: command for command in COMMANDS}
    if unknown := sorted(set(names) - known.keys()):
        raise InputError(f"--only must be one of {', '.join(known)}, got {', '.join(unknown)}")
    return [command for command in COMMANDS if command.name in names]


def _checked(undisturbed: ProcessResult) -> ProcessResult:
    if undisturbed.code != 0:
        raise RuntimeError(f"an undisturbed run failed: {undisturbed.outcome}")
    return undisturbed


if __name__ == "__main__":
    run_pipeline(faults)
