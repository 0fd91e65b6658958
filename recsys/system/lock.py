"""One process at a time writes a folder or file: filelock, whose lock ends with the process that holds it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from recsys.errors import InputError

LOCK_FILE = ".lock"
_locks: dict[Path, tuple[FileLock, str]] = {}
"""Locks of this process by file, with the text it wrote there."""


def lock_of(path: Path) -> Path:
    """The lock's file: in a folder, or beside a file."""
    return path / LOCK_FILE if path.is_dir() else path.with_name(path.name + LOCK_FILE)


def hold(output: Path) -> None:
    """Locks a folder or file until this process ends or calls `release`; a second call changes nothing.

    Raises:
        InputError: when another process holds it.
    """
    path = lock_of(output).absolute()
    if path in _locks and _text(path) == _locks[path][1]:
        return
    _forget(path)  # its file was removed with its folder
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        holder = _text(path) or "another process"
        raise InputError(f"{output} is being written by {holder}: wait for it, or choose another --out") from error
    holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    path.write_text(holder)
    _locks[path] = lock, holder


@contextmanager
def held(output: Path) -> Iterator[None]:
    """`hold` while the block runs."""
    hold(output)
    try:
        yield
    finally:
        release(output)


def release(output: Path) -> None:
    """Removes the lock's file and unlocks; a lock that this process does not hold stays."""
    path = lock_of(output).absolute()
    if path in _locks:
        if _text(path) == _locks[path][1]:
            path.unlink()
        _forget(path)


def _forget(path: Path) -> None:
    if path in _locks:
        _locks.pop(path)[0].release()


def _text(path: Path) -> str:
    return path.read_text(errors="replace").strip() if path.is_file() else ""
