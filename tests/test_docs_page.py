"""`/docs`: what it may load, and what a browser makes of it."""

import re
from threading import Thread
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Locator, Page, expect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tabserve.api.app import create_app
from tabserve.api.docs import OURS, SWAGGER_UI
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE, Server

pytest_plugins = ["tests.browser"]

PAGES = ["/docs", "/docs/"]
SLOW = 30_000  # ms that a busy machine may take


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    settings = Settings(model_registry=tmp_path_factory.mktemp("models"), auth_required=False)
    return create_app(settings).test_client()


# what is served


@pytest.mark.parametrize("path", PAGES)
def test_the_page_names_only_files_that_are_served_beside_it(service: FlaskClient, path: str) -> None:
    answer = service.get(path)
    assert answer.content_type == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src|data-document)="([^"]+)"', answer.text)
    assert len(named) == len(OURS + SWAGGER_UI) + 2  # and the document, which is named twice
    for relative in named:
        assert "//" not in relative
        with service.get(urljoin(path, relative)) as file:
            assert file.status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_inline(service: FlaskClient, path: str) -> None:
    answer = service.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"unsafe|http|\*", policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert re.findall(r"<script(?![^>]* src=)|<style|style=|\bon[a-z]+=", answer.text) == []


@pytest.mark.parametrize("name", OURS + SWAGGER_UI)
def test_a_file_may_be_kept_by_browsers(service: FlaskClient, name: str) -> None:
    with service.get(f"/docs/{name}") as answer:
        assert answer.headers["Cache-Control"] == "public, max-age=3600"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    with service.get(f"/docs/{name}", headers={"If-None-Match": answer.headers["ETag"]}) as again:
        assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "name",
    ["VERSION", "index.css", "swagger-ui.js", "oauth2-redirect.html", "..%2fapp.py", "../app.py", "%2e%2e/app.py", "x"],
)
def test_no_other_file_is_served(service: FlaskClient, name: str) -> None:
    answer = service.get(f"/docs/{name}")
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


def test_the_page_is_no_part_of_the_contract(service: FlaskClient) -> None:
    assert not [path for path in service.get("/openapi.json").get_json()["paths"] if "docs" in path]


# what a browser makes of it


def block(page: Page, path: str) -> Locator:
    """The part of the page that shows an operation."""
    return page.locator(".opblock").filter(has=page.locator(f'[data-path="{path}"]'))


@pytest.mark.parametrize("path", PAGES)
def test_the_page_shows_every_operation(server: Server, page: Page, path: str) -> None:
    page.goto(f"{server.url}{path}")
    assert page.title() == "Tabserve API"
    expect(page.locator(".opblock").first).to_be_visible(timeout=SLOW)
    shown = {
        (
            one.locator(".opblock-summary-path").get_attribute("data-path"),
            one.locator(".opblock-summary-method").inner_text().lower(),
        )
        for one in page.locator(".opblock").all()
    }
    document = page.request.get(f"{server.url}/openapi.json").json()
    assert shown == {(path, method) for path, item in document["paths"].items() for method in item}


def assert_the_example_works(page: Page, path: str = "/output/{model_id}", shown: str = '"probability"') -> None:
    """Try out an operation as it is shown."""
    operation = block(page, path)
    operation.locator(".opblock-summary-control").click(timeout=SLOW)
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").nth(1)).to_have_text(re.compile("^200"), timeout=SLOW)
    expect(answer).to_contain_text(shown)


def test_an_example_is_tried_out_as_it_stands(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/docs")
    assert_the_example_works(page)


@pytest.mark.parametrize("path", PAGES)
def test_it_does_not_matter_where_the_service_is_mounted(trained: Registry, page: Page, path: str) -> None:
    app = create_app(Settings(model_registry=trained.location, auth_required=False))
    mounts = DispatcherMiddleware(Response(status=404), {"/our/api": app})
    with make_server("127.0.0.1", 0, mounts, threaded=True) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        try:
            page.goto(f"http://127.0.0.1:{running.port}/our/api{path}")
            assert_the_example_works(page)
        finally:
            running.shutdown()
            thread.join()


def test_a_padlock_stands_where_a_user_is_needed_and_a_user_opens_it(locked: Server, page: Page) -> None:
    page.goto(f"{locked.url}/docs")
    operation = block(page, "/output/{model_id}")
    expect(operation).to_be_visible(timeout=SLOW)
    document = page.request.get(f"{locked.url}/openapi.json").json()
    needed = [one for item in document["paths"].values() for one in item.values() if "security" in one]
    padlocks = page.locator(".opblock").filter(has=page.locator(".authorization__btn"))
    assert padlocks.count() == len(needed) > 0
    operation.locator(".authorization__btn").click()
    page.locator(".auth-container input[name=username]").fill(ALICE[0])
    page.locator(".auth-container input[name=password]").fill(ALICE[1])
    page.locator(".auth-btn-wrapper .authorize").click()
    page.locator(".auth-btn-wrapper .btn-done").click()
    assert_the_example_works(page)
    assert_the_example_works(page, "/predictions", '"user": "alice"')
    assert_the_example_works(page, "/scores/{name}", '"user": "alice"')
