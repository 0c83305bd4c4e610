"""Steady requests, each of them accounted for: answered, refused or lost.

A request is refused when no connection was made: the client knows at once that it has to ask elsewhere. It is lost when
it was sent on a connection, a new or a kept one, and no whole answer with status 200 came back.

    python tests/load.py URL JSON [--clients 8] [--seconds 10] [--keep-alive]

posts the JSON to the URL, says when it is under way, goes on for the given time and prints the counts as JSON. It takes
the standard library alone, so that it also runs in a container, from its standard input. Where a service needs a user,
TABSERVE_USER and TABSERVE_PASSWORD say who asks.
"""

import argparse
import json
import os
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

PAUSE = 0.01  # seconds of a client between two requests
TIMEOUT = 30  # seconds without an answer, after which a request is lost
ENOUGH = 500  # answers, after which the load is under way
UNDER_WAY = "under way"


class Load:
    """Clients that ask the same while the `with` block runs.

    Parameters
    ----------
    url : str
        Where the body is posted to.
    body : object
        What becomes the JSON.
    clients : int
        How many of them there are.
    keep_alive : bool
        Whether a client keeps its connection as long as the server lets it, or makes one for each request.
    """

    def __init__(self, url: str, body: Any, clients: int = 8, keep_alive: bool = False) -> None:
        parts = urlsplit(url)
        self._address, self._path = parts.netloc, parts.path
        self._body = json.dumps(body).encode()
        self._keep_alive = keep_alive
        self._headers = {"Content-Type": "application/json", "Connection": "keep-alive" if keep_alive else "close"}
        if user := os.environ.get("TABSERVE_USER"):
            credentials = f"{user}:{os.environ.get('TABSERVE_PASSWORD', '')}"
            self._headers["Authorization"] = "Basic " + b64encode(credentials.encode()).decode()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def lost(self) -> dict[str, int]:
        """How many requests were lost, by what happened to them."""
        return {name: count for name, count in self.counts.items() if name not in ("answered", "refused")}

    def _ask(self) -> None:
        connection: HTTPConnection | None = None
        while not self._ended.wait(PAUSE):
            if connection is None:
                connection = HTTPConnection(self._address, timeout=TIMEOUT)
                try:
                    connection.connect()
                except OSError:
                    self._count("refused")
                    connection = None
                    continue
            try:
                connection.request("POST", self._path, self._body, self._headers)
                answer = connection.getresponse()
                answer.read()
                outcome = "answered" if answer.status == 200 else f"status {answer.status}"
                is_over = answer.will_close
            except (OSError, HTTPException) as error:
                outcome, is_over = type(error).__name__, True
            self._count(outcome)
            if is_over or not self._keep_alive:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.counts[outcome] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("body", type=json.loads)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--keep-alive", action="store_true")
    options = parser.parse_args()
    with Load(options.url, options.body, options.clients, options.keep_alive) as load:
        deadline = time.monotonic() + TIMEOUT
        while load.counts["answered"] < ENOUGH and time.monotonic() < deadline:
            time.sleep(PAUSE)
        sys.stdout.write(f"{UNDER_WAY}\n")
        sys.stdout.flush()
        time.sleep(options.seconds)
    sys.stdout.write(json.dumps(load.counts))


if __name__ == "__main__":
    main()
