import threading

import pytest

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
