"""`/` with large files, which are answered as jobs: a browser, a service and a worker."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from openpyxl import load_workbook
from playwright.sync_api import Locator, Page, Route, expect

from tabserve.declaration.use_case import UseCase
from tabserve.jobs.store import Store
from tabserve.registry.registry import Registry
from tests.conftest import ALICE, ROOT, Server, running_server
from tests.test_page_browser import (
    TOO_YOUNG,
    WIDTHS,
    api_answer,
    assert_accessible,
    browser_dialogs,
    csv_file,
    log_in,
    opened,
    overflow,
    predict,
    xlsx_file,
)

pytest_plugins = ["tests.browser"]

ROWS = 20_000
TABLES = ("tabserve_jobs", "tabserve_job_files")
# a worker that stops in the middle of a table, until there is a certain file
GATED = """
import os, time
from tabserve import predictor
predict, predictor.PIECE = predictor.make_prediction, 5000
pieces = 0

def gated(*arguments, **options):
    global pieces
    pieces += 1
    while pieces > 1 and not os.path.exists(os.environ["GATE"]):
        time.sleep(0.02)
    return predict(*arguments, **options)

predictor.make_prediction = gated
from tabserve.cli import main
main()
"""
JOB = {"id": "A" * 22, "state": "waiting", "rows": None, "rows_done": 0, "error": None, "summary": None, "results": {}}


class Place:
    """A service and its jobs, in a folder of their own."""

    def __init__(self, folder: Path, registry: Registry, **environment: str) -> None:
        self.log = folder / "log.txt"
        self.gate = folder / "gate"
        address = f"sqlite:///{folder / 'jobs.db'}"
        self.store = Store(address, 24)
        self.environment = {"MODEL_REGISTRY": str(registry.location), "WEB_CONCURRENCY": "1", "DATABASE_URL": address}
        self.environment |= environment

    def service(self) -> running_server:
        return running_server(self.log, self.environment)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A worker that answers a quarter of `ROWS`, and the rest when `gate` exists."""
        environment = {**os.environ, **self.environment, "GATE": str(self.gate)}
        with self.log.with_suffix(".worker").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", GATED, "worker"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def is_empty(self) -> bool:
        """Whether nothing is known of any job; a look at the table itself, since the ids are the page's."""
        with self.store._database.reading() as connection:
            counts = [connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() for name in TABLES]
        return counts == [0, 0]


@pytest.fixture
def place(tmp_path: Path, trained: Registry) -> Place:
    return Place(tmp_path, trained)


def until(page: Page, is_so: Callable[[], bool]) -> None:
    """Let the browser go on until something is so."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


def hours(bikes: UseCase, rows: int = ROWS) -> Any:
    return csv_file(bikes, *({"hour": row % 24} for row in range(rows)))


def status_of(part: Locator) -> Locator:
    return part.locator(".upload-status")


def alert_of(part: Locator) -> Locator:
    return part.locator("section", has_text="A whole file").get_by_role("alert")


def choose(part: Locator, file: Any) -> None:
    part.get_by_label("Choose a file").set_input_files([file])


def wait_for_quarter(part: Locator) -> None:
    expect(part.locator(".progress .help")).to_have_text("5,000 of 20,000 rows")


def saved(page: Page, part: Locator, button: str, folder: Path) -> Path:
    """What a button downloads."""
    with page.expect_download() as download:
        part.get_by_role("button", name=button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_large_file_is_a_job_that_shows_how_far_it_is(
    place: Place, page: Page, bikes: UseCase, refusals: set[int], tmp_path: Path
) -> None:
    refusals.add(413)
    with place.service() as server, place.worker():
        part = opened(page, server, "bikes")
        page.evaluate(
            """() => {
                window.said = [];
                const place = document.querySelector(".use-case:not([hidden]) .upload-status");
                new MutationObserver(() => said.push(place.textContent)).observe(place, { childList: true });
            }"""
        )
        choose(part, hours(bikes))
        wait_for_quarter(part)
        bar = part.get_by_role("progressbar", name="Progress")
        expect(bar).to_have_js_property("value", 0.25)
        expect(bar).to_have_accessible_description("5,000 of 20,000 rows")
        expect(status_of(part)).to_have_text("Predicting records.csv ...")
        assert_accessible(page)
        place.gate.touch()
        expect(status_of(part)).to_have_text("records.csv: 20,000 rows; none invalid.")
        expect(part.locator(".progress")).to_be_hidden()
        assert_accessible(page)
        said = page.evaluate("said")
        assert [text for text, before in zip(said, ["", *said], strict=False) if text == before] == []  # said once
        assert not [text for text in said if "of 20,000 rows" in text]  # what moves is not
        expect(part.locator(".table tbody tr").first.locator("th")).to_have_text("2")
        expect(part.locator(".table")).to_contain_text("Read as CSV")
        values = api_answer(page, server, "outputs/bikes", [{**bikes.example, "hour": hour} for hour in range(3)])
        lines = saved(page, part, "Download CSV", tmp_path).read_text().splitlines()
        assert len(lines) == ROWS + 1
        assert [float(line.rpartition(",")[2]) for line in lines[1:4]] == values["result"]
        path = saved(page, part, "Download Parquet", tmp_path)
        assert path.name == "records-answers.parquet"
        assert pyarrow.parquet.read_table(path)["result"].to_pylist()[:3] == values["result"]
        path = saved(page, part, "Download Excel", tmp_path)
        assert path.name == "records-answers.xlsx"
        assert sum(1 for _ in load_workbook(path, read_only=True).active.rows) == ROWS + 1
        assert not place.is_empty()
        page.reload()  # what nobody can ask for any more is deleted
        until(page, place.is_empty)


def test_rows_at_fault_and_the_score_are_shown_for_jobs_too(
    tmp_path: Path, trained: Registry, page: Page, credit: UseCase, refusals: set[int]
) -> None:
    refusals.add(413)
    place = Place(tmp_path, trained, SYNC_ROWS="10")
    changes = [{"default": 1 + row % 2, "age": 7 if row == 3 else 20 + row} for row in range(20)]
    with place.service() as server, place.worker():
        part = opened(page, server)
        choose(part, xlsx_file(credit, *changes))
        expect(status_of(part)).to_have_text("records.xlsx: 20 rows; 1 invalid.")
        expect(part.locator(".table")).to_contain_text(re.compile(r"Read as XLSX.*auc score: 0\.\d+\."))
        part.get_by_label("Show").select_option("Invalid rows (1)")
        expect(part.locator(".table tbody tr th")).to_have_text(["5"])
        expect(part.locator(".table .fault")).to_contain_text(TOO_YOUNG)


def test_an_upload_is_cancelled(server: Server, page: Page, bikes: UseCase) -> None:
    part = opened(page, server, "bikes")
    page.route("**/outputs_upload/*", lambda route: None)  # never answered
    with page.expect_request("**/outputs_upload/*") as sent:
        choose(part, csv_file(bikes, {}))
    with page.expect_event("requestfailed", lambda request: request == sent.value):
        part.get_by_role("button", name="Cancel").click()
    expect(status_of(part)).to_have_text("Cancelled.")
    expect(part.locator(".progress")).to_be_hidden()
    expect(alert_of(part)).to_have_count(0)  # an empty one is not shown


def test_a_job_is_cancelled_while_it_waits_and_while_it_is_answered(
    place: Place, page: Page, bikes: UseCase, refusals: set[int]
) -> None:
    refusals.add(413)
    with place.service() as server:
        part = opened(page, server, "bikes")
        choose(part, hours(bikes))
        expect(status_of(part)).to_have_text("records.csv waits for its turn ...")
        part.get_by_role("button", name="Cancel").click()
        expect(status_of(part)).to_have_text("Cancelled.")
        expect(part.get_by_label("Choose a file")).to_be_focused()
        expect(part.locator(".progress")).to_be_hidden()
        until(page, place.is_empty)
        with place.worker():
            choose(part, hours(bikes))
            wait_for_quarter(part)
            part.get_by_role("button", name="Cancel").click()
            until(page, place.is_empty)
            place.gate.touch()
            choose(part, csv_file(bikes, {}))  # all goes on
            expect(status_of(part)).to_have_text("records.csv: 1 row; none invalid.")
            until(page, place.is_empty)


def test_a_job_that_was_sent_when_it_was_cancelled_is_deleted_when_its_id_is_known(
    server: Server, page: Page, bikes: UseCase, refusals: set[int]
) -> None:
    refusals.add(413)
    orders: list[Route] = []
    deleted: list[str] = []
    page.route("**/outputs_upload/*", lambda route: route.fulfill(status=413, json={"status": 413}))
    page.route("**/jobs/bikes?partial=true", lambda route: orders.append(route))
    page.route("**/jobs/AAA*", lambda route: (deleted.append(route.request.method), route.fulfill(status=204)))
    part = opened(page, server, "bikes")
    page.evaluate(  # intercepted requests do not tell that they are sent
        """() => {
            const send = XMLHttpRequest.prototype.send;
            XMLHttpRequest.prototype.send = function (body) {
                send.call(this, body);
                this.upload.dispatchEvent(new ProgressEvent("load"));
            };
        }"""
    )
    choose(part, csv_file(bikes, {}))
    expect(status_of(part)).to_have_text("records.csv waits for its turn ...")
    until(page, lambda: bool(orders))
    part.get_by_role("button", name="Cancel").click()
    assert deleted == []
    with page.expect_request("**/jobs/AAA*"):
        orders[0].fulfill(status=202, json=JOB)
    until(page, lambda: deleted == ["DELETE"])
    expect(status_of(part)).to_have_text("Cancelled.")


def test_a_job_that_fails_says_why_as_a_request_would(
    tmp_path: Path, trained: Registry, page: Page, bikes: UseCase
) -> None:
    place = Place(tmp_path, trained, SYNC_ROWS="1")
    lines = ["hour,colour", *["1,red"] * 100]  # so large that it is a job at once
    with place.service() as server, place.worker():
        part = opened(page, server, "bikes")
        choose(part, {"name": "hours.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()})
        for reason in ("The file cannot be used", "1 unknown column(s), B;", "weekday:"):
            expect(alert_of(part)).to_contain_text(reason)
        expect(part.locator(".progress")).to_be_hidden()
        expect(status_of(part)).to_be_empty()


def test_a_service_that_starts_again_goes_on_with_the_job(
    place: Place, page: Page, bikes: UseCase, refusals: set[int]
) -> None:
    refusals |= {0, 413}
    service = place.service()
    with place.worker():
        with service as server:
            part = opened(page, server, "bikes")
            choose(part, hours(bikes))
            wait_for_quarter(part)
        expect(status_of(part)).to_have_text("The service cannot be reached. Trying again ...")
        place.gate.touch()
        with service:
            expect(status_of(part)).to_have_text("records.csv: 20,000 rows; none invalid.")


# what may go wrong on the way, as a service in place of the real one says it


@pytest.fixture
def part(server: Server, page: Page, refusals: set[int]) -> Locator:
    """A page whose files are all jobs that wait."""
    refusals.add(413)
    page.route("**/outputs_upload/*", lambda route: route.fulfill(status=413, json={"status": 413}))
    page.route("**/jobs/bikes?partial=true", lambda route: route.fulfill(status=202, json=JOB))
    page.route("**/jobs/AAA*", lambda route: route.fulfill(json=JOB))
    return opened(page, server, "bikes")


def answering(page: Page, *answers: dict[str, Any]) -> list[dict[str, str]]:
    """Let polls have these answers, the last one again and again; the headers of all polls so far."""
    asked: list[dict[str, str]] = []

    def answer(route: Route) -> None:
        if route.request.method == "DELETE":
            route.fulfill(status=204)
            return
        asked.append(route.request.all_headers())
        route.fulfill(**answers[min(len(asked), len(answers)) - 1])

    page.route("**/jobs/AAA*", answer)
    return asked


def problem(status: int, detail: str) -> dict[str, Any]:
    return {"status": status, "json": {"status": status, "detail": detail}}


def test_a_job_that_is_gone_says_so(page: Page, part: Locator, bikes: UseCase, refusals: set[int]) -> None:
    refusals.add(404)
    answering(page, problem(404, "There is no such job."))
    choose(part, csv_file(bikes, {}))
    expect(alert_of(part)).to_have_text("There is no such job.")
    expect(part.locator(".progress")).to_be_hidden()


def test_a_service_that_stays_away_is_said_in_the_end(
    page: Page, part: Locator, bikes: UseCase, refusals: set[int]
) -> None:
    refusals.add(502)
    asked = answering(page, {"status": 502, "body": "<h1>Bad gateway</h1>"})
    page.clock.install()
    choose(part, csv_file(bikes, {}))
    expect(status_of(part)).to_have_text("records.csv waits for its turn ...")
    for attempt in range(1, 12):
        page.clock.run_for(10_000)
        until(page, lambda attempt=attempt: len(asked) == attempt)
        if attempt < 11:
            expect(status_of(part)).to_have_text("The service answered with status 502. Trying again ...")
    expect(alert_of(part)).to_have_text("The service answered with status 502.")


def test_the_service_says_when_to_ask_and_hidden_tabs_ask_less(page: Page, part: Locator, bikes: UseCase) -> None:
    asked = answering(page, {"json": JOB, "headers": {"Retry-After": "3"}})
    page.clock.install()
    choose(part, csv_file(bikes, {}))
    expect(status_of(part)).to_have_text("records.csv waits for its turn ...")

    def after(seconds: float, count: int) -> None:
        page.clock.run_for(1000 * seconds)
        until(page, lambda: len(asked) >= count)
        page.wait_for_timeout(50)
        assert len(asked) == count

    after(1.1, 1)  # the order did not say when
    after(2.8, 1)
    after(0.3, 2)
    seen = "is => { Object.defineProperty(document, 'hidden', {value: !is, configurable: true}); }"
    shown = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(seen, False)
    page.evaluate(shown)
    after(0, 3)
    after(29, 3)
    page.evaluate(seen, True)
    page.evaluate(shown)
    after(0, 4)
    after(3.1, 5)


def test_jobs_are_asked_for_with_the_cookie_of_a_load_balancer(
    server: Server, page: Page, part: Locator, bikes: UseCase, refusals: set[int]
) -> None:
    refusals.add(404)
    page.context.add_cookies([{"name": "AWSALB", "value": "one", "url": server.url}])
    asked = answering(page, problem(404, "Another machine has it."), {"json": JOB})
    choose(part, csv_file(bikes, {}))
    until(page, lambda: len(asked) == 2)
    assert [headers.get("cookie") for headers in asked] == [None, "AWSALB=one"]


def busy_once(then: Callable[[Route], None]) -> Callable[[Route], None]:
    """A service that is busy at first."""
    answers = iter([lambda route: route.fulfill(status=503, json={"status": 503}, headers={"Retry-After": "1"})])
    return lambda route: next(answers, then)(route)


def test_a_busy_service_is_asked_again_when_it_says(
    server: Server, page: Page, bikes: UseCase, refusals: set[int]
) -> None:
    refusals.add(503)
    part = opened(page, server, "bikes")
    page.clock.install()
    page.route("**/outputs_upload/*", busy_once(lambda route: route.continue_()))
    choose(part, csv_file(bikes, {}))
    expect(status_of(part)).to_have_text("The service is busy. records.csv is sent again in 1 s ...")
    page.clock.run_for(1000)
    expect(status_of(part)).to_have_text("records.csv: 1 row; none invalid.")
    page.route("**/output/*", busy_once(lambda route: route.continue_()))
    with page.expect_response("**/output/*") as refused:
        answer = predict(part)
    assert refused.value.status == 503
    page.clock.run_for(1000)
    expect(answer.locator(".value")).to_be_visible()


def test_a_service_that_stays_busy_is_said(server: Server, page: Page, refusals: set[int]) -> None:
    refusals.add(503)
    part = opened(page, server, "bikes")
    tries: list[Route] = []

    def refuse(route: Route) -> None:
        tries.append(route)
        route.fulfill(**problem(503, "The service is busy."), headers={"Retry-After": "1"})

    page.route("**/output/*", refuse)
    expect(predict(part).get_by_role("alert")).to_have_text("The service is busy.")
    assert len(tries) == 3


# with users


def test_a_job_is_its_users_and_goes_with_the_user(
    tmp_path: Path, trained: Registry, users_file: Path, page: Page, bikes: UseCase, refusals: set[int]
) -> None:
    refusals |= {401, 413}
    place = Place(tmp_path, trained, AUTH_REQUIRED="true", AUTH_USERS_FILE=str(users_file))
    with place.service() as server, place.worker():
        part = opened(page, server, "bikes")
        asked = browser_dialogs(page)
        page.get_by_role("button", name="Log in").click()
        log_in(page, *ALICE)
        choose(part, hours(bikes))
        wait_for_quarter(part)
        page.evaluate("authorization = basic('alice', 'formerly right')")  # the next poll is refused
        log_in(page, *ALICE)
        place.gate.touch()
        expect(status_of(part)).to_have_text("records.csv: 20,000 rows; none invalid.")
        assert saved(page, part, "Download Parquet", tmp_path).read_bytes().startswith(b"PAR1")
        assert not place.is_empty()
        page.get_by_role("button", name="Log out alice").click()
        expect(part.get_by_role("button", name="Download")).to_have_count(0)
        until(page, place.is_empty)
    assert asked == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_progress_and_downloads_fit_the_window(page: Page, part: Locator, bikes: UseCase, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    answering(page, {"json": {**JOB, "state": "running", "rows": 20_000, "rows_done": 12_000}})
    choose(part, csv_file(bikes, {}))
    expect(part.locator(".progress .help")).to_have_text("12,000 of 20,000 rows")
    assert overflow(page) == 0
