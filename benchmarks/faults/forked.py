"""Runs pipelines as processes that can be disturbed; a fork server with their imports makes them start at once."""

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from pipelines.common.interrupt import exit_on_interrupt

PIPELINES = Path(__file__).parents[2] / "pipelines"
TIMEOUT_S = 300


@dataclass(frozen=True)
class ProcessResult:
    """Result of a process."""

    code: int
    """The exit code; minus the signal number for a process that a signal ended."""
    stderr: str
    seconds: float

    @property
    def last_line(self) -> str:
        """The last line on stderr; "-" if empty."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else "-"

    @property
    def has_traceback(self) -> bool:
        """Whether stderr has a traceback, which is a bug of a pipeline."""
        return "Traceback" in self.stderr


def run(
    name: str, arguments: Sequence[str | Path], on_start: Callable[[BaseProcess], object] | None = None
) -> ProcessResult:
    """Runs `python -m pipelines.NAME` to its end; the time excludes its imports.

    Args:
        name: name of the pipeline.
        arguments: command-line arguments.
        on_start: called with the process as soon as it runs.

    Raises:
        TimeoutError: if the process does not end in time.
    """
    context = multiprocessing.get_context("forkserver")
    names = [path.stem for path in PIPELINES.glob("[!_]*.py")]
    context.set_forkserver_preload([*(f"pipelines.{name}" for name in names), "pipelines.plan.command"])
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as stderr:
        ready = context.Event()
        process = context.Process(
            target=_pipeline, args=(name, list(map(str, arguments)), os.getcwd(), stderr.name, ready)
        )
        process.start()
        ready.wait(TIMEOUT_S)
        start = time.perf_counter()
        if on_start is not None:
            on_start(process)
        process.join(TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{name} {' '.join(map(str, arguments))} did not end within {TIMEOUT_S} s")
        return ProcessResult(process.exitcode, stderr.read(), time.perf_counter() - start)


def _pipeline(name: str, arguments: list[str], folder: str, stderr: str, ready: Event) -> None:
    for path, descriptor in ((os.devnull, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(folder)
    exit_on_interrupt()
    ready.set()
    script = PIPELINES / f"{name}.py"
    script = script if script.exists() else PIPELINES / name / "__main__.py"
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
