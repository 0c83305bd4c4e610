"""The pool: a fixed number of threads work at a time, in lanes, and nobody waits for long."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.api.threads import BusyError, Lane, Pool, paused

FOR_EVER = 600.0


class Work:
    """Work for threads; `most` is how many did it at a time, at most, and `order` which was begun when."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.order: list[Any] = []
        self.may_end = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self.now -= 1

    def do(self, name: Any = None) -> Any:
        self.order.append(name)
        with self:
            assert self.may_end.wait(60)
        return name


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(within_a_minute())


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


def test_work_is_done_and_what_it_raises_is_raised() -> None:
    async def test() -> None:
        pool = Pool(2, FOR_EVER)
        work = [pool.run(Lane.SHORT, pow, 2, number) for number in range(50)]
        assert await asyncio.gather(*work) == [2**number for number in range(50)]
        with pytest.raises(ZeroDivisionError):
            await pool.run(Lane.SHORT, divmod, 1, 0)
        assert await pool.run(Lane.SHORT, pow, 2, 3) == 8

    in_loop(test)


@pytest.mark.parametrize(("lane", "most"), [(Lane.SHORT, 4), (Lane.LIST, 3), (Lane.LARGE, 1)])
def test_each_lane_has_its_number_of_threads(lane: Lane, most: int) -> None:
    async def test() -> None:
        pool, work = Pool(4, FOR_EVER), Work()
        asked = [asyncio.ensure_future(pool.run(lane, work.do)) for _ in range(9)]
        await until(lambda: work.now == most)
        work.may_end.set()
        await asyncio.gather(*asked)
        assert work.most == most

    in_loop(test)


def test_short_work_goes_before_lists_and_lists_before_large_work() -> None:
    async def test() -> None:
        pool, first, work = Pool(1, FOR_EVER), Work(), Work()
        asked = [asyncio.ensure_future(pool.run(Lane.SHORT, first.do))]
        await until(lambda: first.now == 1)
        for lane in (Lane.LARGE, Lane.LIST, Lane.SHORT, Lane.LARGE, Lane.SHORT):
            asked.append(asyncio.ensure_future(pool.run(lane, work.do, lane)))
            await asyncio.sleep(0)
        work.may_end.set()
        first.may_end.set()
        await asyncio.gather(*asked)
        assert work.order == [Lane.SHORT, Lane.SHORT, Lane.LIST, Lane.LARGE, Lane.LARGE]

    in_loop(test)


def test_large_work_does_not_hold_up_short_work() -> None:
    async def test() -> None:
        pool, work = Pool(2, FOR_EVER), Work()
        asked = [asyncio.ensure_future(pool.run(Lane.LARGE, work.do)) for _ in range(5)]
        asked += [asyncio.ensure_future(pool.run(Lane.LIST, work.do)) for _ in range(5)]
        await until(lambda: work.now > 0)
        assert await pool.run(Lane.SHORT, pow, 2, 3) == 8
        work.may_end.set()
        await asyncio.gather(*asked)

    in_loop(test)


def test_work_that_waits_too_long_is_refused_and_never_done() -> None:
    async def test() -> None:
        pool, work, other = Pool(1, 0.01), Work(), Work()
        other.may_end.set()
        first = asyncio.ensure_future(pool.run(Lane.SHORT, work.do))
        await until(lambda: work.now == 1)
        with pytest.raises(BusyError, match="Nothing was done"):
            await pool.run(Lane.SHORT, other.do)
        patient = asyncio.ensure_future(pool.run(Lane.SHORT, other.do, "patient", waits=False))
        await asyncio.sleep(0.05)
        work.may_end.set()
        await asyncio.gather(first, patient)
        assert other.order == ["patient"]

    in_loop(test)


def test_threads_that_wait_hold_up_nobody() -> None:
    async def test() -> None:
        pool, goes_on = Pool(1, FOR_EVER), threading.Event()

        def wait() -> str:
            with paused():
                assert goes_on.wait(60)
            return "went on"

        waiting = [asyncio.ensure_future(pool.run(Lane.SHORT, wait)) for _ in range(20)]
        assert await pool.run(Lane.SHORT, pow, 2, 3) == 8
        goes_on.set()
        assert await asyncio.gather(*waiting) == ["went on"] * 20

    in_loop(test)


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from(Lane), st.booleans(), st.booleans()), max_size=12))
def test_no_more_work_at_a_time_than_may(size: int, asked: list[tuple[Lane, bool, bool]]) -> None:
    async def test() -> None:
        pool, work = Pool(size, FOR_EVER), Work()

        def do(pauses: bool, fails: bool) -> None:
            with work:
                pass
            if pauses:
                with paused():
                    pass
            with work:
                assert not fails, "as asked"

        done = await asyncio.gather(
            *(pool.run(lane, do, pauses, fails) for lane, pauses, fails in asked), return_exceptions=True
        )
        assert [isinstance(one, AssertionError) for one in done] == [fails for _, _, fails in asked]
        assert work.most <= size
        assert await asyncio.gather(*(pool.run(lane, pow, 2, 3) for lane in Lane)) == [8, 8, 8]  # no place is lost

    in_loop(test)


def test_what_fails_while_it_waits_gives_its_place_back() -> None:
    async def test() -> None:
        pool = Pool(1, FOR_EVER)

        def fail() -> None:
            with paused():
                raise KeyError

        for _ in range(3):
            with pytest.raises(KeyError):
                await pool.run(Lane.SHORT, fail)
        assert await pool.run(Lane.SHORT, pow, 2, 3) == 8

    in_loop(test)


def test_the_work_of_a_client_that_is_gone_gives_its_place_back() -> None:
    async def test() -> None:
        pool, work = Pool(1, FOR_EVER), Work()
        asked = [asyncio.ensure_future(pool.run(Lane.SHORT, work.do, name)) for name in "ab"]
        await until(lambda: work.now == 1)
        for one in asked:
            one.cancel()
        await asyncio.wait(asked[1:])
        asked[0].cancel()
        await asyncio.sleep(0)
        assert not asked[0].done()  # what belongs to the work is still in use
        work.may_end.set()
        await asyncio.wait(asked)
        assert [one.cancelled() for one in asked] == [True, True]
        assert await pool.run(Lane.SHORT, pow, 2, 3) == 8
        assert work.order == ["a"]  # what was not begun is not done for nobody

    in_loop(test)


def test_a_thread_of_no_pool_waits_as_usual() -> None:
    with paused():
        assert threading.current_thread() is threading.main_thread()
