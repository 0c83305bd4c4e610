"""The README's pictures: `python -m tests.screenshots`, with the models in MODEL_REGISTRY."""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import FLAGS
from tests.conftest import ROOT, running_server

IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 300_000  # of each picture


def main() -> None:
    """Photograph the page with an answer, and the report of the default use case's champion."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder) / "log.txt", {}) as server,
        sync_playwright() as playwright,
    ):
        executable = shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        page = new_tab(browser)
        page.goto(server.url)
        page.get_by_role("button", name="Predict").click()
        page.locator("table.bars").wait_for()
        save(page, "page.png")
        card = page.locator(".models li:visible", has=page.locator(".badge"))
        address = card.get_by_role("link", name="Report").evaluate("link => link.href")
        report = new_tab(browser)
        answer = report.goto(address)
        if not answer or not answer.ok:
            raise SystemExit("The service sends no report.")
        save(report, "report.png")


def new_tab(browser: Browser) -> Page:
    return browser.new_page(viewport={"width": 1280, "height": 1100}, color_scheme="light", reduced_motion="reduce")


def save(tab: Page, name: str) -> None:
    path = IMAGES / name
    tab.screenshot(path=path)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} is larger than {MOST_BYTES} bytes.")


if __name__ == "__main__":
    main()
