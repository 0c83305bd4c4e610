"""Delivery by Travis: what its schema does not see, and what its shell lines do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabserve.cli.models import models
from tabserve.declaration.discovery import all_use_cases
from tests.conftest import ROOT

TEXT = (ROOT / ".travis.yml").read_text(encoding="utf-8")
CONFIG = yaml.safe_load(TEXT)
ALL_JOBS = CONFIG["jobs"]["include"]
TESTS = [job for job in ALL_JOBS if job["stage"] == "test"]
JOBS = {job["stage"]: job for job in ALL_JOBS if job["stage"] != "test"}  # of the delivery
DEPLOY = JOBS["deploy"]["deploy"]
PHASES = (
    "before_install",
    "install",
    "before_script",
    "script",
)  # a failure in these fails the job; in others it is lost
OPTIONS = {  # of dpl v2: those of its provider elasticbeanstalk, and those of every provider
    *("access_key_id", "secret_access_key", "region", "app", "env", "bucket", "bucket_path", "description", "label"),
    *("zip_file", "wait_until_deployed", "wait_until_deployed_timeout"),
    *("provider", "edge", "dpl_version", "cleanup", "run", "allow_failure", True),  # True is how YAML 1.1 reads `on`
}


def lines_of(job: dict[str, Any]) -> Iterator[str]:
    """The shell lines of a job."""
    for phase in PHASES:
        value = job.get(phase, [])
        yield from [value] if isinstance(value, str) else value


LINES = [line for job in ALL_JOBS for line in lines_of(job)]


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.travis", str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_is_as_the_schema_demands() -> None:
    done = check_schema(ROOT / ".travis.yml")
    assert done.returncode == 0, done.stdout


def test_the_schema_knows_the_distributions(tmp_path: Path) -> None:
    (tmp_path / "travis.yml").write_text(TEXT.replace("dist: noble", "dist: nobel"))
    assert check_schema(tmp_path / "travis.yml").returncode == 1


# stages


def delivered(config: Any) -> set[str | None]:
    """The branches that the conditions name: a single one, or a push is trained and not deployed; None: any."""
    first, *delivery = config["stages"]
    assert first == "test"
    conditions = [re.fullmatch(r"type = push AND branch = (\S+)", stage["if"]) for stage in delivery]
    (deployment,) = (job["deploy"][True] for job in config["jobs"]["include"] if "deploy" in job)
    assert deployment.keys() == {"branch"}
    return {deployment["branch"], *(condition and condition[1] for condition in conditions)}


def test_only_pushes_to_one_branch_are_delivered() -> None:
    assert len(delivered(CONFIG)) == 1
    assert [stage["name"] for stage in CONFIG["stages"][1:]] == ["train", "deploy", "check"]
    assert [job["stage"] for job in ALL_JOBS] == ["test", "test", "train", "deploy", "check"]


@pytest.mark.parametrize("document", ["README.md", "docs/deploying.md"])
def test_the_branch_gets_another_name_where_the_documents_say_and_nowhere_else(document: str) -> None:
    (branch,) = delivered(CONFIG)  # a repository that did as they say passes, too
    places = set(re.findall("`(branch[^`]+)master`", (ROOT / document).read_text(encoding="utf-8")))
    assert len(places) == 2
    code = "".join(line.partition("#")[0] + "\n" for line in TEXT.splitlines())
    for done, place in enumerate(places, 1):
        assert code.count(place + branch) == 1
        code = code.replace(place + branch, f"{place}elsewhere")
        assert (delivered(yaml.safe_load(code)) == {"elsewhere"}) == (done == len(places))
    assert "master" not in code


def test_no_key_adds_a_job_or_a_phase_that_nobody_sees() -> None:
    assert set(CONFIG) == {"version", "os", "dist", "language", "services", "cache", "install", "stages", "jobs"}
    assert CONFIG["cache"] == "pip"
    assert CONFIG["install"] == "skip"  # or Travis installs requirements.txt in each job
    for job in ALL_JOBS:
        assert set(job) <= {"stage", "name", "python", "deploy", *PHASES}


def test_a_pull_request_needs_no_settings() -> None:
    # docker-test skips all when there is no engine: a failure in `install` ends the job
    assert [list(lines_of(job)) for job in TESTS] == [
        ["docker version", "travis_wait 45 make docker-test"],
        ["make lint coverage"],
    ]


def test_the_oldest_python_that_the_package_promises_is_tested() -> None:
    (promised,) = re.findall(r'python_requires=">=(.+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert [job["python"] for job in TESTS if "python" in job] == [promised]


# deployment


def test_each_key_of_the_deployment_is_one_that_dpl_knows() -> None:
    assert set(DEPLOY) <= OPTIONS
    assert not re.search("skip_cleanup|only_create_app_version|bucket_name", TEXT)


def test_what_is_deployed_is_the_bundle_that_the_job_makes() -> None:
    (line,) = lines_of({"script": JOBS["deploy"]["script"]})
    assert line == f"deploy/bundle --output {DEPLOY['zip_file']}"
    assert DEPLOY["provider"] == "elasticbeanstalk"
    assert DEPLOY["edge"] is True
    assert DEPLOY["wait_until_deployed"] is True
    assert DEPLOY["wait_until_deployed_timeout"] >= 600
    assert [job["stage"] for job in ALL_JOBS if "deploy" in job] == ["deploy"]


def test_two_deployments_of_one_build_have_two_labels() -> None:
    (line,) = (line for line in LINES if line.startswith("export LABEL="))
    assert DEPLOY["label"] == "$LABEL"
    code = f'date() {{ [ "$1" = +%s ] && echo "$NOW"; }}; {line}; echo "$LABEL"'
    environment = {**os.environ, "TRAVIS_BUILD_NUMBER": "7"}
    labels = [bash(code, environment={**environment, "NOW": now}).stdout.strip() for now in ("100", "101")]
    assert labels == ["travis-7-100", "travis-7-101"]


# secrets and settings


def test_it_holds_no_secret_but_only_names_of_settings() -> None:
    assert "secure" not in TEXT
    for key in ("access_key_id", "secret_access_key", "region", "app", "env", "bucket", "label"):
        assert re.fullmatch(r"\$[A-Z_]+", DEPLOY[key]), key
    for value in re.findall(r"--env \w+=(\S+)", TEXT):
        assert value == '"s3://$BUCKET/models"'
    assert not re.search(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|[A-Za-z0-9+/]{40}", TEXT)


def test_the_settings_it_uses_are_those_it_lists() -> None:
    comment, code = TEXT.split("\nversion:")
    listed = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b|\bBUCKET\b", comment))
    by_pytest = {"TABSERVE_USER", "TABSERVE_PASSWORD"}  # which gets them as all variables of the job
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]*)|--env ([A-Z_]+)(?!\S*=)", code))
    names = {name or other for name, other in used} | by_pytest
    own = {name for name in names if name.startswith("TRAVIS_")} | {"LABEL"}
    assert names - own == listed


@pytest.mark.parametrize("name", ["TABSERVE_USER", "TABSERVE_PASSWORD", "TABSERVE_URL"])
def test_the_acceptance_tests_read_these_settings(name: str) -> None:
    assert name in (ROOT / "tests" / "test_deployed.py").read_text(encoding="utf-8")


# shell lines


def bash(code: str, *, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("line", LINES)
def test_each_line_is_shell(line: str) -> None:
    done = subprocess.run(["bash", "-n"], input=line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_what_the_lines_run_is_there() -> None:
    text = "\n".join(LINES)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make ([\w-]+)", text, re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    stages = re.findall(r"--target (\w+)", text)
    assert stages
    for stage in stages:
        assert re.search(rf"^FROM .* AS {stage}$", (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.IGNORECASE)
    files = re.findall(r"\b(?:tests|deploy)/[\w./]+", text)
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file
    assert os.access(ROOT / "deploy" / "bundle", os.X_OK)
    commands = re.findall(r"tabserve models (\w+)", text)
    assert commands
    for command in commands:
        assert command in models.commands, f"tabserve models {command}"


@pytest.fixture
def training(tmp_path: Path) -> Any:
    """Runs the line that trains, with a stand-in for docker that runs what it is to run in the container here."""
    trained = tmp_path / "trained.txt"
    stand_ins = {
        "docker": 'test "$1 $2" = "exec training" || exit 99\nshift 2\nexec "$@"',
        "python": f"""test "$1" = -c && test "$FAILS" != listing && exec '{sys.executable}' "$@" """,
        "tabserve": f"""
            test "$1" = train || exit 99
            echo "$2" >> '{trained}'
            test "$FAILS" != "$2" """,
    }
    for name, code in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)

    def train(fails: str = "") -> tuple[int, list[str]]:
        (line,) = lines_of({"script": JOBS["train"]["script"]})
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILS": fails}
        status = bash(line, environment=environment).returncode
        return status, trained.read_text().split() if trained.exists() else []

    return train


def test_every_use_case_is_trained(training: Any) -> None:
    assert training() == (0, list(all_use_cases()))


def test_a_training_that_fails_fails_the_job_at_once(training: Any) -> None:
    first, *_ = all_use_cases()
    assert training(fails=first) == (1, [first])


def test_the_last_training_fails_the_job_too(training: Any) -> None:
    assert training(fails=list(all_use_cases())[-1]) == (1, list(all_use_cases()))


def test_without_the_list_of_use_cases_nothing_passes(training: Any) -> None:
    assert training(fails="listing") == (1, [])


@pytest.mark.parametrize(("url", "status"), [("", 1), ("https://example.org", 0)])
def test_a_service_whose_address_is_not_set_does_not_pass_for_one_that_answers(url: str, status: int) -> None:
    (line,) = (line for line in LINES if "TABSERVE_URL" in line)
    done = bash(line, environment={**os.environ, "TABSERVE_URL": url})
    assert done.returncode == status
    assert ("TABSERVE_URL is not set" in done.stdout) == bool(status)
    assert line in JOBS["check"]["install"]  # where a failure ends the job
