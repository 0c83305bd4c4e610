"""WSGI entry point: `tabserve.api.wsgi`, for any server."""

from tabserve.api.app import create_app
from tabserve.settings import Settings

application = create_app(Settings.at_start())
