"""Ctrl-C ends a pipeline with one line and exit code 130, from its first import on."""

import os
import signal
from collections.abc import Callable
from types import FrameType

EXIT_INTERRUPTED = 130
MESSAGE = "interrupted: run the same command again to resume; unfinished output has a temporary name"
_interrupts: list[int] = []


def exit_on_interrupt() -> None:
    """Makes Ctrl-C exit immediately, for use while modules are imported.

    Nothing is written yet, and some modules catch an exception raised during their import.
    """
    _replace_handler(signal.default_int_handler, _exit_now)


def raise_on_interrupt() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt again, so that a pipeline can release its locks and files."""
    _interrupts.clear()
    _replace_handler(signal.default_int_handler, _raise)
    _replace_handler(_exit_now, _raise)


def is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C caused an error: torch's checkpoints catch a KeyboardInterrupt and raise another error."""
    return isinstance(error, KeyboardInterrupt) or bool(_interrupts)


def _replace_handler(old: object, new: Callable[[int, FrameType | None], None]) -> None:
    if signal.getsignal(signal.SIGINT) is old:  # false for both handlers if SIGINT is ignored, as under nohup
        signal.signal(signal.SIGINT, new)


def _exit_now(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt
