"""Runs functions in the threads of this process."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


_share: int | None = None
"""Of the cores, that this process was told to use."""


def n_cores() -> int:
    """Returns the number of cores that this process may use."""
    if _share is not None:
        return _share
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(n: int) -> None:
    """Makes this process use so many cores, because other processes use the rest."""
    global _share
    _share = n


def wait_passively() -> None:
    """Makes OpenMP's threads (torch, LightGBM) sleep while they wait, unless the environment says otherwise.

    To be called before these libraries are imported. By default a thread spins for a while at the end of each parallel
    loop. If any other program uses a core, the thread that all wait for does not run until the others have spun: two
    threads on two cores, one of them in use, train up to 25 times as slowly.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def in_threads(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], n_threads: int | None = None
) -> Iterator[tuple[ItemT, ResultT]]:
    """Applies `work` to items in threads; yields (item, result) in the order of the items.

    Uses one thread per core unless `n_threads` is set. NumPy, Arrow, Torch and compiled code release the GIL. Calls
    that have not begun are dropped at an exception, or when the caller stops.
    """
    n_threads = n_threads or n_cores()
    pending: deque[tuple[ItemT, Future[ResultT]]] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) > n_threads:
                oldest_item, future = pending.popleft()
                yield oldest_item, future.result()
        while pending:
            oldest_item, future = pending.popleft()
            yield oldest_item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # waits only for calls that have begun: they may use files of the caller


@contextmanager
def in_background(work: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """Yields a function that runs `work` in one background thread and returns at once.

    A call waits for the call before it. The next call, or the end of the block, raises the exception of a call. After
    an exception in the block, a call that has not begun is dropped.
    """
    pending: list[Future[None]] = []
    pool = ThreadPoolExecutor(1)

    def call(*arguments: object) -> None:
        if pending:
            pending.pop().result()
        pending.append(pool.submit(work, *arguments))

    try:
        yield call
        if pending:
            pending.pop().result()
    finally:
        pool.shutdown(cancel_futures=True)
