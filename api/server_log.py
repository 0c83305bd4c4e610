"""gunicorn's part of the service's log: see `tabserve.log`."""

import sys
from typing import Any

from gunicorn.glogging import Logger

from tabserve.log import traced


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log without tracebacks, which hold paths and may quote a request, and without unused access lines."""

    def access(self, *args: Any) -> None:
        if self.cfg.accesslog:  # with a logconfig_dict, gunicorn makes a line for each request even if it drops it
            super().access(*args)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        error = sys.exc_info()[1]
        self.error(f"{msg} (%s)", *args, traced(error) if error else "no error")
