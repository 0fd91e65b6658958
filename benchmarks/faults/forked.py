"""Runs pipelines as processes that can be disturbed; a fork server with their imports makes them start at once."""

import faulthandler
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.faults import result
from benchmarks.faults.result import ProcessResult
from pipelines.common.interrupt import exit_on_interrupt

PIPELINES = Path(__file__).parents[2] / "pipelines"


def run(
    name: str, arguments: Sequence[str | Path], on_start: Callable[[BaseProcess], object] | None = None
) -> ProcessResult:
    """Runs `python -m pipelines.NAME` to its end; the time excludes its imports.

    Args:
        name: name of the pipeline.
        arguments: command-line arguments.
        on_start: called with the process as soon as it runs.
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
        assert process.pid is not None
        ready.wait(result.TIMEOUT_S)
        start = time.perf_counter()
        if on_start is not None:
            on_start(process)

        def has_ended(timeout_s: float) -> bool:
            process.join(timeout_s)
            return process.exitcode is not None

        if not (in_time := has_ended(result.TIMEOUT_S)):
            result.stop(process.pid, has_ended)
        assert process.exitcode is not None
        return ProcessResult(process.exitcode, stderr.read(), time.perf_counter() - start, in_time)


def _pipeline(name: str, arguments: list[str], folder: str, stderr: str, ready: Event) -> None:
    for path, descriptor in ((os.devnull, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    faulthandler.enable()
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not inherited: & in a script ignores it
    exit_on_interrupt()
    ready.set()
    script = PIPELINES / f"{name}.py"
    script = script if script.exists() else PIPELINES / name / "__main__.py"
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
