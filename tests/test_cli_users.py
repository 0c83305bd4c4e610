"""`tabserve users`."""

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tabserve.api.users import Users, matches
from tabserve.cli.commands import tabserve
from tests.conftest import ROOT

PASSWORD = "correct horse battery"


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    return tmp_path / "users.txt"


@pytest.fixture
def run_users(users_file: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command on a users file; it succeeds or fails in an expected way, and reveals no path or password."""
    monkeypatch.setenv("AUTH_USERS_FILE", str(users_file))

    def run(*arguments: str, line: str | bytes = f"{PASSWORD}\n") -> Result:
        result = CliRunner().invoke(tabserve, ["users", *arguments], input=line)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert str(users_file) not in result.output
        assert PASSWORD not in result.output
        return result

    return run


def assert_one_line(result: Result, text: str) -> None:
    """Check that the command failed and says why in one line."""
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert text in line


def test_a_user_is_added_with_the_password_on_standard_input(run_users, users_file):
    result = run_users("add", "alice")
    assert (result.exit_code, result.output) == (0, "alice was added.\n")
    assert matches(Users(users_file).read()["alice"].hash, PASSWORD)
    assert stat.S_IMODE(users_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("line", [PASSWORD, f"{PASSWORD}\r\n", f"{PASSWORD}\nmore\n"])
def test_the_password_is_the_first_line_without_its_end(run_users, users_file, line):
    assert run_users("add", "alice", line=line).exit_code == 0
    assert matches(Users(users_file).read()["alice"].hash, PASSWORD)


def test_spaces_belong_to_the_password(run_users, users_file):
    assert run_users("add", "alice", line=f" {PASSWORD} \n").exit_code == 0
    assert matches(Users(users_file).read()["alice"].hash, f" {PASSWORD} ")


def test_adding_a_user_again_changes_the_password_and_says_so(run_users, users_file):
    run_users("add", "alice")
    result = run_users("add", "alice", line="another password\n")
    assert (result.exit_code, result.output) == (0, "alice has a new password.\n")
    assert matches(Users(users_file).read()["alice"].hash, "another password")


def test_what_a_user_may_do_is_printed_and_changed(run_users, users_file):
    run_users("add", "alice")
    run_users("add", "bob", "--scope", "audit,read")
    assert run_users("scopes", "alice").output == "predict,read\n"
    assert run_users("scopes", "bob").output == "read,audit\n"
    assert run_users("scopes", "alice", "audit,predict").output == "predict,audit\n"
    assert Users(users_file).read()["alice"].scopes == {"predict", "audit"}
    assert_one_line(run_users("scopes", "carl"), "There is no user of that name")
    assert_one_line(run_users("scopes", "alice", "everything"), "predict, read, audit")
    assert_one_line(run_users("add", "alice", "--scope", ""), "predict, read, audit")


def test_users_are_listed_by_name_and_nothing_else_is_told(run_users):
    assert run_users("list").output == ""
    for name in ("bob", "alice", "carl"):
        run_users("add", name)
    result = run_users("list")
    assert (result.exit_code, result.output) == (0, "alice\nbob\ncarl\n")
    assert json.loads(run_users("list", "--json").output) == ["alice", "bob", "carl"]


def test_a_user_is_removed(run_users):
    run_users("add", "alice")
    result = run_users("remove", "alice")
    assert (result.exit_code, result.output) == (0, "alice was removed.\n")
    assert run_users("list").output == ""
    assert_one_line(run_users("remove", "alice"), "no user of that name")


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("alice", "", "at least 8 characters"),
        ("alice", "\n", "at least 8 characters"),
        ("alice", "short\n", "at least 8 characters"),
        ("alice", f"short\n{PASSWORD}\n", "at least 8 characters"),
        ("alice", "x" * 1025, "at most 1024 bytes"),
        ("alice", b"\xff" * 20, "UTF-8"),
        ("al:ice", PASSWORD, "1 to 64 characters"),
        ("", PASSWORD, "1 to 64 characters"),
    ],
)
def test_a_user_that_cannot_be_is_one_line_and_exit_status_1(run_users, users_file, name, line, text):
    assert_one_line(run_users("add", name, line=line), text)
    assert not users_file.exists()


def test_the_password_is_no_argument(run_users, users_file):
    assert run_users("add", "alice", "secret as an argument").exit_code == 2
    assert run_users("add", "alice", "--password", "secret as an argument").exit_code == 2
    assert not users_file.exists()


@pytest.mark.parametrize("command", [("list",), ("add", "alice"), ("remove", "alice")])
def test_a_malformed_users_file_is_one_line_and_exit_status_1(run_users, users_file, command):
    users_file.write_text("nonsense\n")
    assert_one_line(run_users(*command), "line 1 is not a name, a colon and an argon2id hash")
    assert users_file.read_text() == "nonsense\n"


def test_a_users_file_that_cannot_be_written_is_one_line_and_exit_status_1(run_users, monkeypatch, tmp_path):
    monkeypatch.setenv("AUTH_USERS_FILE", str(tmp_path / "missing" / "users.txt"))
    assert_one_line(run_users("add", "alice"), "writing it failed")


@pytest.mark.parametrize(
    ("typed", "exit_code", "said"),
    [
        ([PASSWORD, PASSWORD], 0, "alice was added."),
        ([PASSWORD, "something else", PASSWORD, PASSWORD], 0, "alice was added."),
        (["short", "short"], 1, "at least 8 characters"),
    ],
)
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(users_file, typed, exit_code, said):
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tabserve", "users", "add", "alice"],
        cwd=ROOT,
        env={**os.environ, "AUTH_USERS_FILE": str(users_file)},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,  # so that it cannot ask at another terminal
    ) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                part = os.read(terminal, 1024)
            except OSError:  # the command has ended
                break
            if not part:
                break
            shown += part
            if shown.endswith(b": ") and typed:
                os.write(terminal, f"{typed.pop(0)}\n".encode())
    os.close(terminal)
    assert process.returncode == exit_code
    assert said in shown.decode()
    assert PASSWORD not in shown.decode()
    assert users_file.exists() == (exit_code == 0)
    assert not typed
