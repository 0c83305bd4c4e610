"""The pool: a fixed number of threads work at a time, and those that only wait do not count."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.api.threads import Pool, paused
from tests.conftest import wait_until


class Work:
    """Work for threads; `most` is how many did it at a time, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self.now -= 1


def results(futures: list["Future[Any]"]) -> list[Any]:
    assert not wait(futures, 60).not_done
    return [future.result() for future in futures]


def waiter(goes_on: threading.Event, work: Work) -> Callable[[], None]:
    def task() -> None:
        with work:
            pass
        with paused():
            assert goes_on.wait(60)
        with work:
            pass

    return task


def test_work_is_done_and_what_it_raises_is_raised() -> None:
    pool = Pool(2)
    assert results([pool.submit(pow, 2, number) for number in range(50)]) == [2**number for number in range(50)]
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(60)
    with pytest.raises(SystemExit):  # which ends no thread of the pool
        pool.submit(exit, 1).result(60)
    assert results([pool.submit(pow, 2, 3) for _ in range(4)]) == [8] * 4


def test_threads_that_wait_hold_up_nobody() -> None:
    pool, goes_on, work = Pool(2), threading.Event(), Work()
    waiting = [pool.submit(waiter(goes_on, work)) for _ in range(30)]
    assert results([pool.submit(pow, 2, 3) for _ in range(10)]) == [8] * 10
    assert not any(future.done() for future in waiting)
    goes_on.set()
    results(waiting)


@given(size=st.integers(1, 4), waits=st.lists(st.booleans(), max_size=40))
@settings(max_examples=30)
def test_no_more_work_at_a_time_than_may(size: int, waits: list[bool]) -> None:
    pool, goes_on, work = Pool(size), threading.Event(), Work()

    def short() -> None:
        with work:
            pass

    futures = [pool.submit(waiter(goes_on, work) if waits_ else short) for waits_ in waits]
    goes_on.set()
    results(futures)
    assert work.most <= size


def test_threads_end_when_nobody_waits_any_more() -> None:
    before = threading.active_count()
    pool, goes_on, work = Pool(3), threading.Event(), Work()
    waiting = [pool.submit(waiter(goes_on, work)) for _ in range(20)]
    wait_until(lambda: threading.active_count() == before + 3 + 20, 60, "they do not wait")
    goes_on.set()
    results(waiting)
    wait_until(lambda: threading.active_count() == before + 3, 60, "more threads than places are left")


def test_what_fails_while_it_waits_gives_its_place_back() -> None:
    pool = Pool(1)

    def fail() -> None:
        with paused():
            raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError):  # noqa: PT011 - it has no message
            pool.submit(fail).result(60)
    assert pool.submit(pow, 2, 3).result(60) == 8


def test_a_thread_of_no_pool_waits_as_usual() -> None:
    with paused():
        assert threading.current_thread() is threading.main_thread()
