"""Locks that let one process at a time write a folder or file (filelock: a lock ends with its process)."""

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
"""Locks of this process and the text it wrote, by lock file."""


def lock_of(path: Path) -> Path:
    """Returns the path of the lock file: inside a folder, next to a file."""
    return path / LOCK_FILE if path.is_dir() else path.with_name(path.name + LOCK_FILE)


def hold(output: Path) -> None:
    """Locks a folder or file until this process ends or calls `release`. A second call changes nothing.

    Raises:
        InputError: when another process holds the lock.
    """
    path = lock_of(output).absolute()
    if is_held(output):
        return
    _unlock(path)  # the lock file was removed with its folder
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        holder = _read_holder(path) or "another process"
        raise InputError(f"{output} is being written by {holder}: wait for it, or choose another --out") from error
    holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    try:
        path.write_text(holder, encoding="utf-8")
    except OSError:  # a full disk
        lock.release()
        raise
    _locks[path] = lock, holder


def is_held(output: Path) -> bool:
    """Whether this process holds the lock of a folder or file."""
    path = lock_of(output).absolute()
    return path in _locks and _read_holder(path) == _locks[path][1]


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Holds the lock while the block runs."""
    hold(output)
    try:
        yield
    finally:
        release(output)


def release(output: Path) -> None:
    """Removes the lock file and unlocks. A lock of another process is unchanged."""
    path = lock_of(output).absolute()
    if path in _locks:
        if _read_holder(path) == _locks[path][1]:
            path.unlink()
        _unlock(path)


def _unlock(path: Path) -> None:
    if path in _locks:
        _locks.pop(path)[0].release()


def _read_holder(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
