"""Ctrl-C at chosen moments of small commands: exit code 130 and one line, whatever the process waits for."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.common.interrupt import MESSAGE, is_first_message, raised_interrupts

HEAD = """
import atexit, ctypes, os, signal, sys, threading
from pipelines.common import interrupt
interrupt.exit_on_interrupt()
from pipelines.common.cli import run_pipeline
from recsys.errors import InputError
from recsys.system.threads import in_background, in_threads

def interrupt_self():
    os.kill(os.getpid(), signal.SIGINT)

def wait_forever(text):
    print(text, flush=True)
    lock = threading.Lock()
    with lock:
        lock.acquire()

def wait_in_c(text):
    print(text, flush=True)
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)  # zeros: PTHREAD_MUTEX_INITIALIZER
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
"""
TIMEOUT_S = 120


@contextmanager
def command(
    body: str, grace_s: float = 1000, stdout: int = subprocess.PIPE, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Starts a process with a command of these lines."""
    lines = [HEAD, f"interrupt.GRACE_S = {grace_s}", "def command():"]
    lines += [f"    {line}" for line in body.strip().splitlines()]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join([*lines, "run_pipeline(command)"])],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "PYTHONUNBUFFERED": ""} | environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def result(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a process that must end by itself."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def interrupt_at(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"
    process.send_signal(signal.SIGINT)


WAIT_IN_THREADS = "for _ in in_threads(wait_forever, ['waits']): pass"
WAIT_IN_BACKGROUND = """
with in_background(wait_forever) as call:
    call("waits")
"""
LOSE_INTERRUPT = """
try:
    wait_forever("waits")
except KeyboardInterrupt:
    threading.Thread(target=wait_forever, args=("goes on",)).start()
"""


@pytest.mark.parametrize(
    "body",
    [WAIT_IN_THREADS, WAIT_IN_BACKGROUND, "wait_in_c('waits')", LOSE_INTERRUPT],
    ids=["in_threads", "in_background", "C code", "interrupt is lost"],
)
def test_a_wait_that_never_ends(body: str) -> None:
    with command(body, grace_s=0.2) as process:
        interrupt_at(process, "waits")
        code, _, err = result(process)
    assert (code, err) == (130, f"{MESSAGE}\n")


def test_the_deadline_shows_the_stacks_if_faulthandler_is_enabled() -> None:
    with command(WAIT_IN_THREADS, grace_s=0.2, PYTHONFAULTHANDLER="1") as process:
        interrupt_at(process, "waits")
        code, _, err = result(process)
    assert code == 130
    assert "in wait_forever" in err
    assert err.count(MESSAGE) == 1


@pytest.mark.parametrize("wait", ["wait_forever('cleans up')", "wait_in_c('cleans up')"])
def test_second_interrupt_exits_at_once(wait: str) -> None:
    with command(f"try: wait_forever('waits')\nfinally: {wait}") as process:
        interrupt_at(process, "waits")
        interrupt_at(process, "cleans up")
        assert result(process) == (130, "", f"{MESSAGE}\n")


def test_interrupt_in_a_destructor() -> None:
    body = """
class Closes:
    def __del__(self):
        interrupt_self()
print("begins")
Closes()
wait_forever("goes on")
"""
    with command(body) as process:
        assert result(process) == (130, "begins\n", f"{MESSAGE}\n")


AT_EXIT = "atexit.register(interrupt_self)\nprint('done')\n"


@pytest.mark.parametrize(
    ("end", "err"),
    [
        ("", f"{MESSAGE}\n"),
        ("raise InputError('no rows')", f"error: no rows\n{MESSAGE}\n"),
        ("interrupt_self()", f"{MESSAGE}\n"),
    ],
)
def test_interrupt_after_the_command(end: str, err: str) -> None:
    with command(AT_EXIT + end) as process:
        assert result(process) == (130, "done\n", err)


def test_interrupt_between_the_command_and_the_end_of_python() -> None:
    body = """
exit_with = sys.exit
def interrupted_exit(code):
    interrupt_self()
    exit_with(code)
sys.exit = interrupted_exit
print("done")
"""
    with command(body) as process:
        assert result(process) == (130, "done\n", f"{MESSAGE}\n")


def test_interrupt_while_python_waits_for_threads_at_its_end() -> None:
    body = """
def outlive():
    threading.main_thread().join()  # until Python's shutdown
    wait_forever("waits")
threading.Thread(target=outlive).start()
"""
    with command(body) as process:
        interrupt_at(process, "waits")
        assert result(process) == (130, "", f"{MESSAGE}\n")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "on_exit"), reason="the C library has no on_exit")
def test_interrupt_after_the_end_of_python_keeps_the_exit_code() -> None:
    # on_exit calls raise(exit code), and 2 is both the exit code of bad input and SIGINT
    assert signal.SIGINT == 2
    body = "libc = ctypes.CDLL(None)\nlibc.on_exit(libc['raise'], None)\nraise InputError('no rows')"
    with command(body) as process:
        assert result(process) == (2, "", "error: no rows\n")


def test_an_exit_shows_the_cursor_that_a_progress_line_hides() -> None:
    terminal, terminal_of_process = os.openpty()
    with command(AT_EXIT, stdout=terminal_of_process) as process:
        process.wait(TIMEOUT_S)
        assert os.read(terminal, 100) == b"done\r\n\x1b[?25h"
    os.close(terminal)
    os.close(terminal_of_process)


def test_ignored_interrupts_stay_ignored() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as & does in a script; the process inherits it
    try:
        with command("interrupt_self()\nprint('done')") as process:
            assert result(process) == (0, "done\n", "")
    finally:
        signal.signal(signal.SIGINT, handler)


def test_a_command_in_a_longer_process_restores_its_handler() -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), raised_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1  # no deadline
        assert is_first_message()
        assert not is_first_message()
