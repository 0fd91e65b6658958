"""Runs pipelines as a user does, so that their imports and the end of Python can be disturbed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults import result
from benchmarks.faults.result import ProcessResult

ROOT = Path(__file__).parents[2]


def run_as_user(arguments: list[str], on_start: Callable[[subprocess.Popen[str]], object]) -> ProcessResult:
    """Runs `python -m pipelines.NAME` to its end.

    Args:
        arguments: name of the pipeline, and its command-line arguments.
        on_start: called with the process at once, before Python has started.
    """
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", f"pipelines.{arguments[0]}", *arguments[1:]],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"},
            preexec_fn=_allow_interrupts,
        ) as process,
    ):
        on_start(process)

        def has_ended(timeout_s: float) -> bool:
            return is_ended_within(process, timeout_s)

        if not (in_time := has_ended(result.TIMEOUT_S)):
            result.stop(process.pid, has_ended)
        stderr.seek(0)
        return ProcessResult(process.returncode, stderr.read(), time.perf_counter() - start, in_time)


def is_ended_within(process: subprocess.Popen[str], timeout_s: float) -> bool:
    """Waits for a process; whether it has ended by then."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _allow_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # not inherited: & in a script ignores it
