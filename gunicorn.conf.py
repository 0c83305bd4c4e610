"""What `gunicorn application` takes in this folder: the settings that are in the package, with their reasons."""

from tabserve.api.gunicorn_conf import *  # noqa: F403
