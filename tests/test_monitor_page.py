"""`GET /monitor`: a page that loads nothing, for those who may read."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tabserve.api.app import create_app
from tabserve.decisions.store import DecisionStore
from tabserve.monitoring.kept import keep
from tabserve.monitoring.monitor import monitor
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE
from tests.decisions import fill

pytest_plugins = ["tests.browser"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, artifact: Artifact, records: list[dict[str, Any]]) -> str:
    """A log of decisions of the last hour in two arms, in which all loans are long, that was looked at."""
    address = f"sqlite:///{tmp_path_factory.mktemp('log') / 'decisions.db'}"
    store = DecisionStore(address)
    happened = np.random.default_rng(1).integers(1, 3, len(records)).tolist()
    long = [{**record, "months_loan_duration": 60} for record in records]
    for part, arm in ((slice(0, 600), artifact.model_id), (slice(600, 1000), "credit-a_v1-1.2")):
        when = [time.time() - 60] * len(long[part])
        fill(store, artifact, long[part], when, happened[part], first=part.start, arm=arm)
    keep(store, monitor(store, artifact).to_json())
    store.database.close()
    return address


def settings(trained: Registry, log: str | None, **changes: Any) -> Settings:
    return replace(Settings(model_registry=trained.location, auth_required=False, decision_log=log), **changes)


def test_the_page_shows_traffic_drift_and_quality(trained: Registry, log: str) -> None:
    answer = create_app(settings(trained, log)).test_client().get("/monitor")
    assert answer.status_code == 200
    text = answer.get_data(as_text=True)
    assert re.search(r'<th scope="row">credit</th>(<td>1,000</td>){3}', text)
    assert "months_loan_duration is not distributed as in training" in text
    assert "✗ failed" in text
    assert "Nobody has looked at bikes: run tabserve monitor bikes --since 30d, once a day." in text


def test_the_page_loads_and_runs_nothing(trained: Registry, log: str) -> None:
    answer = create_app(settings(trained, log)).test_client().get("/monitor")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cache-Control"] == "no-store"
    text = answer.get_data(as_text=True)
    assert not re.search(r"https?:|<script|<img|<iframe|@import", text)


def test_without_a_log_the_page_says_so(trained: Registry) -> None:
    answer = create_app(settings(trained, None)).test_client().get("/monitor")
    assert answer.status_code == 501
    assert "set DECISION_LOG=on" in answer.get_data(as_text=True)


def test_a_log_that_is_away_is_said(trained: Registry, tmp_path: Path) -> None:
    answer = create_app(settings(trained, f"sqlite:///{tmp_path / 'no' / 'such.db'}")).test_client().get("/monitor")
    assert answer.status_code == 503


def test_only_those_who_may_read_see_it(trained: Registry, log: str, users_file: Path) -> None:
    client = create_app(settings(trained, log, auth_required=True, auth_users_file=users_file)).test_client()
    assert client.get("/monitor").status_code == 401
    assert client.get("/monitor", auth=ALICE).status_code == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_on_a_telephone_in_light_and_dark(
    trained: Registry,
    log: str,
    browser: Browser,
    tmp_path: Path,
    scheme: Any,
) -> None:
    file = tmp_path / "monitor.html"
    file.write_bytes(create_app(settings(trained, log)).test_client().get("/monitor").data)
    tab = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    messages: list[str] = []
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("request", lambda request: messages.append(request.url))
    tab.goto(file.as_uri())
    assert [message for message in messages if message != file.as_uri() and not message.startswith("data:")] == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert not Axe().run(tab).response["violations"]
    tab.close()
