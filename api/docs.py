"""`/openapi.json`: the OpenAPI document; `/docs`: Swagger UI for it, from files that ship with the service."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Response, current_app, render_template, request, send_from_directory

from tabserve.api.headers import protect
from tabserve.api.openapi import document

OURS = ("docs.js",)
SWAGGER_UI = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
MAX_AGE = 3600  # seconds for which a browser need not ask whether a file has changed

blueprint = Blueprint("docs", __name__)
blueprint.after_request(protect)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Send the OpenAPI document."""
    content = document(current_app._get_current_object())  # type: ignore[attr-defined]
    return Response(content, content_type="application/json")


@blueprint.get("/docs")
def page() -> str:
    """Show the OpenAPI document, where requests can be tried out."""
    # relative, so that it does not matter where a proxy mounts the service; /docs/ is one folder deeper than /docs
    return render_template("docs.html", root="../" if request.path.endswith("/") else "")


@blueprint.get(f"/docs/<any({', '.join(map(repr, OURS + SWAGGER_UI))}):name>")
def file(name: str) -> Response:
    """Send one of the files that the page names, and no other."""
    folder = Path(__file__).parent / "static" if name in OURS else _swagger_ui()
    return send_from_directory(folder, name, max_age=MAX_AGE)


@cache
def _swagger_ui() -> Path:
    """The folder of files in the package flask-swagger-ui, whose code is not imported."""
    package = find_spec("flask_swagger_ui")
    assert package
    assert package.origin
    return Path(package.origin).parent / "dist"
