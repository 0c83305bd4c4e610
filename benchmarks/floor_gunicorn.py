"""gunicorn's settings for the floor: the project's own, without the hook that loads models."""

from runpy import run_path

_settings = run_path("gunicorn.conf.py")
globals().update(
    {name: value for name, value in _settings.items() if not name.startswith("_") and name != "post_worker_init"}
)
