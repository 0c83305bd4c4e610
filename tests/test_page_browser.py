"""`/` as a browser shows it, from a running service."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from openpyxl import Workbook
from playwright.sync_api import FilePayload, Locator, Page, expect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from api.app import create_app
from api.config import Settings
from src.datasets.reader import write_csv
from src.registry import Registry
from src.use_cases.declaration import UseCase
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
    """A file with the example as often as there are changes to it."""
    rows = [{**use_case.example, **change} for change in changes]
    return {"name": "records.csv", "mimeType": "text/csv", "buffer": write_csv(list(rows[0]), rows).encode()}


def xlsx_file(use_case: UseCase, *changes: dict[str, Any]) -> FilePayload:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(list(use_case.example))
    for change in changes:
        sheet.append(list({**use_case.example, **change}.values()))
    content = io.BytesIO()
    book.save(content)
    return {"name": "records.xlsx", "mimeType": XLSX, "buffer": content.getvalue()}


def assert_accessible(page: Page) -> None:
    """No serious fault by the rules of axe-core."""
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


def test_contributions_are_a_table_with_bars_and_reasons_are_words(server: Server, page: Page) -> None:
    place = opened(page, server)
    answer = predict(place)
    record = page.evaluate("JSON.parse(document.querySelector('.use-case').dataset.example)")
    (explained,) = api_answer(page, server, "explain/credit", record)["explanations"]
    expect(answer.locator(".reasons > li")).to_have_count(len(explained["reasons"]))
    for reason, item in zip(explained["reasons"], answer.locator(".reasons > li").all(), strict=True):
        expect(item).to_contain_text(reason["reason"])
        assert item.locator(".badge").count() == reason["protected"]
    parts = sorted(explained["contributions"].values(), key=abs, reverse=True)
    rows = answer.locator("table.bars tbody tr")
    for part, row in zip(parts[:10], rows.all(), strict=False):
        shown = float(row.locator(".number").inner_text().replace("\u2212", "-").replace(",", ""))
        assert shown == pytest.approx(part, rel=0.01)
        assert row.locator(".up" if part > 0 else ".down").count() == 1
    others = [part for part in parts[10:] if abs(part) > 1e-9]
    expect(rows).to_have_count(10 + bool(others))
    largest = rows.first.locator(".bar").bounding_box()
    column = rows.first.locator(".picture > div").bounding_box()
    assert largest
    assert column
    assert largest["width"] == pytest.approx(column["width"] / 2, abs=1)


def test_a_regression_is_answered_with_its_value(server: Server, page: Page, bikes: UseCase) -> None:
    place = opened(page, server, "bikes")
    answer = predict(place)
    (value,) = api_answer(page, server, "output/bikes", bikes.example)["result"]
    expect(answer.locator(".value")).to_have_text(f"{value:.1f}".removesuffix(".0") if value >= 100 else f"{value:.3g}")
    expect(answer.locator("table.bars tbody th").first).to_be_visible()
    expect(answer.locator(".decision, .meter, .reasons")).to_have_count(0)


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
    expect(answer.get_by_role("alert")).to_have_text("Something in the form is not right; see there.")
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
    expect(answer.locator(".explanation")).to_contain_text("cannot explain its scores")


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
    place.get_by_label("Choose a CSV or XLSX file").set_input_files([as_file(credit, {}, {"age": 7}, {"age": 60})])
    expect(place.locator(".upload-status")).to_have_text(re.compile(r"^records\.\w+: 3 rows; 1 at fault\.$"))
    expect(place.locator(".progress")).to_be_hidden()
    table = place.get_by_role("region", name="Answers")
    assert table.locator("thead th").all_inner_texts()[:4] == ["Row", "result", "probability", "errors"]
    rows = [row.locator("th, td").all_inner_texts()[:4] for row in table.locator("tbody tr").all()]
    expected = api_answer(page, server, "output/credit", [credit.example, {**credit.example, "age": 60}])
    first, second = expected["probability"]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[1][1:] == ["", "", f"age: {TOO_YOUNG}"]
    assert [float(rows[0][2]), float(rows[2][2])] == pytest.approx([first, second], abs=0.001)
    with page.expect_download() as download:
        place.get_by_role("link", name="Download the answers").click()
    assert download.value.suggested_filename == "records-answers.csv"
    download.value.save_as(tmp_path / "answers.csv")
    header, *lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert header == ",".join([*credit.example, "result", "probability", "errors"])
    assert len(lines) == 3
    assert str(first) in lines[0]
    assert TOO_YOUNG in lines[1]
    assert_accessible(page)


def test_a_file_can_be_dropped_and_only_its_first_rows_are_shown(server: Server, page: Page, bikes: UseCase) -> None:
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
    expect(place.locator(".upload-status")).to_have_text("hours.csv: 1,200 rows, the first 50 below; none at fault.")
    expect(place.locator(".table tbody tr")).to_have_count(50)


def test_the_example_file_is_one_that_can_be_uploaded(server: Server, page: Page, tmp_path: Path) -> None:
    place = opened(page, server)
    with page.expect_download() as download:
        place.get_by_role("link", name="an example").click()
    assert download.value.suggested_filename == "credit-example.csv"
    download.value.save_as(tmp_path / "example.csv")
    place.locator(".upload").set_input_files(tmp_path / "example.csv")
    expect(place.locator(".upload-status")).to_contain_text("1 row; none at fault")


def test_a_file_that_does_not_fit_is_refused_with_the_reason(server: Server, page: Page, refusals: set[int]) -> None:
    refusals |= {415, 422}
    place = opened(page, server, "bikes")
    alert = place.locator("section", has_text="A whole file").get_by_role("alert")
    for name, content, reasons in (
        ("picture.png", b"\x89PNG", ["The file is neither CSV (UTF-8) nor XLSX."]),
        ("hours.csv", b"hour,colour\n1,red\n", ["The file does not fit", "colour:", "weekday:"]),
    ):
        place.locator(".upload").set_input_files([{"name": name, "mimeType": "text/csv", "buffer": content}])
        for reason in reasons:
            expect(alert).to_contain_text(reason)
    expect(place.locator(".table")).to_be_empty()


def test_the_progress_of_an_upload_is_shown(server: Server, page: Page, credit: UseCase) -> None:
    place = opened(page, server)
    page.route("**/outputs_upload/*", lambda route: None)  # never answered
    place.locator(".upload").set_input_files([csv_file(credit, {})])
    expect(place.get_by_role("progressbar", name="Upload")).to_be_visible()
    page.unroute_all()
    place.locator(".upload").set_input_files([csv_file(credit, {}, {})])  # the newest is the one that counts
    expect(place.locator(".upload-status")).to_contain_text("2 rows")
    expect(place.locator(".progress")).to_be_hidden()


def test_a_file_that_is_too_large_is_not_sent(server: Server, page: Page) -> None:
    place = opened(page, server)
    content = b"a" * (16 * 1024 * 1024 + 1)
    place.locator(".upload").set_input_files([{"name": "large.csv", "mimeType": "text/csv", "buffer": content}])
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
    expect(dialog.get_by_role("alert")).to_have_text("Name or password is wrong.")
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


def test_the_keyboard_is_enough(server: Server, page: Page, bikes: UseCase) -> None:
    page.goto(server.url)
    keyboard = page.keyboard

    def focused() -> str:
        identifier: str = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        return identifier

    keyboard.press("Tab")
    assert focused() == "Skip to the content"
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
            with page.expect_file_chooser() as chooser:
                keyboard.press("Space")
            chooser.value.set_files([csv_file(bikes, {})])
            expect(page.get_by_role("region", name="Answers")).to_be_visible()
    fields = [f"bikes-field-{feature.name}" for feature in bikes.features]
    buttons = ["Predict", "Start over"]
    assert seen == ["API", "bikes-model", *fields, *buttons, "bikes-upload", "an example", "Download the answers"]
    (value,) = api_answer(page, server, "output/bikes", {**bikes.example, "hour": 8})["result"]
    expect(page.locator(".value:visible")).to_have_text(
        f"{value:.1f}".removesuffix(".0") if value >= 100 else f"{value:.3g}"
    )


def test_it_does_not_matter_where_the_service_is_mounted(trained: Registry, page: Page) -> None:
    app = create_app(Settings(model_registry=trained.location, auth_required=False))
    mounts = DispatcherMiddleware(Response(status=404), {"/our/api": app})
    with make_server("127.0.0.1", 0, mounts, threaded=True) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        try:
            page.goto(f"http://127.0.0.1:{running.port}/our/api/")
            answer = predict(page.locator(".use-case:visible"))
            expect(answer.locator("table.bars")).to_be_visible()
        finally:
            running.shutdown()
            thread.join()
