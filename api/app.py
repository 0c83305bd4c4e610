"""The application factory."""

from collections.abc import Callable
from functools import partial
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
from tabserve.api.metrics import route
from tabserve.api.metrics.figures import Figures
from tabserve.api.metrics.folder import WORKER
from tabserve.api.metrics.predictor import CountingPredictor
from tabserve.log import traced
from tabserve.predictor import Predictor
from tabserve.settings import Settings

MOST_FORM_MEMORY = 192 * 1024  # bytes of a text field or a part's header; the parser reads 64 kB at a time
MOST_FORM_PARTS = 10
# by use case: the module whose `blueprint` and `describe` are used where the program comes with that use case
OF_ONE_USE_CASE = {"bikes": "tabserve.api.bikes"}


class Service(APIFlask):
    """APIFlask for views that are plain functions, without a look at each request whether the view is a coroutine."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is."""
        return func

    def log_exception(self, exc_info: Any) -> None:
        """Log an unhandled exception, without the request's path."""
        self.logger.error("unexpected %s", traced(exc_info[1]))


def create_app(settings: Settings | None = None) -> APIFlask:
    """Make the service; models are loaded when they are first used.

    Parameters
    ----------
    settings : Settings, optional
        By default, read from the environment.
    """
    settings = settings or Settings.from_environment()
    app = Service(
        __name__,
        title="Tabserve",
        version=tabserve.__version__,
        docs_path=None,
        spec_path=None,  # see `docs`
        static_folder=None,  # type: ignore[arg-type]  # the pages serve their own files
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_content_length
    # a form's one file is kept on disk; its parser keeps a part's header in memory and scans it again and again
    app.config["MAX_FORM_MEMORY_SIZE"], app.config["MAX_FORM_PARTS"] = MOST_FORM_MEMORY, MOST_FORM_PARTS
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # double slashes are answered with 404: a redirect would not be problem+json
    app.extensions["settings"] = settings
    predictor = Predictor(
        settings.open_registry(),
        settings.default_use_case,
        settings.compiled_trees,
        approved_only=settings.approved_only,
    )
    figures = None if settings.metrics == "off" else Figures.of_process(WORKER)
    app.extensions["figures"] = figures
    app.extensions["predictor"] = CountingPredictor(predictor, figures) if figures else predictor
    request_id.init_app(app)  # before all others, who may log something
    counts = limits.Counts(settings.rate_limit_storage)
    auth.init_app(app, settings, counts)
    limits.init_app(app, settings, auth.client, counts)
    errors.init_app(app)
    jobs.init_app(app, settings)
    decided.init_app(app, settings)
    decisions.init_app(app, settings)
    extra = [import_module(module) for name, module in OF_ONE_USE_CASE.items() if _is_there(name)]
    openapi.init_app(app, settings, [partial(outcomes.describe, settings), *(module.describe for module in extra)])
    # each blueprint decides who may use it, and whether its requests count towards RATE_LIMIT
    for blueprint in (
        *(controller.blueprint, controller.predictions, jobs.orders, jobs.blueprint, outcomes.blueprint),
        *(decisions.blueprint, monitor.blueprint, docs.blueprint, page.blueprint),
    ):
        app.register_blueprint(blueprint)
    if settings.metrics == "path":
        app.register_blueprint(route.blueprint)
    for module in extra:
        app.register_blueprint(module.blueprint)
    if settings.trusted_proxies:
        proxies = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    if settings.cors_origins:
        from flask_cors import CORS

        CORS(app, origins=list(settings.cors_origins))
    return app


def _is_there(use_case: str) -> bool:
    """Whether the program comes with a use case, which is not imported."""
    return find_spec(f"tabserve.use_cases.{use_case}") is not None
