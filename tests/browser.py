"""A browser for tests of pages: `page` is a tab that fails its test when anything is wrong with what it shows."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tabserve.registry.registry import Registry
from tests.conftest import Server, running_server

FLAGS = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing here needs another host
]

PATIENCE = 60_000  # ms that a busy machine may take
expect.set_options(timeout=PATIENCE)

REFUSAL = "Failed to load resource: the server responded with a status of"
AWAY = "Failed to load resource: net::"


def fault_of_playwright() -> str | None:
    """Why Playwright's own node does not start, in its words; None when it does."""
    done = subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else Playwright's own."""
    if fault := fault_of_playwright():
        pytest.skip(f"Playwright does not start; if libatomic.so.1 is missing, apt-get install libatomic1: {fault}")
    with sync_playwright() as playwright:
        executable = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(executable).exists():
            pytest.skip("there is no browser: install Debian's chromium")
        running = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def locked(trained: Registry, users_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running service whose predictions need a user."""
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(users_file),
    }
    with running_server(tmp_path_factory.mktemp("locked") / "log.txt", environment) as running:
        yield running


@pytest.fixture
def refusals() -> set[int]:
    """The statuses above 399 that a test expects, 0 for a service that is away: Chromium logs each as an error."""
    return set()


@pytest.fixture
def page(browser: Browser, refusals: set[int]) -> Iterator[Page]:
    """A new tab; at the end, no error was logged, no policy violated, and no other host asked than the first one."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    faults: list[str] = []
    asked: list[str] = []
    # a violated Content-Security-Policy is logged as an error, too
    tab.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    yield tab
    context.close()
    expected = tuple(f"{REFUSAL} {status} " if status else AWAY for status in refusals)
    assert [fault for fault in faults if not fault.startswith(expected)] == []
    hosts = dict.fromkeys(urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:")))
    assert len(hosts) == 1, list(hosts)
