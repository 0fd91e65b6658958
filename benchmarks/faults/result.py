"""The result of a process, and the end of a process that does not end by itself."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from recsys.system.progress import console

TIMEOUT_S = 300
_STACKS_TIMEOUT_S = 10


@dataclass(frozen=True)
class ProcessResult:
    """Result of a process."""

    code: int
    """The exit code; minus the signal number for a process that a signal ended."""
    stderr: str
    seconds: float
    has_ended: bool = True
    """False if it had to be stopped after the time limit; stderr then has the stacks of its threads."""

    @property
    def last_line(self) -> str:
        """The last line on stderr; "-" if empty."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else "-"

    @property
    def outcome(self) -> str:
        """How it ended, as text."""
        return f"exit code {self.code}: {self.last_line}" if self.has_ended else f"did not end within {TIMEOUT_S} s"

    @property
    def has_traceback(self) -> bool:
        """Whether stderr has a traceback, which is a bug of a pipeline."""
        return "Traceback" in self.stderr

    @property
    def has_stacks(self) -> bool:
        """Whether stderr has stacks of faulthandler: it did not end, or only at the deadline after an interrupt."""
        return "(most recent call first)" in self.stderr


def stop(pid: int, has_ended: Callable[[float], bool]) -> None:
    """Ends a process whose faulthandler is enabled, so that it first writes the stacks of its threads to stderr.

    Args:
        pid: its process id.
        has_ended: waits for some seconds; whether the process has ended by then.
    """
    console.print(f"process {pid} did not end within {TIMEOUT_S} s")
    os.kill(pid, signal.SIGABRT)
    if not has_ended(_STACKS_TIMEOUT_S):
        os.kill(pid, signal.SIGKILL)
        has_ended(_STACKS_TIMEOUT_S)
