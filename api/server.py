"""The service under gunicorn, from any folder: gunicorn takes neither the arguments nor the files of that folder."""

from gunicorn.app.base import Application


class Server(Application):  # type: ignore[misc]
    """gunicorn with the package's settings and application."""

    def load_config(self) -> None:
        self.load_config_from_module_name_or_filename("python:tabserve.api.gunicorn_conf")

    def load(self) -> object:
        from tabserve.api.wsgi import application  # in the worker

        return application
