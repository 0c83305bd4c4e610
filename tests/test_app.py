"""The application: how it is made."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from tabserve.api.app import create_app
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ROOT


def test_settings_can_be_injected(tmp_path: Path) -> None:
    settings = Settings(model_registry=tmp_path, auth_required=False, max_rows=1, max_content_length=50)
    app = create_app(settings)
    assert app.extensions["settings"] is settings
    assert app.test_client().get("/models").json == {"models": []}


def test_without_settings_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path))
    monkeypatch.setenv("AUTH_REQUIRED", "false")
    assert create_app().extensions["settings"].model_registry == tmp_path


def test_two_applications_share_nothing(app: APIFlask, tmp_path: Path, record: dict[str, Any]) -> None:
    empty = create_app(Settings(model_registry=tmp_path / "empty", auth_required=False, max_content_length=10))
    assert app.test_client().post("/predict", json=record).status_code == 200
    assert empty.test_client().post("/predict").status_code == 503
    assert empty.test_client().get("/ready").status_code == 503
    assert app.test_client().get("/ready").status_code == 200
    assert app.config["MAX_CONTENT_LENGTH"] != empty.config["MAX_CONTENT_LENGTH"]


def test_no_folder_is_made_by_making_an_application(tmp_path: Path) -> None:
    create_app(Settings(model_registry=tmp_path / "models", auth_required=False)).test_client().get("/ready")
    assert not list(tmp_path.iterdir())


def test_importing_the_entry_point_loads_no_model(trained: Registry) -> None:
    code = (
        "import joblib, application\n"
        "from pathlib import Path\n"
        "assert application.application.extensions['settings'].model_registry.is_dir()\n"
        "print('lib_lightgbm' in Path('/proc/self/maps').read_text())\n"
        "application.application.test_client().get('/ready')\n"
        "print('lib_lightgbm' in Path('/proc/self/maps').read_text())"
    )
    environment = {"MODEL_REGISTRY": str(trained.location), "AUTH_REQUIRED": "false", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_pages_of_other_origins_may_call_only_when_they_are_named(trained: Registry, record: dict[str, Any]) -> None:
    ours, theirs = "https://forms.example.org", "https://example.com"
    settings = Settings(model_registry=trained.location, auth_required=False)
    closed = create_app(settings).test_client()
    opened = create_app(replace(settings, cors_origins=(ours,))).test_client()
    allowed = "Access-Control-Allow-Origin"
    assert allowed not in closed.post("/predict", json=record, headers={"Origin": ours}).headers
    assert allowed not in opened.post("/predict", json=record, headers={"Origin": theirs}).headers
    assert opened.post("/predict", json=record, headers={"Origin": ours}).headers[allowed] == ours
    preflight = opened.options(
        "/predict",
        headers={
            "Origin": ours,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert preflight.headers[allowed] == ours
    assert "content-type" in preflight.headers["Access-Control-Allow-Headers"]
