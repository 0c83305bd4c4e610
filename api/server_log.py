"""gunicorn's log, which is the service's: see `tabserve.log`."""

import sys
from typing import Any

from gunicorn.glogging import Logger
from tabserve.log import traced


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log without tracebacks, which hold paths and may quote a request, and without hidden work."""

    def access(self, *args: Any) -> None:
        if self.cfg.accesslog:  # gunicorn makes each request's line, if only to drop it, once there is a logconfig_dict
            super().access(*args)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        error = sys.exc_info()[1]
        self.error(f"{msg} (%s)", *args, traced(error) if error else "no error")
