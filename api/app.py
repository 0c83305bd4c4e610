"""The application factory."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from apiflask import APIFlask
from werkzeug.middleware.proxy_fix import ProxyFix

import tabserve
from tabserve.api import (
    auth,
    controller,
    decided,
    decisions,
    docs,
    errors,
    jobs,
    limits,
    monitor,
    openapi,
    outcomes,
    page,
    request_id,
)
