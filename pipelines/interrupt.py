"""Ctrl-C ends a pipeline in one line and exit code 130, from its first import on."""

import os
import signal

EXIT_INTERRUPTED = 130
MESSAGE = "interrupted: give the same command again; what is unfinished has no final name"


def end_at_once() -> None:
    """For as long as modules are imported: nothing is written yet, and an exception might stop in any of them."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as under nohup
        signal.signal(signal.SIGINT, _end)


def raise_from_here() -> None:
    """KeyboardInterrupt again, for a pipeline to leave its locks and files in order."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_INTERRUPTED)
