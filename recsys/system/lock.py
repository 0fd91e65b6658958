"""One process writes a folder or file: a lock that the system takes back however its holder ends."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import InputError

LOCK_FILE = ".lock"
_held: dict[tuple[int, int], int] = {}
"""File descriptors of this process's locks, by device and inode."""


def lock_of(path: Path) -> Path:
    """The lock's file: in a folder, or beside a file."""
    return path / LOCK_FILE if path.is_dir() else path.with_name(path.name + LOCK_FILE)


def hold(what: Path) -> None:
    """Takes a folder or file for this process until it ends or calls `release`; a second call changes nothing.

    Raises:
        InputError: when another process has it.
    """
    path = lock_of(what)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    place = _place(descriptor)
    if place in _held:
        if os.fstat(_held[place]).st_nlink:
            os.close(descriptor)
            return
        os.close(_held.pop(place))  # that file was removed with its folder, and its number given to this one
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
        os.close(descriptor)
        raise InputError(f"{what} is being written by {holder}: wait for it, or choose another --out") from error
    if not path.exists() or _place(descriptor) != (path.stat().st_dev, path.stat().st_ino):
        os.close(descriptor)
        raise InputError(f"{what} was finished by another process just now: give the same command again")
    os.ftruncate(descriptor, 0)
    who = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    os.pwrite(descriptor, who.encode(), 0)
    _held[place] = descriptor


@contextmanager
def held(what: Path) -> Iterator[None]:
    """`hold` while the block runs."""
    hold(what)
    try:
        yield
    finally:
        release(what)


def release(what: Path) -> None:
    """Gives it back and takes the lock's file away; what this process does not hold is left as it is."""
    path = lock_of(what)
    if not path.exists():
        return
    stat = path.stat()
    descriptor = _held.pop((stat.st_dev, stat.st_ino), None)
    if descriptor is not None:
        path.unlink()
        os.close(descriptor)


def _place(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino
