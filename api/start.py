"""What would keep the service from starting, said in one line before anything else is done.

`tabserve serve` asks, and so does `python -m tabserve.api.start`.
"""

import os
import socket
import sys

import gunicorn
from tabserve.api.auth import check_at_start
from tabserve.declaration.discovery import all_use_cases
from tabserve.errors import InvalidUseCaseError
from tabserve.settings import Settings

TESTED = "27.0."  # how versions of gunicorn begin whose private methods `worker` and `stop` override


def check_gunicorn() -> None:
    """End the process with one line and no traceback when gunicorn is of a version that was not tested."""
    if not gunicorn.__version__.startswith(TESTED):
        sys.exit(
            f"gunicorn {gunicorn.__version__} is installed, and this service overrides private methods of it that "
            f"were tested with {TESTED}* alone: pip install 'gunicorn=={TESTED}*'"
        )


def check_use_cases() -> None:
    """End the process with one line and no traceback when a use case is declared that cannot work."""
    try:
        all_use_cases()
    except InvalidUseCaseError as error:
        sys.exit(str(error))


def check_port(host: str, port: int) -> None:
    """End the process with one line and no traceback when the port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # without what Python adds to it
        other = port + 1 if 1024 <= port < 65535 else 8080
        sys.exit(f"Port {port} of {host} cannot be used ({reason}). Choose another, such as PORT={other}.")


def check() -> Settings:
    """Look at everything, in the order in which it is put right; the settings."""
    check_gunicorn()
    check_use_cases()
    settings = Settings.at_start()
    check_at_start(settings)
    check_port(settings.host, settings.port)
    return settings


if __name__ == "__main__":
    check()
