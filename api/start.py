"""What would keep the service from starting, said in one line before anything else is done.

`python -m tabserve.api.start` asks.
"""

import os
import socket
import sys

from tabserve.api.auth import check_at_start
from tabserve.settings import Settings


def check_port(host: str, port: int) -> None:
    """End the process with one line and no traceback when the port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # without what Python adds to it
        other = port + 1 if 1024 <= port < 65535 else 8080
        sys.exit(f"Port {port} of {host} cannot be used ({reason}). Choose another, such as PORT={other}.")


if __name__ == "__main__":
    settings = Settings.at_start()
    check_at_start(settings)
    check_port(settings.host, settings.port)
