"""The documents' examples, run."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import date, timedelta
from pathlib import Path
from random import Random
from urllib.request import Request, urlopen

import click
import pytest
from openpyxl import Workbook

from tabserve.api.app import create_app
from tabserve.cli.commands import tabserve
from tabserve.cli.group import Lazy
from tabserve.columns.catalogue import DERIVED_KINDS, FEATURE_KINDS
from tabserve.columns.features import Column, Feature
from tabserve.declaration.plain import KEYS
from tabserve.declaration.toml import read_declaration
from tabserve.declaration.use_case import UseCase
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE, ROOT, Server

README = (ROOT / "README.md").read_text()
HEADINGS = ("Columns", "Derived columns")
LOANS = 400  # rows
PURPOSES = ["business", "car", "education", "furniture", "repairs"]
RUNBOOK = ROOT / "deploy" / "monitoring" / "runbook.md"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), RUNBOOK]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


CURLS = [block for block in blocks("sh") if block.startswith("curl")]


def write_loans(path: Path) -> None:
    """A sheet with the columns and the ranges of the one in the README, and fewer rows."""
    workbook = Workbook()
    assert workbook.active
    for number, row in enumerate(loans()):
        if number == 0:
            workbook.active.append([*row])
        workbook.active.append([*row.values()])
    workbook.save(path)


def loans() -> Iterator[dict[str, object]]:
    random = Random(7)
    for row in range(LOANS):
        amount = {0: 560, 1: 32870}.get(row, random.randrange(600, 9000, 10))
        yield {
            "loan_id": f"L-{100000 + row}",
            "granted": date(2022, 1, 7) + timedelta(days=2 * row),
            "amount": amount,
            "months": random.randrange(12, 72, 12),
            "purpose": random.choice(PURPOSES),
            "income": random.randrange(5700, 114100, 100),
            "years_employed": {0: 29, 1: 0}.get(row, None if row % 16 == 5 else random.randrange(30)),
            "home_owner": random.choice(["yes", "no"]),
            "age": random.randrange(19, 75),
            "default": "yes" if random.random() < amount / 15000 else "no",
        }


def parts_of(command: str) -> tuple[str, str, dict[str, str]]:
    """Path, body and headers of a request."""
    curl, silent, url, header, content_type, data, body = shlex.split(command)
    assert (curl, silent, header, data) == ("curl", "-s", "-H", "-d")
    return url.removeprefix("http://localhost:8080"), body, dict([content_type.split(": ")])


@pytest.mark.slow
def test_the_readmes_first_commands_lead_from_a_sheet_to_an_answer_like_the_one_shown(tmp_path: Path) -> None:
    (block,) = [block for block in blocks("sh") if block.startswith("tabserve init")]
    init, train, serve = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    assert serve == ["serve"]
    write_loans(tmp_path / "loans.xlsx")
    for command in (init, ["check", "loans"], [*train, "--trials", "1"]):
        done = subprocess.run(
            [sys.executable, "-m", "tabserve", *command], cwd=tmp_path, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (shown,) = blocks("toml")
    drafted = (tmp_path / "use_cases" / "loans.toml").read_text().splitlines()
    assert [line for line in shown.splitlines() if line not in drafted and "seen:" not in line] == []

    client = create_app(Settings(model_registry=tmp_path / "models", auth_required=False)).test_client()
    path, body, headers = parts_of(CURLS[0])
    answer = client.post(path, data=body, headers=headers).json
    like, *_ = map(json.loads, blocks("json"))
    assert {key: type(value) for key, value in answer.items()} == {key: type(value) for key, value in like.items()}
    assert answer["ids"] == like["ids"]


def test_the_readmes_curl_gets_an_answer_like_the_one_shown(server: Server) -> None:
    _, command = CURLS
    _, shown = map(json.loads, blocks("json"))
    path, body, headers = parts_of(command)
    request = Request(server.url + path, body.encode(), headers)
    with urlopen(request, timeout=30) as response:
        answer = json.load(response)
    # the digits are those of the default training, which is too long for a test: here the model had two trials
    assert {key: type(value) for key, value in answer.items()} == {key: type(value) for key, value in shown.items()}
    assert answer["result"] == shown["result"]


def test_the_readmes_calls_for_bikes_are_answered(registry: Registry, users_file: Path) -> None:
    (block,) = [block for block in blocks("sh") if "curl -s -u" in block]
    settings = Settings(model_registry=registry.location, auth_required=False, auth_users_file=users_file)
    client = create_app(settings).test_client()
    curls = [shlex.split(line) for line in block.splitlines() if line.startswith("curl")]
    assert len(curls) == 2
    for curl in curls:
        *options, url = curl
        assert options == ["curl", "-s", "-u", "alice", "-X", "POST"]
        path = url.removeprefix("http://localhost:8080")
        assert client.post(path, auth=ALICE).status_code == 200
        assert client.post(path).status_code == 401


def test_the_readmes_bikes_record_is_the_use_cases_example(bikes: UseCase) -> None:
    (record,) = re.findall(r"`(\{\"hour\".*?\})`", README, re.DOTALL)
    assert json.loads(record) == bikes.example


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_documents_show_of_a_use_case_stands_in_its_file(document: Path) -> None:
    source = (ROOT / "src" / "use_cases" / "bikes.py").read_text()
    for block in blocks("python", document.read_text()):
        assert block in source


def test_what_documents_show_of_the_data_is_how_they_begin(bikes: UseCase) -> None:
    (block,) = blocks("csv", (ROOT / "docs" / "use-cases.md").read_text())
    assert bikes.path.read_text().startswith(block)


def test_the_documents_tables_of_kinds_name_all_of_them_and_their_options() -> None:
    text = (ROOT / "docs" / "use-cases.md").read_text()
    columns, derived = (text.partition(f"### {heading}\n")[2].partition("\n### ")[0] for heading in HEADINGS)
    for section, kinds, base in ((columns, FEATURE_KINDS, Feature), (derived, DERIVED_KINDS, Column)):
        rows = re.findall(r"^\| (`[a-z_`, ]+`)", section, re.MULTILINE)
        assert set(kinds) <= {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}
        common = {field.name for field in fields(base)}
        options = {field.name for kind in kinds.values() for field in fields(kind)} - common
        options |= common - {field.name for field in fields(Column)}
        assert [option for option in sorted(options) if not re.search(rf"`{option}\b", section)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_declarations_that_documents_show_can_be_read(document: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks("toml", document.read_text())):
        path = tmp_path / f"example{number}.toml"
        path.write_text(block)
        assert read_declaration(path).title


def test_the_documents_table_of_a_declarations_keys_names_all_of_them() -> None:
    named = re.findall(r"^\| (`.+?) \|", (ROOT / "docs" / "use-cases.md").read_text(), re.MULTILINE)
    names = {name for cell in named for name in re.findall(r"`\[?([a-z]+)[].`]", cell)}
    assert set(KEYS) <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_targets_and_files_that_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`|^ *make ([a-z-]+)", text, re.MULTILINE))
    assert {target for pair in named for target in pair if target} <= targets
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    paths = re.findall(
        r"(?:deploy|tests|src|api|benchmarks)/[a-zA-Z0-9_./-]*[a-zA-Z0-9_]|requirements[a-z0-9-]*\.txt", text
    )
    assert [path for path in paths if "<" not in path and not (ROOT / path).exists()] == []


COMMAND = re.compile(r"(?:`|bin/|:training )tabserve ([^\n`#,]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_commands_and_options_that_exist(document: Path) -> None:
    for line in COMMAND.findall(document.read_text()):
        assert unknown_in(line.split()) == [], line


def unknown_in(words: list[str]) -> list[str]:
    """What `tabserve` does not know of a command line: its commands and options."""
    command: click.Command = tabserve
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return words[:1]
        command = command.commands[words.pop(0)]
        command = command.load() if isinstance(command, Lazy) else command
    known = {option for parameter in command.params for option in parameter.opts}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}]


def test_the_check_of_commands_sees_what_does_not_exist() -> None:
    text = "`tabserve models lst`, `tabserve train credit --trails 3`, .venv/bin/tabserve nonsense # "
    assert [unknown_in(line.split()) for line in COMMAND.findall(text)] == [["lst"], ["--trails"], ["nonsense"]]


def test_the_documents_table_of_commands_names_all_of_them() -> None:
    named = re.findall(r"^\| `tabserve (.+?)` \|", (ROOT / "docs" / "command-line.md").read_text(), re.MULTILINE)
    names = {" ".join(word for word in line.split() if word.islower()) for line in named}
    assert names == set(all_commands(tabserve))


def all_commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        loaded = command.load() if isinstance(command, Lazy) else command
        if isinstance(loaded, click.Group):
            yield from all_commands(loaded, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def test_the_deployments_parameters_and_outputs_are_those_of_the_template() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text()
    template = (ROOT / "deploy" / "cloudformation" / "tabserve.yaml").read_text()
    parameters, outputs = (
        set(re.findall(r"^  (\w+):$", re.split(r"\n(?=\w)", template.split(f"\n{part}:\n")[1])[0], re.MULTILINE))
        for part in ("Parameters", "Outputs")
    )
    commands = " ".join(block.replace("\\\n", " ") for block in blocks("sh", text))
    given = set(re.findall(r"(\w+)=", " ".join(re.findall(r"--parameter-overrides (.*)", commands))))
    assert {"DomainName", "HostedZoneId", "Bundle", "SolutionStack"} <= given <= parameters
    assert set(re.findall(r"`([A-Z][a-z]\w*)=\w+`", text)) <= parameters
    assert {"BucketName", "DeployPolicyArn"} <= outputs


def test_the_table_of_limits_says_the_defaults_of_the_settings() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text().split("\n## Which limit stands where\n")[1].split("\n## ")[0]
    settings = Settings()
    expected = {
        "MAX_CONNECTIONS": f"{settings.max_connections:,}",
        "MAX_CONTENT_LENGTH": f"{settings.max_content_length // 1024**2} MiB",
        "MAX_BODIES_IN_MEMORY": f"{settings.max_bodies_in_memory // 1024**2} MiB",
        "QUEUE_MS": f"{settings.queue_ms} ms",
        "SYNC_ROWS": f"{settings.sync_rows:,} rows",
        "MAX_ROWS": f"{settings.max_rows:,} rows",
        "MAX_FILE_SECONDS": f"{settings.max_file_seconds} s",
        "JOB_HOURS": f"{settings.job_hours} hours",
        "RATE_LIMIT": "no limit" if settings.rate_limit is None else "",
    }
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    names = {by.strip("`"): limit for _, limit, _, by in rows}
    said = {name: limit for name, limit in names.items() if re.fullmatch("[A-Z_]+", name)}
    assert said.keys() == expected.keys()
    assert all(limit.startswith(expected[name]) for name, limit in said.items())
