"""The pulse: it knows when a loop lets its clients wait, and that a pause is no overload."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from tabserve.api.pulse import Pulse
from tests.conftest import wait_until


def in_loop(test: Callable[[asyncio.AbstractEventLoop], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        await asyncio.wait_for(test(asyncio.get_running_loop()), 60)

    asyncio.run(within_a_minute())


async def until(is_so: Callable[[], bool], busy: float = 0.0) -> None:
    """Wait until something is so, in a loop that has so many seconds of work between two looks at its clients."""
    while not is_so():
        time.sleep(busy)
        await asyncio.sleep(0.001)


def test_a_loop_with_too_much_to_do_is_late_until_it_has_less() -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        pulse = Pulse(loop, 0.1)
        await until(lambda: pulse.is_late, busy=0.3)
        await until(lambda: not pulse.is_late)

    in_loop(test)


def test_one_pause_of_the_machine_is_not_too_much_to_do() -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        pulse = Pulse(loop, 1)
        await asyncio.sleep(0.1)
        time.sleep(1.5)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert not pulse.is_late

    in_loop(test)


def test_a_pulse_ends_with_its_loop() -> None:
    before, threads = {*threading.enumerate()}, set[threading.Thread]()  # others may end meanwhile

    async def test(loop: asyncio.AbstractEventLoop) -> None:
        Pulse(loop, 1)
        threads.update({*threading.enumerate()} - before)

    in_loop(test)
    assert threads
    wait_until(lambda: not any(thread.is_alive() for thread in threads), 30, "its thread goes on")
