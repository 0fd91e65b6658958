"""Ctrl-C ends a pipeline with one line and exit code 130, from its first import to its last moments."""

import atexit
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

EXIT_INTERRUPTED = 130
MESSAGE = "interrupted: run the same command again to resume; unfinished output has a temporary name"
GRACE_S = 10.0
"""Time in which an interrupted command must end: locks of Python's own pools and queues may be left locked."""
_POLL_S = 0.1
_HAS_SIGURG = hasattr(signal, "SIGURG")  # not on Windows
_SHOW_CURSOR = b"\x1b[?25h"
_interrupts: list[int] = []
_message_written = threading.Lock()
"""Locked once the message is written, by whichever thread is first."""


def exit_on_interrupt() -> None:
    """Makes Ctrl-C exit immediately, before and after the command of a process that runs one pipeline.

    While modules are imported, nothing is written yet, and some modules catch an exception raised during their import.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if ignored, as by & in a script
        signal.signal(signal.SIGINT, _exit_now)
        # registered first, so called last: then Python removes its handlers, and SIGINT would give another exit code
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def raised_interrupts() -> Iterator[None]:
    """Makes Ctrl-C raise KeyboardInterrupt in the block, so that a pipeline can release its locks and files.

    A second Ctrl-C exits immediately. In a process of `exit_on_interrupt`, an interrupt also exits if it is lost or if
    the process does not end within the grace.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler not in (signal.default_int_handler, _exit_now):
        yield
        return
    _interrupts.clear()
    if _message_written.locked():  # by an earlier command of this process
        _message_written.release()
    if handler is _exit_now:
        _watch_interrupts()
    try:
        signal.signal(signal.SIGINT, _raise)
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C caused an error: torch's checkpoints catch a KeyboardInterrupt and raise another error."""
    return isinstance(error, KeyboardInterrupt) or bool(_interrupts)


def is_first_message() -> bool:
    """Whether the message has not been written; the caller then writes it."""
    return _message_written.acquire(blocking=False)


def _raise(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    if len(_interrupts) > 1:
        _exit_now()
    raise KeyboardInterrupt


def _exit_now(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        # the stream is missing, closed, not writable, or in use by the code that is interrupted
        with contextlib.suppress(AttributeError, ValueError, OSError, RuntimeError):
            stream.flush()
    _exit_unflushed()


def _exit_unflushed() -> None:
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, _SHOW_CURSOR)  # a progress line hides it
        if is_first_message():
            os.write(2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_INTERRUPTED)


def _watch_interrupts() -> None:
    """Starts a thread that ends an interrupted process which its main thread does not end.

    The main thread may wait for a lock that the interrupt left locked, may have lost the interrupt, and cannot call
    Python's handler while it waits in C++ code. The thread learns of the signal from the handler in C.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    if _HAS_SIGURG:
        signal.signal(signal.SIGURG, _do_nothing)
    threading.Thread(
        target=_exit_after_grace, args=(reader, threading.get_ident()), name="interrupts", daemon=True
    ).start()
    sys.unraisablehook = _exit_if_lost


def _exit_after_grace(signals: socket.socket, main_thread: int) -> None:
    _receive_interrupt(signals)
    deadline = time.monotonic() + GRACE_S
    signals.settimeout(_POLL_S)
    while not (is_second := _receive_interrupt(signals)) and time.monotonic() < deadline:
        if not _interrupts and _HAS_SIGURG:
            # Python begins a wait without calling the handler of a signal that came while it waited for the GIL
            signal.pthread_kill(main_thread, signal.SIGURG)
    if is_second:
        time.sleep(_POLL_S)  # the main thread exits itself unless it waits in C++ code
    elif faulthandler.is_enabled():  # as by PYTHONFAULTHANDLER=1
        faulthandler.dump_traceback()
    _exit_unflushed()


def _receive_interrupt(signals: socket.socket) -> bool:
    """Whether SIGINT came before the timeout of the socket."""
    with contextlib.suppress(TimeoutError):
        while signals.recv(1)[0] != signal.SIGINT:
            pass
        return True
    return False


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _exit_if_lost(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python prints and then ignores an interrupt that is raised in `__del__` or in a callback."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _exit_now()
    sys.__unraisablehook__(unraisable)
