"""`/` as a browser shows it, from a running service."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from axe_playwright_python.sync_playwright import Axe
from openpyxl import Workbook, load_workbook
from playwright.sync_api import FileChooser, FilePayload, Locator, Page, Route, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tabserve.api.app import create_app
from tabserve.declaration.use_case import UseCase
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.limits import NOT_A_TABLE
from tabserve.tables.writer import write_csv
from tests.conftest import ALICE, Server

pytest_plugins = ["tests.browser"]

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TOO_YOUNG = "Must be between 18 and 120."
WIDTHS = {"phone": 360, "desk": 1280}


def opened(page: Page, server: Server, use_case: str = "credit") -> Locator:
    """The part of the page that shows a use case."""
    page.goto(server.url)
    page.get_by_label("Use case").select_option(use_case)
    return page.locator(f'.use-case[data-name="{use_case}"]')


def predict(place: Locator) -> Locator:
    """Send the form; the part with the answer."""
    place.get_by_role("button", name="Predict").click()
    return place.locator(".answer")


def api_answer(page: Page, server: Server, path: str, record: Any) -> dict[str, Any]:
    answer: dict[str, Any] = page.request.post(f"{server.url}/{path}", data=record).json()
    return answer


def csv_file(use_case: UseCase, *changes: dict[str, Any]) -> FilePayload:
    """A CSV file with a row for each change, made to the example."""
    rows = [{**use_case.example, **change} for change in changes]
    return {"name": "records.csv", "mimeType": "text/csv", "buffer": write_csv(list(rows[0]), rows).encode()}


def xlsx_file(use_case: UseCase, *changes: dict[str, Any]) -> FilePayload:
    rows = [{**use_case.example, **change} for change in changes]
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    content = io.BytesIO()
    book.save(content)
    return {"name": "records.xlsx", "mimeType": XLSX, "buffer": content.getvalue()}


def assert_accessible(page: Page) -> None:
    """Assert that axe-core finds no serious fault."""
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


# one record


def test_the_example_is_answered_with_probability_threshold_and_decision(server: Server, page: Page) -> None:
    place = opened(page, server)
    answer = predict(place)
    record = page.evaluate("JSON.parse(document.querySelector('.use-case').dataset.example)")
    expected = api_answer(page, server, "output/credit", record)
    threshold = page.request.get(f"{server.url}/models/credit").json()["threshold"]
    (probability,), (result,) = expected["probability"], expected["result"]
    words = ["Expected to repay", "Expected to default"][result]
    expect(answer.locator(".decision")).to_have_text(words)
    expect(answer.locator(".value")).to_contain_text(f"{100 * probability:.1f}%".replace(".0%", "%"))
    meter = answer.get_by_role("img", name=re.compile(f"threshold {100 * threshold:.1f}%".replace(".0%", "%")))
    expect(meter).to_be_visible()
    shares = meter.evaluate("bar => [...bar.children].map(part => parseFloat(part.style.width || part.style.left))")
    assert shares == pytest.approx([100 * probability, 100 * threshold], abs=0.01)
    expect(answer).to_contain_text(expected["model"])


def example_of(page: Page) -> dict[str, Any]:
    """The record in the form as it stands at first."""
    record: dict[str, Any] = page.evaluate("JSON.parse(shownUseCase().dataset.example)")
    return record


def explained(page: Page, server: Server, use_case: str, record: Any) -> dict[str, Any]:
    (one,) = api_answer(page, server, f"explain/{use_case}", record)["explanations"]
    return dict(one)


def reasons_shown(answer: Locator) -> dict[str, list[str]]:
    """The reasons under each heading, in the order of the page."""
    found: dict[str, list[str]] = answer.evaluate(
        """answer => Object.fromEntries([...answer.querySelectorAll("h4")].slice(0, 2).map(heading => [
            heading.textContent,
            [...heading.nextElementSibling.querySelectorAll("li")].map(item => item.firstChild.textContent),
        ]))"""
    )
    return found


# Sent in place of the example; anyone would expect the second to be paid back.
DECISIONS: dict[int, dict[str, Any]] = {
    1: {},
    0: {"checking_balance": "unknown", "months_loan_duration": 6, "amount": 1000, "savings_balance": "> 1000 DM"},
}


@pytest.mark.parametrize("result", DECISIONS)
def test_what_speaks_for_the_decision_that_was_made_comes_first(server: Server, page: Page, result: int) -> None:
    place = opened(page, server)
    for name, value in DECISIONS[result].items():
        control = place.locator(f"[name={name}]")
        control.select_option(value) if isinstance(value, str) else control.fill(str(value))
    answer = predict(place)
    expect(answer.locator("table.bars")).to_be_visible()
    one = explained(page, server, "credit", {**example_of(page), **DECISIONS[result]})
    assert one["result"] == result
    outcomes = ["Expected to repay", "Expected to default"]
    expect(answer.locator(".decision")).to_have_text(outcomes[result])
    assert list(reasons_shown(answer).items()) == [
        (f"Speaks for “{outcomes[result]}”", [reason["reason"] for reason in one["reasons"]]),
        (f"Speaks for “{outcomes[1 - result]}”", [reason["reason"] for reason in one["counter_reasons"]]),
    ]
    shown = [*one["reasons"], *one["counter_reasons"]]
    for reason, item in zip(shown, answer.locator(".reasons > li").all(), strict=True):
        assert item.locator(".badge").count() == reason["protected"]


def test_a_side_that_nothing_speaks_for_says_so(server: Server, page: Page) -> None:
    def answered(route: Route) -> None:
        body = route.fetch().json()
        body["explanations"][0]["counter_reasons"] = []
        route.fulfill(json=body)

    place = opened(page, server)
    page.route("**/explain/*", answered)
    answer = predict(place)
    expect(answer.locator("h4").nth(1)).to_have_text("Speaks for “Expected to repay”")
    expect(answer.locator("h4:nth-of-type(2) + p")).to_have_text("Nothing in this record does.")
    assert_accessible(page)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_contributions_are_a_table_with_bars_as_long_as_the_contributions(
    server: Server, page: Page, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(reduced_motion="reduce")
    place = opened(page, server)
    answer = predict(place)
    expect(answer.locator("table.bars")).to_be_visible()
    one = explained(page, server, "credit", example_of(page))
    parts = sorted(one["contributions"].values(), key=abs, reverse=True)
    rows = answer.locator("table.bars tbody tr")
    others = [part for part in parts[10:] if abs(part) > 1e-9]
    expect(rows).to_have_count(10 + bool(others))
    widths = rows.first.locator("th, td").evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().width)")
    assert widths[2] == pytest.approx(68, abs=1)  # 4.25rem for the figure; the rest is for name and picture
    assert widths[0] == pytest.approx(0.42 * sum(widths), abs=1)
    half = (widths[1] - 2) / 2  # less the cell's padding
    shown = [*parts[:10], *([sum(others)] if others else [])]
    largest = max(map(abs, shown))
    for part, row in zip(shown, rows.all(), strict=True):
        figure = float(row.locator(".number").inner_text().replace("\u2212", "-").replace(",", ""))
        assert figure == pytest.approx(part, abs=largest / 100)
        assert row.locator(".number").evaluate("cell => cell.scrollWidth <= cell.clientWidth")
        bar = row.locator(".up" if part > 0 else ".down").bounding_box()
        assert bar
        assert bar["width"] == pytest.approx(half * abs(part) / largest, abs=1)


@pytest.mark.parametrize(
    ("number", "largest", "text"),
    [
        (-0.0031, 0.543, "\u22120.003"),
        (0.0001, 0.543, "0.000"),
        (12.34, 12.34, "+12.3"),
        (-2.25, 1234.5, "\u22122"),
        (1234.5, 1234.5, "+1,235"),
        (-9_876_543, 9_876_543, "\u22129.88M"),
        (0.0001234, 0.0001234, "+1.23E\u22124"),
    ],
)
def test_contributions_are_written_in_the_digits_of_the_largest(
    server: Server, page: Page, number: float, largest: float, text: str
) -> None:
    opened(page, server)
    assert page.evaluate("parts => signed(...parts)", [number, largest]) == text


def test_a_regression_is_answered_with_its_value(server: Server, page: Page, bikes: UseCase) -> None:
    place = opened(page, server, "bikes")
    answer = predict(place)
    (value,) = api_answer(page, server, "output/bikes", bikes.example)["result"]
    expect(answer.locator(".value")).to_have_text(f"{value:.1f}".removesuffix(".0") if value >= 100 else f"{value:.3g}")
    expect(answer.locator("table.bars tbody th").first).to_be_visible()
    expect(answer.locator(".decision, .meter")).to_have_count(0)
    one = explained(page, server, "bikes", bikes.example)
    assert list(reasons_shown(answer).items()) == [
        ("What raises the value", [reason["reason"] for reason in one["reasons"]]),
        ("What lowers the value", [reason["reason"] for reason in one["counter_reasons"]]),
    ]


def test_what_is_left_empty_is_left_out(server: Server, page: Page) -> None:
    place = opened(page, server, "bikes")
    with page.expect_request("**/output/bikes") as sent:
        predict(place)
    assert "year" not in sent.value.post_data_json
    place.get_by_label("Year").fill("2011")
    with page.expect_request("**/output/bikes") as sent:
        predict(place)
    assert sent.value.post_data_json["year"] == 2011


def test_a_change_marks_the_answer_as_old_and_the_example_can_be_had_again(server: Server, page: Page) -> None:
    place = opened(page, server)
    answer = predict(place)
    expect(answer.locator(".decision")).to_be_visible()
    place.get_by_label("Age").fill("60")
    expect(answer).to_have_class("answer old")
    place.get_by_role("button", name="Start over").click()
    expect(place.get_by_label("Age")).to_have_value("35")
    expect(answer.locator(".decision")).to_have_count(0)


def test_errors_stand_beside_their_fields_and_the_first_has_the_focus(
    server: Server, page: Page, refusals: set[int]
) -> None:
    refusals.add(422)
    place = opened(page, server)
    age, amount = place.get_by_label("Age"), place.get_by_label("Amount of the loan")
    age.fill("7")
    amount.fill("")
    answer = predict(place)
    expect(amount).to_be_focused()
    for control, message in ((amount, "Missing data for required field."), (age, TOO_YOUNG)):
        expect(control).to_have_attribute("aria-invalid", "true")
        expect(control).to_have_accessible_description(re.compile(re.escape(message) + "$"))
    expect(place.locator("[aria-invalid]")).to_have_count(2)
    expect(answer.get_by_role("alert")).to_have_text("Check the marked fields.")
    assert_accessible(page)
    amount.fill("1000")
    expect(amount).not_to_have_attribute("aria-invalid", "true")
    age.fill("70")
    expect(predict(place).locator(".decision")).to_be_visible()
    expect(place.locator("[aria-invalid]")).to_have_count(0)


def test_a_text_in_the_place_of_a_number_is_an_error_of_that_field(
    server: Server, page: Page, refusals: set[int]
) -> None:
    refusals.add(422)
    place = opened(page, server)
    place.get_by_label("Age").fill("")
    place.get_by_label("Age").press_sequentially("3e")
    predict(place)
    expect(place.locator("#credit-field-age-error")).to_have_text("Not a valid integer.")


def test_a_problem_that_no_field_has_is_said(server: Server, page: Page, refusals: set[int]) -> None:
    refusals.add(404)
    place = opened(page, server)
    place.locator(".model option").first.evaluate("option => option.value = 'credit-gone_v1.0.0-1.000000'")
    answer = predict(place)
    expect(answer.get_by_role("alert")).to_contain_text("There is no model of that name")


def test_an_answer_that_is_not_the_services_own_is_said(server: Server, page: Page, refusals: set[int]) -> None:
    refusals.add(502)
    place = opened(page, server)
    page.route("**/output/*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    answer = predict(place)
    expect(answer.get_by_role("alert")).to_have_text("The service answered with status 502.")


def test_a_service_that_is_gone_is_said(server: Server, page: Page) -> None:
    place = opened(page, server)
    page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError()); }")  # a real one logs an error
    answer = predict(place)
    expect(answer.get_by_role("alert")).to_have_text("The service cannot be reached.")


# models


def test_another_model_answers_when_it_is_picked(server: Server, page: Page, refusals: set[int]) -> None:
    refusals.add(501)
    place = opened(page, server, "bikes")
    answer = predict(place)
    expect(answer.locator(".id")).to_contain_text("bikes-")
    models = place.get_by_label("Model", exact=True)
    models.select_option(models.locator("option", has_text="SVR").get_attribute("value"))
    expect(answer.locator(".value")).to_have_count(0)
    predict(place)
    expect(answer.locator(".id")).to_contain_text("bikes-SVR")
    expect(answer.locator(".value")).to_be_visible()
    expect(answer.locator(".explanation")).to_contain_text("cannot explain its predictions")


def test_each_use_case_keeps_its_form_and_answer(server: Server, page: Page) -> None:
    credit = opened(page, server)
    expect(predict(credit).locator(".decision")).to_be_visible()
    page.get_by_label("Use case").select_option("bikes")
    expect(page.get_by_role("heading", name="Bike rentals")).to_be_visible()
    expect(credit).to_be_hidden()
    page.get_by_label("Use case").select_option("credit")
    expect(credit.locator(".decision")).to_be_visible()


def test_the_champions_report_is_one_click_away(server: Server, page: Page) -> None:
    place = opened(page, server)
    link = place.locator(".models li", has_text="champion").get_by_role("link", name="Report")
    address = link.evaluate("link => link.href")
    with page.context.expect_page() as tab:
        link.click()
    expect(tab.value).to_have_url(address)
    expect(tab.value.locator("h1")).to_be_visible()


# files


@pytest.mark.parametrize("as_file", [csv_file, xlsx_file])
def test_a_file_is_answered_row_by_row_and_the_answers_can_be_downloaded(
    server: Server, page: Page, credit: UseCase, as_file: Callable[..., FilePayload], tmp_path: Path
) -> None:
    place = opened(page, server)
    place.get_by_label("Choose a file").set_input_files([as_file(credit, {}, {"age": 7}, {"age": 60})])
    expect(place.locator(".upload-status")).to_have_text(re.compile(r"^records\.\w+: 3 rows; 1 invalid\.$"))
    expect(place.locator(".progress")).to_be_hidden()
    table = place.get_by_role("region", name="Answers")
    shown = ["Row", "result", "outcome", "probability", "errors"]
    assert table.locator("thead th").all_inner_texts()[:5] == shown
    rows = [row.locator("th, td").all_inner_texts()[:5] for row in table.locator("tbody tr").all()]
    expected = api_answer(page, server, "output/credit", [credit.example, {**credit.example, "age": 60}])
    first, second = expected["probability"]
    assert [row[0] for row in rows] == ["2", "3", "4"]  # as a spreadsheet counts them
    assert rows[1][1:] == ["", "", "", f"age: {TOO_YOUNG}"]
    assert [float(rows[0][3]), float(rows[2][3])] == pytest.approx([first, second], abs=0.001)
    with page.expect_download() as download:
        place.get_by_text("Download the answers").click()
    name = download.value.suggested_filename
    download.value.save_as(tmp_path / name)
    if as_file is csv_file:  # in the kind that was sent
        assert name == "records-answers.csv"
        header, *lines = [line.split(",") for line in (tmp_path / name).read_text().splitlines()]
    else:
        assert name == "records-answers.xlsx"
        header, *lines = [list(map(str, row)) for row in load_workbook(tmp_path / name).active.values]
    assert header == [*credit.example, "result", "outcome", "probability", "errors"]
    assert len(lines) == 3
    assert str(first) in lines[0]
    assert TOO_YOUNG in lines[1][-1]
    assert_accessible(page)


def test_a_file_can_be_dropped_and_its_rows_are_gone_through_page_by_page(
    server: Server, page: Page, bikes: UseCase
) -> None:
    place = opened(page, server, "bikes")
    file = csv_file(bikes, *[{"hour": hour % 24} for hour in range(1200)])
    data = page.evaluate_handle(
        """text => {
            const data = new DataTransfer();
            data.items.add(new File([text], "hours.csv"));
            return data;
        }""",
        file["buffer"].decode(),
    )
    for event in ("dragover", "drop"):
        place.locator(".drop").dispatch_event(event, {"dataTransfer": data})
    expect(place.locator(".upload-status")).to_have_text("hours.csv: 1,200 rows; none invalid.")
    rows = place.locator(".table tbody tr")
    back, following = (place.get_by_role("button", name=name) for name in ("Previous", "Next"))
    expect(rows).to_have_count(50)
    expect(back).to_be_disabled()
    expect(place.get_by_label("Show")).to_be_hidden()
    for number in range(2, 25):
        following.click()
        expect(place.locator(".pager")).to_contain_text(f"Page {number} of 24")
    assert [rows.first.locator("th").inner_text(), rows.last.locator("th").inner_text()] == ["1152", "1201"]
    expect(following).to_be_disabled()
    expect(back).to_be_focused()
    back.click()
    expect(rows.first.locator("th")).to_have_text("1102")


def test_rows_at_fault_can_be_seen_wherever_they_stand(server: Server, page: Page, credit: UseCase) -> None:
    place = opened(page, server)
    at_fault = [3, *range(60, 120), 199]
    changes: list[dict[str, Any]] = [{"age": 7} if row in at_fault else {} for row in range(2, 202)]
    place.locator(".upload").set_input_files([csv_file(credit, *changes)])
    expect(place.locator(".upload-status")).to_have_text("records.csv: 200 rows; 62 invalid.")
    place.get_by_label("Show").select_option("Invalid rows (62)")
    rows = place.locator(".table tbody tr")
    expect(rows).to_have_count(50)
    seen = rows.all_inner_texts()
    assert_accessible(page)
    place.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(12)
    seen += rows.all_inner_texts()
    assert [int(text.split()[0]) for text in seen] == at_fault
    assert all(TOO_YOUNG in text for text in seen)
    place.get_by_label("Show").select_option("All rows (200)")
    expect(rows).to_have_count(50)
    expect(place.locator(".pager")).to_contain_text("Page 1 of 4")


def test_a_row_has_the_number_that_the_service_gives_it(server: Server, page: Page, credit: UseCase) -> None:
    """A file with blank lines, for instance; when the service gives no numbers, none are made up."""
    place = opened(page, server)
    numbers = {"Row-Numbers": "3-4,7"}
    page.route(
        "**/outputs_upload/*",
        lambda route: route.fulfill(body="result\n1\n1\n\n1\n", content_type="text/csv", headers=numbers),
    )
    place.locator(".upload").set_input_files([csv_file(credit, {})])
    expect(place.locator(".table tbody th")).to_have_text(["3", "4", "7", ""])
    page.unroute_all()
    page.route("**/outputs_upload/*", lambda route: route.fulfill(body="result\n1\n", content_type="text/csv"))
    place.locator(".upload").set_input_files([csv_file(credit, {})])
    expect(place.locator(".table tbody th")).to_have_text([""])


def test_faults_by_row_are_listed_with_the_row_as_the_service_counts_it(
    server: Server, page: Page, credit: UseCase, refusals: set[int]
) -> None:
    refusals.add(422)
    errors = {"rows": {"2": {"age": [TOO_YOUNG]}, "7": {"job": ["A.", "B."]}}, "count": 3}
    problem = {"status": 422, "detail": "Some rows are invalid.", "errors": errors}
    page.route("**/outputs_upload/*", lambda route: route.fulfill(status=422, json=problem))
    place = opened(page, server)
    place.locator(".upload").set_input_files([csv_file(credit, {})])
    alert = place.locator("section", has_text="A whole file").get_by_role("alert")
    expect(alert.get_by_role("listitem")).to_have_text([f"Row 2, age: {TOO_YOUNG}", "Row 7, job: A. B.", "1 more row."])


def test_the_example_file_is_one_that_can_be_uploaded(server: Server, page: Page, tmp_path: Path) -> None:
    place = opened(page, server)
    with page.expect_download() as download:
        place.get_by_role("link", name="an example").click()
    assert download.value.suggested_filename == "credit-example.csv"
    download.value.save_as(tmp_path / "example.csv")
    place.locator(".upload").set_input_files(tmp_path / "example.csv")
    expect(place.locator(".upload-status")).to_contain_text("1 row; none invalid")


def test_a_file_that_does_not_fit_is_refused_with_the_reason(server: Server, page: Page, refusals: set[int]) -> None:
    refusals |= {415, 422}
    place = opened(page, server, "bikes")
    alert = place.locator("section", has_text="A whole file").get_by_role("alert")
    for name, content, reasons in (
        ("picture.png", b"\x89PNG", [NOT_A_TABLE]),
        ("hours.csv", b"hour,colour\n1,red\n", ["The file cannot be used", "1 unknown column(s), B;", "weekday:"]),
    ):
        place.locator(".upload").set_input_files([{"name": name, "mimeType": "text/csv", "buffer": content}])
        for reason in reasons:
            expect(alert).to_contain_text(reason)
    expect(place.locator(".table")).to_be_empty()


class Slow:
    """The service behind a door: uploads are read, and answered, when the test says so."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app
        self.read, self.answer = Event(), Event()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if "outputs_upload" not in environ["PATH_INFO"]:
            return self.app(environ, start)
        assert self.read.wait(60)
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        assert self.answer.wait(60)
        return Response("result\n1\n", mimetype="text/csv")(environ, start)


def test_an_upload_is_first_sent_and_then_worked_on(trained: Registry, page: Page, tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    file.write_bytes(b"x" * 40_000_000)  # more than what lies between browser and service takes in
    limits: dict[str, Any] = {"max_content_length": 50_000_000, "sync_rows": 1_000_000, "max_rows": 1_000_000}
    slow = Slow(create_app(Settings(model_registry=trained.location, auth_required=False, **limits)))
    with serving(slow) as url:
        page.goto(url)
        place = page.locator(".use-case:visible")
        bar, status = place.get_by_role("progressbar", name="Progress"), place.locator(".upload-status")
        place.locator(".upload").set_input_files(file)
        expect(status).to_have_text("Sending large.csv ...")
        assert float(bar.get_attribute("value") or "nan") < 1
        slow.read.set()
        expect(status).to_have_text("Working on large.csv ...")
        assert bar.get_attribute("value") is None  # neither full nor of any length
        assert_accessible(page)
        slow.answer.set()
        expect(status).to_have_text("large.csv: 1 row; none invalid.")
        expect(place.locator(".progress")).to_be_hidden()


def test_the_newest_upload_is_the_one_that_counts(server: Server, page: Page, credit: UseCase) -> None:
    place = opened(page, server)
    page.route("**/outputs_upload/*", lambda route: None)  # never answered
    place.locator(".upload").set_input_files([csv_file(credit, {})])
    expect(place.get_by_role("progressbar", name="Progress")).to_be_visible()
    page.unroute_all()
    place.locator(".upload").set_input_files([csv_file(credit, {}, {})])
    expect(place.locator(".upload-status")).to_contain_text("2 rows")
    expect(place.locator(".progress")).to_be_hidden()


def test_a_file_that_is_too_large_is_not_sent(server: Server, page: Page, tmp_path: Path) -> None:
    place = opened(page, server)
    large = tmp_path / "large.csv"
    large.write_bytes(b"a" * (16 * 1024 * 1024 + 1))
    place.locator(".upload").set_input_files(large)
    expect(place.locator("section", has_text="A whole file").get_by_role("alert")).to_contain_text(
        "larger than 16.8 MB"
    )


# the login


def log_in(page: Page, name: str, password: str) -> Locator:
    dialog = page.get_by_role("dialog", name="Log in")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Password").fill(password)
    dialog.get_by_role("button", name="Log in").click()
    return dialog


def browser_dialogs(page: Page) -> list[str]:
    """A list that is filled with the addresses for which Chromium would show a login of its own."""
    asked: list[str] = []
    client = page.context.new_cdp_session(page)

    def ask(event: dict[str, Any]) -> None:
        asked.append(event["request"]["url"])
        refusal = {"requestId": event["requestId"], "authChallengeResponse": {"response": "CancelAuth"}}
        client.send("Fetch.continueWithAuth", refusal)

    client.on("Fetch.authRequired", ask)
    client.on(
        "Fetch.requestPaused", lambda event: client.send("Fetch.continueRequest", {"requestId": event["requestId"]})
    )
    client.send("Fetch.enable", {"handleAuthRequests": True})
    return asked


def test_a_login_is_asked_for_and_only_the_right_one_gets_an_answer(
    locked: Server, page: Page, refusals: set[int]
) -> None:
    refusals.add(401)
    place = opened(page, locked)
    asked = browser_dialogs(page)
    answer = predict(place)
    dialog = log_in(page, ALICE[0], "wrong horse")
    expect(dialog.get_by_role("alert")).to_have_text("Wrong name or password.")
    assert_accessible(page)
    expect(log_in(page, *ALICE)).to_be_hidden()
    expect(answer.locator(".decision")).to_be_visible()
    expect(answer.locator("table.bars")).to_be_visible()
    page.get_by_label("Use case").select_option("bikes")  # who is logged in stays so
    bikes = page.locator('.use-case[data-name="bikes"]')
    expect(predict(bikes).locator(".value")).to_be_visible()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.get_by_role("button", name="Log out alice").click()
    predict(bikes)
    expect(dialog.get_by_label("Password")).to_have_value("")
    page.keyboard.press("Escape")
    expect(bikes.locator(".answer").get_by_role("alert")).to_have_text("Only users get an answer: log in first.")
    assert asked == []


def test_a_file_needs_a_login_too(locked: Server, page: Page, credit: UseCase, refusals: set[int]) -> None:
    refusals.add(401)
    place = opened(page, locked)
    asked = browser_dialogs(page)
    page.get_by_role("button", name="Log in").click()
    log_in(page, *ALICE)
    place.locator(".upload").set_input_files([csv_file(credit, {})])
    expect(place.locator(".upload-status")).to_contain_text("1 row;")
    # a password that does not count any more
    page.evaluate("authorization = basic('alice', 'formerly right, \u00fcber')")
    place.locator(".upload").set_input_files([csv_file(credit, {}, {})])
    log_in(page, *ALICE)
    expect(place.locator(".upload-status")).to_contain_text("2 rows")
    assert asked == []


def held(page: Page) -> str:
    """All that the page shows and holds in its fields, without the models."""
    text: str = page.evaluate(
        """() => [...document.querySelectorAll("form.record, .answer, .use-case > section:not(:last-child)")]
            .map(part => part.textContent + [...part.querySelectorAll("[name]")].map(one => one.value))
            .join(" ")"""
    )
    return text


@pytest.mark.parametrize("how", ["by the button", "by another user", "without a password that counts"])
def test_what_a_user_sent_and_got_goes_with_the_user(
    locked: Server, page: Page, credit: UseCase, refusals: set[int], how: str
) -> None:
    refusals.add(401)
    place = opened(page, locked)
    before = held(page)
    page.get_by_role("button", name="Log in").click()
    log_in(page, *ALICE)
    place.get_by_label("Amount of the loan").fill("98765")
    expect(predict(place).locator("table.bars")).to_be_visible()
    place.locator(".upload").set_input_files([csv_file(credit, {"amount": 87654}, {"age": 7})])
    expect(place.locator(".table")).to_contain_text("87654")
    page.get_by_label("Use case").select_option("bikes")  # the answers of a hidden use case are not kept
    bikes = page.locator('.use-case[data-name="bikes"]')
    if how == "by the button":
        page.get_by_role("button", name="Log out alice").click()
    else:
        page.evaluate("authorization = basic('alice', 'formerly right')")
        predict(bikes)
        expect(page.get_by_role("dialog")).to_be_visible()
        if how == "by another user":
            page.evaluate("user = 'somebody else'")
            log_in(page, *ALICE)
        else:
            page.keyboard.press("Escape")
    name = "Log out alice" if how == "by another user" else "Log in"
    expect(page.get_by_role("button", name=name)).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator(".upload-status, .table td, .decision, .value, table.bars")).to_have_text([""] * 2)
    assert held(page) == before


def test_what_is_still_being_asked_at_logout_is_given_up(
    locked: Server, page: Page, credit: UseCase, refusals: set[int]
) -> None:
    place = opened(page, locked)
    page.get_by_role("button", name="Log in").click()
    log_in(page, *ALICE)
    expect(page.get_by_role("button", name="Log out alice")).to_be_visible()
    before = held(page)
    page.route("**/outputs_upload/*", lambda route: None)  # never answered
    page.route("**/explain/*", lambda route: None)
    expect(predict(place).locator(".decision")).to_be_visible()
    with page.expect_request("**/outputs_upload/*") as sent:
        place.locator(".upload").set_input_files([csv_file(credit, {})])
    with page.expect_event("requestfailed", lambda request: request == sent.value):
        page.get_by_role("button", name="Log out alice").click()
    expect(place.locator(".progress")).to_be_hidden()
    assert held(page) == before


# for everybody


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("use_case", ["credit", "bikes"])
def test_there_is_no_serious_fault_by_axe(server: Server, page: Page, scheme: Any, use_case: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    place = opened(page, server, use_case)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", colour))) < 64) == (scheme == "dark")
    assert_accessible(page)
    expect(predict(place).locator("table.bars")).to_be_visible()
    place.locator("details").first.click()
    assert_accessible(page)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_is_wider_than_the_window(server: Server, page: Page, credit: UseCase, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    place = opened(page, server)
    assert overflow(page) == 0
    answer = predict(place)
    expect(answer.locator("table.bars")).to_be_visible()
    place.locator(".upload").set_input_files([csv_file(credit, {}, {"age": 7})])
    expect(place.locator(".table tbody tr")).to_have_count(2)
    assert overflow(page) == 0


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_answer_is_in_view(server: Server, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    answer = predict(opened(page, server))
    expect(answer.locator("table.bars")).to_be_visible()
    expect(answer.locator(".decision")).to_be_in_viewport(ratio=1)
    page.evaluate("window.scrollTo(0, 0)")  # the button is always at hand
    expect(page.get_by_role("button", name="Predict")).to_be_in_viewport(ratio=1)


def opened_by_space(page: Page) -> FileChooser:
    """What the space bar opens; a busy Chromium does not take every key that is pressed for a person's."""
    for _ in range(5):
        with suppress(PlaywrightTimeout), page.expect_file_chooser(timeout=10_000) as chooser:
            page.keyboard.press("Space")
        with suppress(PlaywrightTimeout):
            return chooser.value
    pytest.fail("No file can be chosen with the keyboard.")


def test_the_keyboard_is_enough(server: Server, page: Page, bikes: UseCase) -> None:
    page.goto(server.url)
    keyboard = page.keyboard

    def focused() -> str:
        identifier: str = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        return identifier

    keyboard.press("Tab")
    assert focused() == "Skip to content"
    keyboard.press("Tab")
    assert focused() == "use-case"
    keyboard.type("Bike")
    seen = []
    while focused() != "Download the answers" and len(seen) < 40:
        keyboard.press("Tab")
        seen.append(focused())
        if seen[-1] == "bikes-field-hour":
            keyboard.press("ControlOrMeta+a")
            keyboard.type("8")
        if seen[-1] == "Predict":
            keyboard.press("Enter")
            expect(page.locator("table.bars:visible")).to_be_visible()
        if seen[-1] == "bikes-upload":
            opened_by_space(page).set_files([csv_file(bikes, {})])
            expect(page.get_by_role("region", name="Answers")).to_be_visible()
    fields = [f"bikes-field-{feature.name}" for feature in bikes.features]
    buttons = ["Predict", "Start over"]
    assert seen == ["API", "bikes-model", *fields, *buttons, "bikes-upload", "an example", "Download the answers"]
    (value,) = api_answer(page, server, "output/bikes", {**bikes.example, "hour": 8})["result"]
    expect(page.locator(".value:visible")).to_have_text(
        f"{value:.1f}".removesuffix(".0") if value >= 100 else f"{value:.3g}"
    )


@contextmanager
def serving(app: WSGIApplication) -> Iterator[str]:
    """The address of an application while the `with` block runs."""
    with make_server("127.0.0.1", 0, app, threaded=True) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.port}"
        finally:
            running.shutdown()
            thread.join()


def test_it_does_not_matter_where_the_service_is_mounted(trained: Registry, page: Page) -> None:
    app = create_app(Settings(model_registry=trained.location, auth_required=False))
    with serving(DispatcherMiddleware(Response(status=404), {"/our/api": app})) as url:
        page.goto(f"{url}/our/api/")
        answer = predict(page.locator(".use-case:visible"))
        expect(answer.locator("table.bars")).to_be_visible()
