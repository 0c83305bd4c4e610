"""WSGI entry point (`gunicorn application`); run as a script, the development server."""

import logging

from api.app import create_app
from api.config import Settings

application = create_app(Settings.at_start())

if __name__ == "__main__":
    settings = application.extensions["settings"]
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    application.run(host="127.0.0.1", port=settings.port)
