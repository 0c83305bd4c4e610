"""WSGI entry point for any server; run as a script, it is the development server."""

import logging
import os
from typing import Any

from werkzeug.serving import WSGIRequestHandler, is_running_from_reloader

from tabserve import log
from tabserve.api.auth import check_at_start
from tabserve.api.companion import Companion, mover
from tabserve.api.start import check_port
from tabserve.settings import Settings

HOST = "127.0.0.1"

if __name__ == "__main__":
    os.environ.setdefault("AUTH_REQUIRED", "false")  # nobody else can reach it
    check_at_start(Settings.at_start())
    if not is_running_from_reloader():  # the reloader's first process holds the port already
        check_port(HOST, Settings.at_start().port)

from tabserve.api.wsgi import application  # noqa: E402 - after the checks


class QuietRequestHandler(WSGIRequestHandler):
    """The development server's handler; requests are echoed neither in the log nor in an error's page."""

    error_message_format = "%(code)d"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the parameter's name is werkzeug's
        """Say nothing: requests that fail unexpectedly are logged by the application."""


if __name__ == "__main__":
    settings = application.extensions["settings"]
    log.configure(settings.log_level, settings.log_format)
    logging.getLogger("tabserve.api").info("the development server answers on http://%s:%d", HOST, settings.port)
    if settings.job_workers and not is_running_from_reloader():
        Companion().start()  # it ends with this process
    if settings.decision_log and not is_running_from_reloader():
        mover().start()
    application.run(host=HOST, port=settings.port, request_handler=QuietRequestHandler)
