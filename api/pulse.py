"""The pulse: how long an event loop lets its clients wait, as a client of its own sees it.

Timers do not tell: libuv looks at them only when there is little to do for its clients.
"""

import asyncio
import socket
import threading
import time

PAUSE, PAUSE_AFTER_LATE = 0.05, 0.005  # seconds between an answer and the next question
LOOK = 1.0  # seconds until a thread whose question is not answered sees whether there still is a loop


class Pulse:
    """Asks the loop again and again, from a thread.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    patience : float
        Seconds; who waits longer than that is answered late.

    Attributes
    ----------
    is_late : bool
        Whether the last two questions were answered late. One may be a pause of the machine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._loop = loop
        self._patience = patience
        self._sent = 0.0
        self._was_late = self.is_late = False
        self._is_answered = threading.Event()
        self._asks, self._hears = socket.socketpair()
        self._hears.setblocking(False)
        loop.add_reader(self._hears, self._answer)
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        with self._asks, self._hears:
            while not self._loop.is_closed():
                time.sleep(PAUSE_AFTER_LATE if self._was_late else PAUSE)
                self._is_answered.clear()
                self._sent = time.monotonic()
                self._asks.send(b"?")
                while not self._is_answered.wait(LOOK) and not self._loop.is_closed():
                    pass

    def _answer(self) -> None:
        self._hears.recv(1)
        was_late, self._was_late = self._was_late, time.monotonic() - self._sent > self._patience
        self.is_late = was_late and self._was_late
        self._is_answered.set()
