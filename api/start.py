"""Checks before the service starts: the process exits with one line and no traceback when it could not work.

`tabserve serve` makes them, and so does `python -m tabserve.api.start`.
"""

import os
import socket
import sys

import gunicorn

from tabserve.api.auth import check_at_start
from tabserve.api.observers import tracing
from tabserve.settings import Settings

TESTED = "27.0."  # the beginning of gunicorn's tested versions: `worker`, `connection` override private methods


def check_gunicorn() -> None:
    """Exit when the version of gunicorn was not tested."""
    if not gunicorn.__version__.startswith(TESTED):
        sys.exit(
            f"gunicorn {gunicorn.__version__} is installed, but this service overrides private methods of it and was "
            f"only tested with {TESTED}*: pip install 'gunicorn=={TESTED}*'"
        )


def check_port(host: str, port: int, setting: str = "PORT=") -> None:
    """Exit when the port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # without the details that Python adds
        other = port + 1 if 1024 <= port < 65535 else 8080
        sys.exit(f"Port {port} on {host} cannot be used ({reason}). Choose another, such as {setting}{other}.")


def check() -> Settings:
    """Make all checks, in the order in which their causes are put right; return the settings."""
    check_gunicorn()
    settings = Settings.at_start()
    tracing.check_at_start(settings)
    check_at_start(settings)
    check_port(settings.host, settings.port)
    if settings.metrics_port:
        check_port(settings.host, settings.metrics_port, "METRICS=:")
    return settings


if __name__ == "__main__":
    check()
