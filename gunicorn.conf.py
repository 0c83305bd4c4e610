"""The settings of `gunicorn application` in this folder: those of the package, where their reasons are."""

from tabserve.api.gunicorn_conf import *  # noqa: F403
