import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from recsys.system import threads
from recsys.system.threads import in_background, in_threads


def test_items_keep_their_order() -> None:
    assert list(in_threads(lambda n: n * n, range(50), n_threads=4)) == [(n, n * n) for n in range(50)]


def test_background_calls_run_in_order() -> None:
    done: list[int] = []
    main = threading.get_ident()

    def work(number: int) -> None:
        assert threading.get_ident() != main
        done.append(number)

    with in_background(work) as call:
        for number in range(20):
            call(number)
    assert done == list(range(20))


def test_background_error_is_raised_by_the_next_call_or_at_the_end() -> None:
    def work(number: int) -> None:
        if number == 1:
            raise OSError("disk full")

    with in_background(work) as call:
        call(0)
        call(1)
        with pytest.raises(OSError, match="disk full"):
            call(2)
    with pytest.raises(OSError, match="disk full"), in_background(work) as call:
        call(1)


def test_an_interrupt_waits_only_for_calls_that_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    first_begins, pool_stops = threading.Event(), threading.Event()
    begun: list[int] = []
    ended: list[int] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args: Any) -> Future[None]:
            future = super().submit(*args)
            monkeypatch.setattr(future, "result", interrupted)
            return future

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            pool_stops.set()
            super().shutdown(wait)

    def interrupted() -> None:
        assert first_begins.wait(60)
        raise KeyboardInterrupt

    def work(number: int) -> None:
        begun.append(number)
        first_begins.set()
        assert pool_stops.wait(60)
        ended.append(number)

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        list(in_threads(work, range(3), n_threads=1))
    assert begun == ended == [0]


def test_an_error_in_the_items_or_in_the_block_ends_the_threads() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("damaged file")

    def fail_after_a_call() -> None:
        with in_background(str) as call:
            call(0)
            raise ValueError("damaged file")

    before = threading.active_count()
    with pytest.raises(ValueError, match="damaged file"):
        list(in_threads(str, items()))
    with pytest.raises(ValueError, match="damaged file"):
        fail_after_a_call()
    assert threading.active_count() == before
