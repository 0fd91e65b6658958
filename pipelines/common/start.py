"""What a command does first, before torchrec is imported: interrupts, threads and a check of versions."""

from collections.abc import Sequence

from pipelines.common.interrupt import exit_on_interrupt
from recsys.system.threads import wait_passively
from recsys.system.versions import exit_on_mismatch

WITHOUT_TORCH = ("pipelines.convert", "pipelines.generate", "pipelines.serve")
"""The commands that import no torch."""


def begin(module: str) -> None:
    """Makes Ctrl-C end this process with one line, sets how threads wait, and exits if the versions of torch and
    TorchRec do not match.

    Args:
        module: the module of the command that this process runs.
    """
    exit_on_interrupt()
    wait_passively()
    if module not in WITHOUT_TORCH:
        exit_on_mismatch()


def module_of(command_line: Sequence[str]) -> str:
    """The module of `python [options] -m MODULE ...`; empty for another command line."""
    for index, argument in enumerate(command_line):
        if argument.startswith("-m") and not argument.startswith("--"):
            return argument[2:] or next(iter(command_line[index + 1 :]), "")
    return ""
