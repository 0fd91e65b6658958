"""Work spread over the threads of this process."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], n_threads: int | None = None
) -> Iterator[tuple[ItemT, ResultT]]:
    """Each item and what `work` made of it, in their order; as many at a time as there are cores, or as is said.

    NumPy, Arrow, Torch and compiled code let go of Python's lock while they work.
    """
    n_threads = n_threads or n_cores()
    waiting: deque[tuple[ItemT, Future[ResultT]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > n_threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


@contextmanager
def in_background(work: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """`work` as a function that returns at once: it is done in a thread, one call after another.

    A second call waits for the first; what a call raises, the next one does, or the end of the block.
    """
    last: list[Future[None]] = []

    with ThreadPoolExecutor(1) as pool:

        def call(*arguments: object) -> None:
            if last:
                last.pop().result()
            last.append(pool.submit(work, *arguments))

        yield call
        if last:
            last.pop().result()
