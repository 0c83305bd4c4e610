"""Settings: defaults, environment variables, refusals, and their documentation."""

import os
import re
import subprocess
import sys
import traceback
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from tabserve.errors import BrokenArtifactError, InvalidSettingError
from tabserve.registry.registry import Registry
from tabserve.settings import RegistrySettings, Settings
from tests.conftest import ROOT

MARKER = "hunter2"


def test_without_environment_the_defaults_are_those_of_the_design() -> None:
    assert Settings.from_environment({}) == Settings(
        use_cases=(Path("use_cases"),),
        model_registry=Path("models"),
        model_cache=Path("model-cache"),
        model_signing_key=None,
        compiled_trees=None,
        approvals=1,
        decision_log=None,
        default_use_case=None,
        serve=(),
        max_content_length=16 * 1024 * 1024,
        max_rows=100_000,
        sync_rows=10_000,
        max_file_seconds=25,
        database_url="sqlite:///jobs.db",
        job_hours=24,
        job_workers=1,
        auth_required=True,
        auth_users_file=Path("users.txt"),
        rate_limit=None,
        rate_limit_storage="memory://",
        trusted_proxies=0,
        log_level="INFO",
        log_format="text",
        access_log=False,
        otel_exporter_otlp_endpoint=None,
        metrics="off",
        decision_spool=256 * 1024 * 1024,
        decision_spool_folder=Path("decisions"),
        decision_fsync="group",
        decision_log_full="refuse",
        decision_retention=None,
        shadow=(),
        approved_only=False,
        web_concurrency=None,
        host="0.0.0.0",
        cors_origins=(),
        port=8080,
    )


def test_the_registrys_settings_open_it(registry: Registry) -> None:
    environment = {"MODEL_REGISTRY": str(registry.location), "MODEL_SIGNING_KEY": "secret"}
    opened = RegistrySettings.from_environment(environment).open_registry()
    assert opened.list() == registry.list() != []
    with pytest.raises(BrokenArtifactError, match="not signed"):
        opened.manifest(opened.list()[0])
    assert RegistrySettings.from_environment({}).open_registry().location == Path("models")


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////var/lib/jobs.db",
        "postgresql://host/jobs",
        "postgresql:///jobs",
        "postgresql:///jobs?host=/var/run/postgresql",
        "postgresql+psycopg://me@[::1]:5432/jobs",
        "postgresql://me:a:b@db-1.example.org/jobs?sslmode=require&application_name=x",
    ],
)
def test_addresses_of_databases_are_those_that_sqlalchemy_reads(address: str) -> None:
    settings = Settings.from_environment({"DATABASE_URL": address})
    url = make_url(settings.database_url)
    assert url.database in ("/var/lib/jobs.db", "jobs")
    assert url.port in (None, 5432)


def test_what_is_answered_at_once_is_never_more_than_what_is_answered_at_all() -> None:
    assert Settings(max_rows=3).rows_at_once == 3
    assert Settings(max_rows=100_000, sync_rows=20).rows_at_once == 20


def test_a_training_is_not_stopped_by_a_setting_of_the_service() -> None:
    environment = {"PORT": MARKER, "AUTH_REQUIRED": MARKER, "DEFAULT_USE_CASE": MARKER}
    assert RegistrySettings.from_environment(environment) == RegistrySettings()


def test_settings_are_read_without_flask_and_without_the_libraries_of_training() -> None:
    code = "import sys, tabserve.settings; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"flask", "apiflask", "marshmallow", "pandas", "sklearn", "lightgbm"} & set(done.stdout.split())


VALID = {
    "USE_CASES": (os.pathsep.join(["/", "use_cases"]), (Path("/"), Path("use_cases"))),
    "MODEL_REGISTRY": ("/srv/models", Path("/srv/models")),
    "MODEL_CACHE": ("/var/cache/models", Path("/var/cache/models")),
    "MODEL_SIGNING_KEY": ("käse 123, old", "käse 123, old"),
    "APPROVALS": ("2", 2),
    "DECISION_LOG": ("on", "sqlite:///decisions.db"),
    "COMPILED_TREES": ("/var/cache/trees", Path("/var/cache/trees")),
    "DEFAULT_USE_CASE": ("credit", "credit"),
    "SERVE": ("churn, credit", ("churn", "credit")),
    "MAX_CONTENT_LENGTH": ("1000", 1000),
    "MAX_CONNECTIONS": ("5", 5),
    "MAX_ROWS": ("7", 7),
    "SYNC_ROWS": ("7", 7),
    "QUEUE_MS": ("100", 100),
    "MAX_BODIES_IN_MEMORY": ("1000", 1000),
    "MAX_FILE_SECONDS": ("7", 7),
    "DATABASE_URL": ("postgresql://me:hunter%2F2@host:5432/jobs?sslmode=require",) * 2,
    "JOB_HOURS": ("48", 48),
    "JOB_WORKERS": ("0", 0),
    "AUTH_REQUIRED": ("false", False),
    "AUTH_USERS_FILE": ("/etc/tabserve/users.txt", Path("/etc/tabserve/users.txt")),
    "RATE_LIMIT": ("10/second;5000/day", "10/second;5000/day"),
    "RATE_LIMIT_STORAGE": ("redis://:hunter2@localhost:6379/1", "redis://:hunter2@localhost:6379/1"),
    "TRUSTED_PROXIES": ("2", 2),
    "LOG_LEVEL": ("WARNING", "WARNING"),
    "LOG_FORMAT": ("json", "json"),
    "ACCESS_LOG": ("true", True),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://collector:4318",) * 2,
    "METRICS": (":9100", ":9100"),
    "DECISION_SPOOL": ("1000", 1000),
    "DECISION_SPOOL_FOLDER": ("/var/lib/decisions", Path("/var/lib/decisions")),
    "DECISION_FSYNC": ("each", "each"),
    "DECISION_LOG_FULL": ("drop", "drop"),
    "DECISION_RETENTION": ("7y", 7 * 366),
    "SHADOW": ("credit:credit-a, bikes:bikes-b", (("credit", "credit-a"), ("bikes", "bikes-b"))),
    "APPROVED_ONLY": ("true", True),
    "WEB_CONCURRENCY": ("3", 3),
    "HOST": ("::1", "::1"),
    "CORS_ORIGINS": (
        "https://a.example.org, http://localhost:3000",
        ("https://a.example.org", "http://localhost:3000"),
    ),
    "PORT": ("65535", 65535),
}


def test_there_is_a_valid_example_of_every_setting() -> None:
    assert set(VALID) == {setting.name.upper() for setting in fields(Settings)}


@pytest.mark.parametrize("name", VALID)
def test_a_setting_is_read_from_the_environment(name: str) -> None:
    text, value = VALID[name]
    with_log = {"DECISION_LOG": "on"} if name == "SHADOW" else {}
    assert getattr(Settings.from_environment({**with_log, name: text}), name.lower()) == value


def test_the_process_environment_is_what_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ROWS", "12345")
    assert Settings.from_environment().max_rows == 12345


def test_variables_of_other_programs_are_ignored() -> None:
    assert Settings.from_environment({"max_rows": "x", "MAX_ROWS_": "x", "PATH": "x"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "what_would_do"),
    [
        *(("MAX_FILE_SECONDS", text, "a whole number from 1 to 3600") for text in ("0", "3601", "1" * 30, "-1", "")),
        *(
            ("MODEL_REGISTRY", text, "a path to a folder, or s3://bucket/prefix")
            for text in (
                "",
                "s3://",
                "s3://B/x",
                "s3://bucket/a/../b",
                "s3://bucket//a",
                "gs://bucket",
                f"https://{MARKER}",
            )
        ),
        *(
            ("USE_CASES", text, "folders that exist")
            for text in ("", "/nowhere", f"/{os.pathsep}", f"/{os.pathsep}{MARKER}")
        ),
        ("MODEL_CACHE", "", "a path to a folder"),
        ("MODEL_CACHE", __file__, "a path to a folder"),
        ("COMPILED_TREES", __file__, "a path to a folder"),
        *(("MODEL_SIGNING_KEY", text, "a text that is not empty") for text in ("", "  ", "\t\n", "a,,b", "a,")),
        ("MODEL_SIGNING_KEY", os.fsdecode(b"\xff\xfe" + MARKER.encode()), "in UTF-8"),
        ("DEFAULT_USE_CASE", f"{MARKER}!", "use case"),
        ("DEFAULT_USE_CASE", "", "use case"),
        ("MAX_CONTENT_LENGTH", f"{MARKER} MB", "a whole number above 0"),
        ("MAX_CONTENT_LENGTH", "16.5", "a whole number above 0"),
        ("MAX_ROWS", "0", "a whole number above 0"),
        ("MAX_ROWS", "-1", "a whole number above 0"),
        ("MAX_ROWS", "1_000", "a whole number above 0"),
        ("MAX_ROWS", "٣", "a whole number above 0"),
        ("MAX_ROWS", "9" * 5000, "a whole number above 0"),
        *(("SYNC_ROWS", text, "a whole number above 0") for text in ("0", "-1", "x")),
        *(("JOB_HOURS", text, "a whole number above 0") for text in ("0", "1.5", "")),
        *(("JOB_WORKERS", text, "0 or 1") for text in ("2", "-1", "", "true")),
        *(
            ("DATABASE_URL", text, "the address of a database such as")
            for text in (
                "",
                "jobs.db",
                "sqlite://",
                "sqlite:///",
                "sqlite:///:memory:",
                f"mysql://me:{MARKER}@host/jobs",
                f"postgresql://me:{MARKER}@host",
                f"postgresql://me:{MARKER}@host/",
                f"postgresql://me:{MARKER}@host:x/jobs",
                f"postgresql://me:{MARKER}/2@host/jobs",
                f"postgresql://me:{MARKER}@a@host/jobs",
                f"postgresql+asyncpg://me:{MARKER}@host/jobs",
            )
        ),
        *(("AUTH_REQUIRED", text, "true or false") for text in ("", "True", "1", "yes", MARKER)),
        ("AUTH_USERS_FILE", "", "a path to a file"),
        ("AUTH_USERS_FILE", "/", "a path to a file"),
        *(
            ("RATE_LIMIT", text, "limits such as 100/minute")
            for text in ("", "100", "/minute", "100/fortnight", "0/minute", "-1/minute", "1.5/minute", "5/day;", MARKER)
        ),
        *(
            ("RATE_LIMIT_STORAGE", text, "memory:// or the address of a Redis")
            for text in ("", "memory", "memory://x", "redis", "redis://", "redis:///0", "memcached://localhost:11211")
        ),
        *(
            ("RATE_LIMIT_STORAGE", f"redis://:{MARKER}@localhost{rest}", "memory:// or the address of a Redis")
            for rest in (":x", ":99999", "?socket_timeout=x", "?nonsense=1", "?protocol=9")
        ),
        ("RATE_LIMIT_STORAGE", f"async+redis://:{MARKER}@localhost", "memory:// or the address of a Redis"),
        ("TRUSTED_PROXIES", "-1", "a whole number, 0 or more"),
        ("TRUSTED_PROXIES", "", "a whole number, 0 or more"),
        ("TRUSTED_PROXIES", MARKER, "a whole number, 0 or more"),
        ("LOG_LEVEL", MARKER, "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("WEB_CONCURRENCY", MARKER, "a whole number above 0"),
        ("WEB_CONCURRENCY", "", "a whole number above 0"),
        ("CORS_ORIGINS", "*", "origins such as"),
        ("CORS_ORIGINS", "example.org", "origins such as"),
        ("HOST", "localhost:80", "IP address of this machine"),
        ("HOST", "", "IP address of this machine"),
        *(("SERVE", text, "names of use cases") for text in ("", ",", "credit,", "credit bikes", "Credit", "../x")),
        *(("APPROVALS", text, "1 or 2") for text in ("0", "3", "", "two")),
        *(
            ("DECISION_LOG", text, "on, or the address of a database such as")
            for text in ("", "off", "decisions.db", f"mysql://me:{MARKER}@host/decisions")
        ),
        *(("LOG_FORMAT", text, "text or json") for text in ("", "JSON", MARKER)),
        ("ACCESS_LOG", "yes", "true or false"),
        *(
            ("OTEL_EXPORTER_OTLP_ENDPOINT", text, "an address such as")
            for text in ("", "collector:4318", "grpc://collector", "http://")
        ),
        *(("METRICS", text, "off, path or a port such as :9100") for text in ("", "on", "9100", ":", ":0", ":65536")),
        ("DECISION_SPOOL", "0", "a whole number above 0"),
        ("DECISION_SPOOL_FOLDER", __file__, "a path to a folder"),
        ("DECISION_FSYNC", "never", "group or each"),
        ("DECISION_LOG_FULL", "wait", "refuse or drop"),
        *(("DECISION_RETENTION", text, "a number of days") for text in ("", "90", "d", "0d", "-1d", "1.5y", "3m")),
        *(
            ("SHADOW", text, "pairs of a use case and a model_id")
            for text in ("", "credit", "credit:", ":x", "Credit:x", "credit:x,credit:y", "credit:x:y")
        ),
        ("APPROVED_ONLY", "1", "true or false"),
        ("PORT", "0", "a port number from 1 to 65535"),
        ("PORT", "65536", "a port number from 1 to 65535"),
        ("PORT", f"tcp://{MARKER}:80", "a port number from 1 to 65535"),
    ],
)
def test_an_unusable_value_is_refused_with_its_name_and_what_would_do(name: str, text: str, what_would_do: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        Settings.from_environment({name: text})
    assert name in str(caught.value)
    assert what_would_do in str(caught.value)
    assert MARKER not in str(caught.value)


@pytest.mark.parametrize(("default", "fits"), [("credit", True), ("churn", True), ("bikes", False)])
def test_the_default_use_case_is_one_that_is_served(default: str, fits: bool) -> None:
    environment = {"SERVE": "credit,churn", "DEFAULT_USE_CASE": default}
    if fits:
        assert Settings.from_environment(environment).default_use_case == default
        return
    with pytest.raises(InvalidSettingError) as caught:
        Settings.from_environment(environment)
    sentence = "The environment variable DEFAULT_USE_CASE is invalid: it must be one of those in SERVE: credit, churn."
    assert str(caught.value) == sentence


def test_the_service_sees_only_what_it_serves_of_its_registry(registry: Registry) -> None:
    assert Settings(model_registry=registry.location, serve=("bikes",)).open_registry().use_cases() == ["bikes"]
    assert Settings(model_registry=registry.location).open_registry().list() == registry.list()


@pytest.mark.parametrize(
    "name",
    [
        "DEFAULT_USE_CASE",
        "SERVE",
        "MAX_CONTENT_LENGTH",
        "MAX_ROWS",
        "AUTH_REQUIRED",
        "RATE_LIMIT",
        "RATE_LIMIT_STORAGE",
        "PORT",
    ],
)
def test_a_refusal_does_not_repeat_the_value_not_even_in_its_traceback(name: str) -> None:
    environment = {name: f"{MARKER}!", "MODEL_SIGNING_KEY": MARKER}
    with pytest.raises(InvalidSettingError) as caught:
        Settings.from_environment(environment)
    assert MARKER not in "".join(traceback.format_exception(caught.value))


def documented() -> dict[str, str]:
    """The defaults in the README's table of settings, by environment variable."""
    rows = re.findall(r"^\| *`([A-Z_]+)` *\|([^|]*)\|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {name: cell.strip() for name, cell in rows}


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_is_in_the_readme_with_its_default(setting: Field[Any]) -> None:
    cell = documented()[setting.name.upper()]
    if setting.default in (None, ()):
        assert cell
        assert "`" not in cell, "there is no default, so the table must show no value"
    else:
        assert re.fullmatch("`[^`]+`", cell)
        assert setting.metadata["parse"](cell.strip("`")) == setting.default


def test_the_readme_documents_no_setting_that_is_not_there() -> None:
    assert set(documented()) == {setting.name.upper() for setting in fields(Settings)}


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_says_what_it_means(setting: Field[Any]) -> None:
    assert re.fullmatch(r"[A-Z].+\.", setting.metadata["meaning"])


@pytest.mark.parametrize("command", [["application.py"], ["-m", "gunicorn", "application"]])
def test_a_server_with_an_unusable_setting_ends_with_one_line(command: list[str]) -> None:
    environment = {**os.environ, "PORT": MARKER}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert done.returncode != 0
    (line,) = done.stderr.decode().splitlines()
    assert line == "The environment variable PORT is invalid: it must be a port number from 1 to 65535."
