"""The metrics at a port of their own, by a process that does nothing else: it answers while the workers cannot.

The service starts it: `python -m tabserve.api.metrics.serving HOST PORT PARENT`.
"""

import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tabserve.api.metrics import folder
from tabserve.api.metrics.catalogue import PATH
from tabserve.api.metrics.exposition import exposition

PATIENCE = 5  # seconds that a client may take
MOST_AT_ONCE = 8  # clients; there is one Prometheus, or a few
LOOK = 1.0  # seconds between looks whether the service still runs


class Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics, and nothing else."""

    timeout = PATIENCE
    server: "MetricsServer"

    def do_GET(self) -> None:
        """Answer with the metrics."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(404)
            return
        content, media_type = exposition(self.server.folder, self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with a status alone: what Python would say may quote the request."""
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def version_string(self) -> str:
        """Say no version."""
        return "tabserve"

    def log_message(self, *_: object) -> None:
        """Say nothing: requests may hold anything."""


class MetricsServer(ThreadingHTTPServer):
    """A server of the metrics in a folder."""

    daemon_threads = True

    def __init__(self, host: str, port: int, sheets: Path) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.folder = sheets
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((host, port), Handler)

    def process_request(self, request: "socket.socket | tuple[bytes, socket.socket]", client_address: object) -> None:
        """Answer in a thread, unless too many are."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Answer."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that leaves is no error."""


def main(host: str, port: int, parent: int) -> None:
    """Serve until the parent has ended."""
    sheets = folder.found()
    if sheets is None:
        sys.exit("There are no metrics here.")
    try:
        server = MetricsServer(host, port, sheets)
    except OSError as error:
        sys.exit(f"Port {port} on {host} cannot be used for the metrics ({os.strerror(error.errno or 0)}).")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while os.getppid() == parent:
        time.sleep(LOOK)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
