"""Ctrl-C ends a pipeline in one line and exit code 130, from its first import on."""

import os
import signal
from collections.abc import Callable
from types import FrameType

EXIT_INTERRUPTED = 130
MESSAGE = "interrupted: give the same command again; what is unfinished has no final name"
_pressed: list[int] = []


def end_at_once() -> None:
    """For as long as modules are imported: nothing is written yet, and an exception might stop in any of them."""
    _replace(signal.default_int_handler, _end)


def raise_from_here() -> None:
    """KeyboardInterrupt again, for a pipeline to leave its locks and files in order."""
    _pressed.clear()
    _replace(signal.default_int_handler, _raise)
    _replace(_end, _raise)


def is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: torch's checkpoints catch a KeyboardInterrupt and raise another error."""
    return isinstance(error, KeyboardInterrupt) or bool(_pressed)


def _replace(old: object, new: Callable[[int, FrameType | None], None]) -> None:
    if signal.getsignal(signal.SIGINT) is old:  # neither where it is ignored, as under nohup
        signal.signal(signal.SIGINT, new)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    _pressed.append(number)
    raise KeyboardInterrupt
