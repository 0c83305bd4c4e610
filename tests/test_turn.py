"""The turn: one piece of large work at a time, few that wait, none begun once the service stops."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tabserve.api import turn
from tabserve.api.turn import MOST_WAITING, BusyError, Turn
from tests.conftest import wait_until


class Work:
    """Pieces of work that take their turn, each until it is told to end."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.turn, self.pool = Turn(), pool
        self.go_on = threading.Event()
        self.at_once = self.most_at_once = 0

    def begin(self) -> Future[None]:
        return self.pool.submit(self._do)

    def _do(self) -> None:
        with self.turn.taken():
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            assert self.go_on.wait(60)
            self.at_once -= 1


@pytest.fixture
def work() -> Iterator[Work]:
    with ThreadPoolExecutor(MOST_WAITING + 3) as pool:
        work = Work(pool)
        try:
            yield work
        finally:
            work.go_on.set()


def begin_one_and_wait_with_others(work: Work, others: int) -> list[Future[None]]:
    first = work.begin()
    wait_until(lambda: work.at_once == 1, 60, "nobody had the turn")
    waiting = [work.begin() for _ in range(others)]
    wait_until(lambda: work.turn._waiting == others, 60, "they do not wait")
    return [first, *waiting]


def test_work_is_done_one_piece_at_a_time(work: Work) -> None:
    begun = begin_one_and_wait_with_others(work, MOST_WAITING)
    work.go_on.set()
    for piece in begun:
        piece.result(60)
    assert work.most_at_once == 1


def test_who_comes_when_too_many_wait_is_told_so_at_once_and_may_come_again(work: Work) -> None:
    begun = begin_one_and_wait_with_others(work, MOST_WAITING)
    with pytest.raises(BusyError, match="Other large requests"):
        work.begin().result(60)
    work.go_on.set()
    for piece in begun:
        piece.result(60)
    work.begin().result(60)


def test_who_waits_is_told_when_the_service_stops_and_the_work_under_way_is_finished(work: Work) -> None:
    first, *waiting = begin_one_and_wait_with_others(work, 3)
    work.turn.stop()
    for piece in waiting:
        with pytest.raises(BusyError, match="stopping"):
            piece.result(60)
    with pytest.raises(BusyError, match="stopping"):
        work.begin().result(60)
    assert not first.done()
    work.go_on.set()
    assert first.result(60) is None


def test_nobody_waits_for_ever(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "PATIENCE", 0.2)
    _, waiting = begin_one_and_wait_with_others(work, 1)
    with pytest.raises(BusyError, match="Other large requests"):
        waiting.result(60)


def test_work_that_fails_gives_its_turn_back(work: Work) -> None:
    with pytest.raises(ZeroDivisionError), work.turn.taken():
        _ = 1 / 0
    work.go_on.set()
    assert work.begin().result(60) is None


def test_what_failed_work_was_about_is_freed_before_the_next_piece_begins() -> None:
    turn = Turn()
    seen = []

    class Body:
        pass

    def fail() -> None:
        body = Body()
        seen.append(weakref.ref(body))
        raise ValueError

    gc.disable()
    try:
        with pytest.raises(ValueError), turn.taken():  # noqa: PT011
            fail()
        assert seen[0]() is None
    finally:
        gc.enable()
