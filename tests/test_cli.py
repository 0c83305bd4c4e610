"""The `tabserve` command: its subcommands, its errors, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tabserve import __version__
from tabserve.api.app import create_app
from tabserve.cli.commands import tabserve
from tabserve.cli.group import Lazy
from tabserve.cli.output import aligned
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ROOT, children_of, free_port, wait_until

serve_module = import_module("tabserve.cli.serve")
HEAVY = {"pandas", "sklearn", "lightgbm", "scipy", "numpy", "flask", "gunicorn", "matplotlib"}


def run(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tabserve", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("module", ["tabserve", "src"])
def test_help_imports_nothing_that_takes_long(module: str) -> None:
    code = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('modules', *sys.modules))\n"
        f"sys.argv[1:] = ['--help']\nrunpy.run_module({module!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    text, modules = done.stdout.split("modules ")
    assert "Usage: tabserve " in text
    assert "train" in text
    assert not {name.partition(".")[0] for name in modules.split()} & HEAVY


@pytest.mark.parametrize("name", sorted(tabserve.commands))
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    stand_in = tabserve.commands[name]
    assert isinstance(stand_in, Lazy)
    command = stand_in.load()
    assert command.help
    if isinstance(command, click.Group):
        assert stand_in.short_help
        for inner in command.commands.values():
            assert inner.help
            assert not inner.get_short_help_str(60).endswith("..."), inner.name
    result = CliRunner().invoke(tabserve, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: tabserve {name} ")


def test_a_mistyped_command_is_exit_status_2_and_what_may_have_been_meant() -> None:
    for arguments, meant in ((["modles"], "models"), (["models", "verfy"], "verify"), (["users", "lst"], "list")):
        result = CliRunner().invoke(tabserve, arguments)
        assert result.exit_code == 2
        assert f"Did you mean '{meant}'?" in result.stderr


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(tabserve, ["--version"]).output == f"tabserve, version {__version__}\n"


def test_a_use_case_that_is_not_there_is_said_with_those_that_are() -> None:
    for arguments in (["train", "loans"], ["train", "--use-case", "loans"], ["models", "rollback", "loans"]):
        result = CliRunner().invoke(tabserve, arguments)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].endswith("There is no such use case; choose one of: bikes, credit.")


@pytest.mark.parametrize("named", [["bikes"], ["--use-case", "bikes"], ["bikes", "--use-case", "bikes"]])
def test_training_takes_its_use_case_in_two_ways(named: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path))
    result = CliRunner().invoke(tabserve, ["train", *named, "--algorithm", "none"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: bikes has no such algorithm")


def test_a_use_case_is_named_once() -> None:
    result = CliRunner().invoke(tabserve, ["train", "credit", "--use-case", "bikes"])
    assert result.exit_code == 2
    assert "Name one use case" in result.stderr


@pytest.mark.parametrize("declaration", ["this is no Python", "import nonsense_that_is_not_there", "1 / 0"])
@pytest.mark.parametrize("command", [["train", "broken"], ["check", "broken"]])
def test_a_declaration_that_cannot_be_imported_is_one_line(
    declaration: str, command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "use_cases").mkdir()
    (tmp_path / "use_cases" / "broken.py").write_text(declaration)
    done = run(*command, folder=tmp_path, PYTHONPATH=str(ROOT), AUTH_REQUIRED="false")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.removeprefix("Error: ").startswith("broken.py, line 1 cannot be imported: ")


def test_a_reader_that_has_read_enough_is_no_error(trained: Registry) -> None:
    for command in (["models", "list"], ["models", "verify"], ["openapi"]):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as closed:
            done = subprocess.run(
                [sys.executable, "-m", "tabserve", *command],
                cwd=ROOT,
                env={**os.environ, "MODEL_REGISTRY": str(trained.location)},
                stdout=closed,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        assert done.stderr == b""


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["models", "--help"], ["models", "list"]])
def test_output_that_cannot_be_written_is_one_line(command: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tabserve", *command],
            cwd=ROOT,
            env={**os.environ, "MODEL_REGISTRY": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: [Errno 28] No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [(["users", "add", "alice"], "at least 8 characters"), (["models", "delete", "x"], "Aborted!")],
)
def test_a_closed_standard_input_is_an_empty_one(command: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "tabserve", *command],
        cwd=ROOT,
        env={**os.environ, "MODEL_REGISTRY": str(tmp_path), "AUTH_USERS_FILE": str(tmp_path / "users.txt")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert said in line


AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background would ignore the signal
module = sys.argv.pop(1)
class Finder:
    def find_spec(name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
from tabserve.cli import main
main()
"""


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("tabserve.cli.commands", "models list"),
        ("numpy", "models list"),
        ("pandas", "train"),
        ("rich.progress", "train"),
        ("gunicorn", "serve"),
        ("joblib", "serve"),
        ("tabserve.api.gunicorn_conf", "serve"),
        ("tabserve.api.worker", "serve"),
    ],
)
def test_ctrl_c_while_modules_are_imported_is_no_traceback(module: str, command: str, tmp_path: Path) -> None:
    environment = {"MODEL_REGISTRY": str(tmp_path), "AUTH_REQUIRED": "false", "PORT": str(free_port())}
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, *command.split()],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stderr.rpartition("It answers as soon as it is trained.\n")[2]
    assert (done.returncode, said) in ((-signal.SIGINT, ""), (130, "Interrupted.\n"))


def test_an_interrupted_command_says_so_in_one_line_with_the_shells_exit_status(monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "list", interrupted)
    result = CliRunner().invoke(tabserve, ["models", "verify"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_ctrl_c_at_a_question_is_the_same(monkeypatch, capsys) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupted)  # which click's runner would replace
    with pytest.raises(SystemExit) as end:
        tabserve(["models", "delete", "x"])
    assert (end.value.code, capsys.readouterr().err) == (130, "Interrupted.\n")


def test_a_tables_cells_stand_below_each_other_and_a_long_last_one_moves_none() -> None:
    rows = [("a", "b", "c"), ("long", "x", ""), ("m", "a very long reason")]
    assert aligned(rows) == "a     b  c\nlong  x\nm     a very long reason"


# openapi


def test_openapi_prints_the_document_that_the_service_answers(monkeypatch) -> None:
    monkeypatch.setenv("DEFAULT_USE_CASE", "bikes")
    result = CliRunner().invoke(tabserve, ["openapi"])
    assert (result.exit_code, result.stderr) == (0, "")
    client = create_app(Settings(default_use_case="bikes")).test_client()
    assert json.loads(result.stdout) == client.get("/openapi.json").json


def test_a_setting_that_the_service_cannot_use_is_one_line(monkeypatch) -> None:
    monkeypatch.setenv("PORT", "none")
    result = CliRunner().invoke(tabserve, ["openapi"])
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: The environment variable PORT is invalid: .*\n", result.stderr)


# serve


def test_serve_answers_from_any_folder_and_says_that_it_listens_once_it_does(trained: Registry, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log.txt"
    (tmp_path / "gunicorn.conf.py").write_text("raise SystemExit('not this one')")
    command = [sys.executable, "-m", "tabserve", "serve", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MODEL_REGISTRY": str(trained.location), "AUTH_REQUIRED": "false"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: "isten" in log.read_text() or process.poll() is not None, 60, "nothing is said")
        assert f"Listening at: http://127.0.0.1:{port} " in log.read_text()
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=60).close()
        assert len(children_of(process.pid)) == 2  # one answers requests, one jobs
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Settings, str]]:
    """What `tabserve serve` would serve with, and what it says, in an empty folder with nothing configured."""
    monkeypatch.chdir(tmp_path)
    for setting in fields(Settings):
        monkeypatch.delenv(setting.name.upper(), raising=False)
    monkeypatch.setattr(serve_module, "end_at_interrupt", lambda: None)
    monkeypatch.setattr(serve_module, "check", Settings.from_environment)
    started: list[Settings] = []

    class Recorder:
        def run(self) -> None:
            started.append(Settings.from_environment())

    monkeypatch.setattr(serve_module, "Server", Recorder)

    def serve(*options: str, **environment: str) -> tuple[Settings, str]:
        with monkeypatch.context() as patch:
            for name in ("HOST", "AUTH_REQUIRED"):  # which the command may set
                patch.setenv(name, "")
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            result = CliRunner().invoke(tabserve, ["serve", *options])
        assert result.exit_code == 0, result.stderr
        return started[-1], result.stderr

    return serve


def test_where_nothing_is_configured_only_this_machine_is_served_and_that_is_said(served) -> None:
    settings, said = served()
    assert (settings.host, settings.auth_required) == ("127.0.0.1", False)
    line, *_ = said.splitlines()
    assert line == (
        "Serving http://localhost:8080 for this machine only, without users. To serve others, add users "
        "(`tabserve users add NAME`) and set HOST, such as --host 0.0.0.0."
    )


@pytest.mark.parametrize(
    ("options", "environment", "host", "needs_users"),
    [
        (["--host", "0.0.0.0"], {}, "0.0.0.0", True),
        (["--host", "127.0.0.1"], {}, "127.0.0.1", True),
        ([], {"HOST": "0.0.0.0"}, "0.0.0.0", True),
        ([], {"AUTH_REQUIRED": "true"}, "0.0.0.0", True),
        ([], {"AUTH_REQUIRED": "false"}, "0.0.0.0", False),
        ([], {"AUTH_USERS_FILE": "not-there-yet.txt"}, "0.0.0.0", True),
    ],
)
def test_whoever_configures_anything_for_others_needs_users_as_ever(served, options, environment, host, needs_users):
    settings, said = served(*options, **environment)
    assert (settings.host, settings.auth_required) == (host, needs_users)
    assert "this machine only" not in said


def test_where_there_are_users_they_are_needed(served, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("")
    settings, said = served()
    assert (settings.host, settings.auth_required) == ("0.0.0.0", True)
    assert "this machine only" not in said


def test_without_a_model_serve_says_what_to_run_and_which_declarations_are_broken(served, monkeypatch) -> None:
    monkeypatch.setattr(serve_module, "broken_use_cases", lambda: {"loans": "loans.toml, line 3: no target."})
    _, *lines = served()[1].splitlines()
    assert lines == [
        "Warning: the use case loans cannot be trained: loans.toml, line 3: no target.",
        "There is no model in models yet. Train one: `tabserve train NAME`, where NAME is one of bikes, credit. It "
        "answers as soon as it is trained.",
    ]


def test_with_a_model_serve_only_says_which_declarations_are_broken(served, trained: Registry, monkeypatch) -> None:
    monkeypatch.setattr(serve_module, "broken_use_cases", lambda: {"loans": "loans.toml, line 3: no target."})
    said = served(MODEL_REGISTRY=str(trained.location))[1]
    assert "Train one" not in said
    assert "Warning: the use case loans cannot be trained: loans.toml, line 3: no target." in said


def test_what_keeps_the_service_from_starting_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        free: dict[str, str] = {"HOST": "127.0.0.1", "AUTH_REQUIRED": "false"}
        for arguments, environment, text in (
            (["--port", port], free, f"Port {port} on 127.0.0.1 cannot be used"),
            ([], {**free, "LOG_LEVEL": "loud"}, "LOG_LEVEL is invalid"),
            ([], {**free, "AUTH_REQUIRED": "true"}, "add one with `tabserve users add NAME`"),
        ):
            done = run("serve", *arguments, folder=tmp_path, **environment)
            assert (done.returncode, done.stdout) == (1, "")
            (line,) = done.stderr.splitlines()
            assert text in line


@pytest.mark.parametrize("option", [["--host", "localhost"], ["--port", "0"], ["--workers", "0"]])
def test_an_option_that_cannot_be_used_is_exit_status_2(option: list[str]) -> None:
    result = CliRunner().invoke(tabserve, ["serve", *option])
    assert result.exit_code == 2
    assert f"Invalid value for '{option[0]}'" in result.stderr
