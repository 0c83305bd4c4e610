"""gunicorn's worker: it accepts connections, lets late clients go, and stops without loss.

Of the private methods of gunicorn's `ASGIWorker` it overrides `_serve`, and uses `_quick_shutdown`. The master's `stop`
is replaced, because gunicorn has no hook for it.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from socket import SOL_SOCKET
from typing import Any

from gunicorn.workers import base
from gunicorn.workers.gasgi import ASGIWorker

from tabserve.api.connection import CLIENTS, Connection, Phase
from tabserve.api.observers.front import observed

LOOK_AFTER = 0.5  # seconds between looks for clients that take too long
LOOKS = 100  # connections looked at before requests get their turn
ACCEPTED_AT_ONCE = 128  # connections, before requests get their turn
YOUNG = 2  # seconds before a connection that has sent nothing counts as idle
MOST_UNSENT = 64 * 1024 * 1024  # bytes of answers that wait for their clients

LAST_HANDSHAKES = 0.5  # seconds for connections in the making when the service stops; enough on a busy machine, too
MARGIN = 1  # seconds before the master would kill a worker that stops

SO_BINDTOIFINDEX = 62  # in asm-generic/socket.h; Python 3.13 has no name for it
NO_INTERFACE = 2**31 - 1


class Worker(ASGIWorker):  # type: ignore[misc]
    """gunicorn's ASGI worker, whose clients cannot hold it up.

    A worker that stops answers every client that believes it is connected. These are more than it has accepted: the
    kernel makes connections by itself and queues them. Each answer says that the connection is closed.
    """

    loop: asyncio.AbstractEventLoop
    sockets: list[Any]
    max_requests: int

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: dict[Connection, None] = {}
        self.arriving: set[asyncio.Task[Any]] = set()  # connections that are accepted and not made yet
        self.unread: set[Connection] = set()  # those whose clients do not take their answers
        self.idle: Iterator[Connection] | None = None  # those that may make room, the longest idle first
        self.nr_refused = 0  # connections since the last look
        # In the place of `alive`, which stays: gunicorn would close connections that it did not announce to close.
        self.is_stopping = False
        self.most_requests, self.max_requests = self.max_requests, sys.maxsize

    def load_wsgi(self) -> None:
        self.wsgi = self.app.wsgi()
        self.asgi = observed(self.wsgi)

    def init_signals(self) -> None:
        base.Worker.init_signals(self)  # until the loop runs; it would keep to itself a signal that comes before

    def handle_exit(self, *_: Any) -> None:
        self.is_stopping = True

    handle_exit_signal = handle_exit

    async def _serve(self) -> None:
        super().init_signals()
        self.asgi.start()
        while self.alive and not self.is_stopping and self.nr < self.most_requests and self.ppid == os.getppid():
            await self._look()
            await asyncio.sleep(LOOK_AFTER)
        self.is_stopping = True
        if not self._quick_shutdown:
            await self._finish()

    async def _look(self) -> None:
        """Give a sign of life, and let clients go that take too long."""
        self.notify()
        self.idle = None
        self._accept_again()
        if self.nr_refused:
            self.log.warning("refused %d connections: %d are open", self.nr_refused, len(self.connections))
            self.nr_refused = 0
        now = self.loop.time()
        for number, connection in enumerate([*self.connections]):
            if number % LOOKS == LOOKS - 1:
                await asyncio.sleep(0)
            if connection in self.connections:
                connection.look(now)

    # new connections: libuv would take one at a time, between the requests of all others

    def _accept_again(self) -> None:
        """Accept new connections, after a pause, too."""
        for listener in self.sockets:
            self.loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: Any) -> bool:
        """Accept some of the connections that wait in the kernel; return whether there may be more."""
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                accepted, _ = listener.accept()
                task = self.loop.create_task(self.loop.connect_accepted_socket(lambda: Connection(self), accepted))
                self.arriving.add(task)
                task.add_done_callback(self.arriving.discard)
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError:  # out of file descriptors, or of memory
            if not self._made_room():
                self.loop.remove_reader(listener)  # until the next look
            return False
        return True

    # too many connections

    def welcome(self, connection: Connection) -> None:
        """Take a new connection, if need be in the place of an idle one; refuse it if there is none."""
        self.connections[connection] = None
        if len(self.connections) <= self.worker_connections or self._made_room():
            return
        self.nr_refused += 1
        connection.refuse(CLIENTS)
        if len(self.connections) > self.worker_connections * 9 // 8:  # even of those that are told
            connection.drop()

    def _made_room(self) -> bool:
        if self.idle is None:
            now = self.loop.time()
            idle = [connection for connection in self.connections if self._may_go(connection, now)]
            self.idle = iter(sorted(idle, key=lambda connection: (connection.head > 0, connection.begun)))
        for connection in self.idle:
            if self._may_go(connection, self.loop.time()):
                connection.drop()
                return True
        return False

    def _may_go(self, connection: Connection, now: float) -> bool:
        phase = connection.phase
        is_idle = phase is Phase.IDLE or phase is Phase.HEAD
        is_known = connection in self.connections and not connection.is_new(phase)
        return is_idle and is_known and connection.begun < now - YOUNG

    def forget(self, connection: Connection) -> None:
        """Count a connection no longer; repeating it does no harm."""
        self.connections.pop(connection, None)
        self.unread.discard(connection)

    def bound_unsent(self, connection: Connection) -> None:
        """Drop connections while too much waits to be sent, those with the nearest deadlines first."""
        self.unread.add(connection)
        unsent = {connection: connection.transport.get_write_buffer_size() for connection in self.unread}
        total = sum(unsent.values())
        for one in sorted(unsent, key=lambda one: one.deadline(Phase.ANSWER))[:-1]:
            if total <= MOST_UNSENT:
                break
            total -= unsent[one]
            one.drop()

    # the end

    async def _finish(self) -> None:
        end = self.loop.time() + self.cfg.graceful_timeout - MARGIN
        await self._look()
        await asyncio.sleep(LAST_HANDSHAKES)
        for listener in self.sockets:
            self.loop.remove_reader(listener)
            while self._accept(listener):  # what waits in the kernel's queue would be lost with the listening socket
                await asyncio.sleep(0)
            listener.close()
        self.sockets = []
        while (self.connections or self.arriving) and self.loop.time() < end and not self._quick_shutdown:
            await self._look()
            await asyncio.sleep(LOOK_AFTER / 5)


def stop_without_loss(server: Any) -> None:
    """Make the server, when it stops, first tell the kernel to make no more connections.

    The listening sockets are bound to a network interface that does not exist. New clients are then refused at once;
    connections in the making are completed and wait for a worker to accept them. Since Linux 5.7 this needs no
    privilege. Where it fails, the log says so, and a connection may be lost at the moment when the sockets are closed.
    gunicorn has no hook for this, so its `stop` is replaced.

    Parameters
    ----------
    server : gunicorn.arbiter.Arbiter
        The master process, which is about to start its workers.
    """
    stop = server.stop

    def stop_(graceful: bool = True) -> None:
        if not (server.reexec_pid or server.master_pid or server.systemd):  # no other process uses the sockets
            for listener in server.LISTENERS:
                try:
                    listener.setsockopt(SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
                except OSError as error:
                    server.log.warning("new connections cannot be refused (%s): one may be lost", error.strerror)
        stop(graceful)

    server.stop = stop_
