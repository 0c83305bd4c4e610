"""`flask models ...` and `flask users ...`."""

import json
import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tabserve.api.commands import models, users
from tabserve.api.users import Users, matches
from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import Registry

from tests.artifacts import change_byte, copy_of, edit_manifest
from tests.conftest import ROOT

UNKNOWN = "credit-lightgbm_v1.0.0-1.000000"
PASSWORD = "correct horse battery"
FLASK = Path(sys.executable).with_name("flask")
needs_flask = pytest.mark.skipif(not FLASK.exists(), reason="flask is not installed as a command here")


def flask(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `flask` in a folder."""
    environment = {"PYTHONPATH": str(ROOT), **environment}
    kept = {name: value for name, value in os.environ.items() if name != "FLASK_APP"}
    return subprocess.run(
        [FLASK, *arguments], cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def registry(trained: Registry, tmp_path: Path) -> Registry:
    """A registry with one model, which a test may change."""
    model_id = trained.latest("credit")
    shutil.copytree(trained.location / model_id, tmp_path / "models" / model_id)
    return Registry(tmp_path / "models")


@pytest.fixture
def model_id(registry: Registry) -> str:
    return registry.latest("credit")


@pytest.fixture
def run(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the changeable registry; it fails in the expected way or not at all."""
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))

    def run(*arguments: str, answer: str | None = None) -> Result:
        result = CliRunner().invoke(models, arguments, input=answer)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert str(registry.location) not in result.output
        return result

    return run


def test_list_prints_the_model_ids_newest_first_and_marks_the_champion(run, registry, model_id):
    new = copy_of(registry)
    registry.promote(model_id)
    result = run("list")
    assert result.exit_code == 0
    assert result.stdout == f"{new}\n{model_id}  champion\n"


def test_list_prints_one_use_cases_models(run, registry, model_id):
    other = copy_of(registry, "bikes-lightgbm_v1.0.0-1.000000")
    assert run("list").stdout.split() == [model_id, other]
    assert run("list", "--use-case", "credit").stdout.split() == [model_id]
    assert run("list", "--use-case", "typo").exit_code == 2


def test_list_says_which_champion_is_refused_and_prints_what_could_be_promoted(run, registry, model_id):
    (registry.location / "credit.champion").write_text("")
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, f"{model_id}\n")
    assert "promote a model again" in result.stderr


def test_a_signed_registry_is_promoted_in_and_copied(run, registry, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_SIGNING_KEY", "key")
    signed = Registry(registry.location, "key")
    champion, newest = copy_of(signed), copy_of(signed)
    signed.delete(registry.list()[-1])
    (registry.location / "credit.champion").write_text(champion)  # as one without the key does
    refused = run("copy", str(tmp_path / "other"))
    assert refused.exit_code == 1
    assert "it is not signed with this service's key; promote a model again" in refused.stderr
    assert run("promote", champion).exit_code == 0
    assert run("copy", str(tmp_path / "other")).exit_code == 0
    monkeypatch.delenv("MODEL_SIGNING_KEY")
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "other"))
    assert run("copy", str(tmp_path / "third")).exit_code == 0  # by one without the key, as in the build of an image
    third = Registry(tmp_path / "third", "key")
    assert (third.champion("credit"), third.list()) == (champion, [newest, champion])
    third.verify(champion)


@pytest.mark.parametrize(("option", "copied"), [([], True), (["--hold-out=true"], True), (["--hold-out=false"], False)])
@pytest.mark.parametrize("by_name", [True, False])
def test_copy_takes_the_hold_out_along_unless_told_otherwise(
    run, registry, model_id, tmp_path, option, copied, by_name
):
    result = run("copy", *option, str(tmp_path / "other"), *([model_id] if by_name else []))
    assert result.exit_code == 0
    assert (tmp_path / "other" / model_id / "test.csv").exists() == copied
    assert run("copy", "--hold-out=perhaps", str(tmp_path / "third")).exit_code == 2


@pytest.mark.parametrize("there", [True, False])
def test_of_a_registry_without_models_list_and_verify_say_so(run, monkeypatch, tmp_path, there):
    place = tmp_path / "none yet"
    if there:
        (place / "something else").mkdir(parents=True)
    monkeypatch.setenv("MODEL_REGISTRY", str(place))
    listed, verified = run("list"), run("verify")
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", f"There are no models in {place}.\n")
    assert (verified.exit_code, verified.stdout) == (1, "")
    assert f"There are no models in {place}." in verified.stderr


def test_a_champion_that_is_gone_is_said_by_list_and_verify(run, registry, model_id):
    champion = copy_of(registry)
    registry.promote(champion)
    shutil.rmtree(registry.location / champion)
    listed, verified = run("list"), run("verify")
    assert (listed.exit_code, listed.stdout) == (0, f"{model_id}\n")
    assert (verified.exit_code, verified.stdout) == (1, f"{model_id} is whole.\n")
    for result in (listed, verified):
        assert f"The champion of credit cannot answer: {champion} is not there; promote a model again." in result.stderr
    assert "1 model(s) refused." in verified.stderr
    assert run("verify", model_id).exit_code == 0


def test_a_champion_that_is_refused_is_said_by_list_and_verify(run, registry, model_id):
    registry.promote(model_id)
    change_byte(registry.location / model_id / "model.pkl")
    listed, verified = run("list"), run("verify")
    assert (listed.exit_code, listed.stdout) == (0, f"{model_id}  champion\n")
    for result in (listed, verified):
        assert f"The champion of credit cannot answer: {model_id} is refused: its file model.pkl" in result.stderr
    assert (verified.exit_code, verified.stdout) == (1, "")
    assert "1 model(s) refused." in verified.stderr


def test_verify_refuses_a_champion_that_cannot_be_read(run, registry, model_id):
    (registry.location / "credit.champion").write_text("")
    result = run("verify")
    assert (result.exit_code, result.stdout) == (1, f"{model_id} is whole.\n")
    assert "its name cannot be read" in result.stderr


@pytest.mark.parametrize("name", ["manifest.json", "model.pkl", "report.html", "test.csv"])
@pytest.mark.parametrize("harm", [change_byte, Path.unlink])
def test_a_damaged_copy_is_copied_again(run, registry, model_id, tmp_path, name, harm):
    registry.promote(model_id)
    other = Registry(tmp_path / "other")
    assert run("copy", str(other.location)).exit_code == 0
    assert f"{model_id} is there already." in run("copy", str(other.location)).stdout
    harm(other.location / model_id / name)
    assert f"{model_id} is copied." in run("copy", str(other.location)).stdout
    other.verify(model_id)
    assert (other.location / model_id / name).read_bytes() == (registry.location / model_id / name).read_bytes()


def test_a_hold_out_that_shall_not_be_there_is_deleted(run, registry, model_id, tmp_path):
    other = tmp_path / "other"
    run("copy", str(other), model_id)
    result = run("copy", "--hold-out=false", str(other), model_id)
    assert not (other / model_id / "test.csv").exists()
    assert result.stdout == (
        f"{model_id}: its hold-out, test.csv, was there and is deleted.\n{model_id} is there already.\n"
    )
    assert (registry.location / model_id / "test.csv").exists()
    assert "deleted" not in run("copy", "--hold-out=false", str(other), model_id).stdout


def test_show_prints_the_manifest(run, registry, model_id):
    result = run("show", model_id)
    assert result.exit_code == 0
    assert Manifest.from_json(json.loads(result.stdout)) == registry.manifest(model_id)


def test_promote_makes_a_champion(run, registry, model_id):
    copy_of(registry)
    result = run("promote", model_id)
    assert result.exit_code == 0
    assert model_id in result.stdout
    assert registry.champion("credit") == model_id


def test_a_broken_model_is_not_promoted(run, registry, model_id):
    change_byte(registry.location / model_id / "model.pkl")
    result = run("promote", model_id)
    assert result.exit_code == 1
    assert "model.pkl is not the one that training wrote" in result.stderr
    assert registry.champion("credit") is None


def test_verify_checks_all_models_and_says_so(run, registry, model_id):
    new = copy_of(registry)
    result = run("verify")
    assert result.exit_code == 0
    assert result.stdout == f"{new} is whole.\n{model_id} is whole.\n"


def test_verify_names_the_refused_ones_with_reasons_and_exits_with_1(run, registry, model_id):
    changed, foreign = copy_of(registry), copy_of(registry)
    change_byte(registry.location / changed / "test.csv")
    edit_manifest(registry, foreign, libraries={"scikit-learn": "0.1", "lightgbm": "0.1"})
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout == f"{model_id} is whole.\n"
    assert f"{changed} is refused: its file test.csv is not the one that training wrote." in result.stderr
    assert f"{foreign} is refused: it was written with" in result.stderr
    assert "2 model(s) refused" in result.stderr


def test_verify_takes_a_model_without_its_hold_out_for_whole(run, registry, model_id):
    (registry.location / model_id / "test.csv").unlink()
    (registry.location / model_id / "train.csv").unlink()
    assert run("verify").stdout == f"{model_id} is whole.\n"


def test_verify_checks_only_the_named_models(run, registry, model_id):
    broken = copy_of(registry)
    change_byte(registry.location / broken / "model.pkl")
    assert run("verify", model_id).exit_code == 0
    assert run("verify", broken).exit_code == 1
    assert run("verify", model_id, UNKNOWN).exit_code == 1


def test_verify_refuses_unsigned_models_where_a_key_is_set(run, model_id, monkeypatch):
    monkeypatch.setenv("MODEL_SIGNING_KEY", "key")
    result = run("verify")
    assert result.exit_code == 1
    assert "not signed with this service's key" in result.stderr


def test_delete_asks_before_it_deletes(run, registry, model_id):
    assert run("delete", model_id, answer="n\n").exit_code == 1
    assert registry.list() == [model_id]
    assert run("delete", model_id, answer="y\n").exit_code == 0
    assert registry.list() == []


def test_delete_deletes_without_asking_when_told_so(run, registry, model_id):
    new = copy_of(registry)
    result = run("delete", "--yes", new)
    assert result.exit_code == 0
    assert new in result.stdout
    assert registry.list() == [model_id]
    assert not (registry.location / new).exists()


@pytest.mark.parametrize("name", [UNKNOWN, "../models", "/etc/passwd", "credit", ""])
@pytest.mark.parametrize("command", [("show",), ("promote",), ("verify",), ("delete", "--yes")])
def test_an_unknown_model_is_one_line_and_exit_status_1(run, registry, model_id, command, name):
    result = run(*command, name)
    assert result.exit_code == 1
    assert "There is no model of that name" in result.stderr
    assert registry.list() == [model_id]


def test_a_setting_that_cannot_be_used_is_one_line_and_exit_status_1(run, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", "")
    result = run("list")
    assert result.exit_code == 1
    assert "MODEL_REGISTRY" in result.stderr


@needs_flask
def test_flask_knows_the_commands(registry, model_id):
    environment = {**os.environ, "MODEL_REGISTRY": str(registry.location)}
    done = subprocess.run(
        [FLASK, "models", "list"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{model_id}\n", "")


@needs_flask
@pytest.mark.parametrize("there", ["repository", "elsewhere"])
def test_the_help_of_flask_is_help_and_no_error(there, tmp_path):
    folder = {"repository": ROOT, "elsewhere": tmp_path}[there]
    done = flask(folder, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("models", "users", "run", "routes"):
        assert re.search(rf"^  {name}  ", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@needs_flask
def test_flask_finds_the_service_from_any_folder(tmp_path):
    done = flask(tmp_path, "routes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/output/<model_id>" in done.stdout


@needs_flask
@pytest.mark.parametrize("how", ["app.py", "wsgi.py", "--app", "FLASK_APP"])
def test_flask_takes_another_application_that_it_is_told_of(how, tmp_path):
    file = tmp_path / (how if how.endswith(".py") else "other.py")
    file.write_text("from flask import Flask\napp = Flask('another')\napp.add_url_rule('/theirs', 'theirs')\n")
    done = flask(
        tmp_path,
        *(["--app", "other"] if how == "--app" else []),
        "routes",
        **({"FLASK_APP": "other"} if how == "FLASK_APP" else {}),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "/theirs" in done.stdout
    assert "/output/<model_id>" not in done.stdout


@needs_flask
@pytest.mark.parametrize("command", ["routes", "run"])
def test_a_setting_that_the_service_cannot_use_is_an_error_without_a_traceback(command, tmp_path):
    done = flask(tmp_path, command, LOG_LEVEL="loud")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("Error: The environment variable LOG_LEVEL cannot be used")
    assert "Traceback" not in done.stderr


@needs_flask
@pytest.mark.parametrize("command", [("models", "list"), ("models", "verify"), ("users", "list")])
def test_a_reader_that_has_read_enough_is_no_error(command, registry, users_file, run_users):
    run_users("add", "alice")
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "MODEL_REGISTRY": str(registry.location), "AUTH_USERS_FILE": str(users_file)}
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [FLASK, *command], cwd=ROOT, env=environment, stdout=closed, stderr=subprocess.PIPE, timeout=60
        )
    assert done.stderr == b""


# flask users


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    return tmp_path / "users.txt"


@pytest.fixture
def run_users(users_file: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command on a users file; it fails in the expected way or not at all, and tells no path and no password."""
    monkeypatch.setenv("AUTH_USERS_FILE", str(users_file))

    def run(*arguments: str, line: str | bytes = f"{PASSWORD}\n") -> Result:
        result = CliRunner().invoke(users, arguments, input=line)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert str(users_file) not in result.output
        assert PASSWORD not in result.output
        return result

    return run


def assert_one_line(result: Result, text: str) -> None:
    """The command failed, and says why in one line."""
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert text in line


def test_a_user_is_added_with_the_password_on_standard_input(run_users, users_file):
    result = run_users("add", "alice")
    assert (result.exit_code, result.output) == (0, "alice is added.\n")
    assert matches(Users(users_file).read()["alice"], PASSWORD)
    assert stat.S_IMODE(users_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("line", [PASSWORD, f"{PASSWORD}\r\n", f"{PASSWORD}\nmore\n"])
def test_the_password_is_the_first_line_without_its_end(run_users, users_file, line):
    assert run_users("add", "alice", line=line).exit_code == 0
    assert matches(Users(users_file).read()["alice"], PASSWORD)


def test_spaces_belong_to_the_password(run_users, users_file):
    assert run_users("add", "alice", line=f" {PASSWORD} \n").exit_code == 0
    assert matches(Users(users_file).read()["alice"], f" {PASSWORD} ")


def test_adding_a_user_again_changes_the_password_and_says_so(run_users, users_file):
    run_users("add", "alice")
    result = run_users("add", "alice", line="another password\n")
    assert (result.exit_code, result.output) == (0, "alice has a new password.\n")
    assert matches(Users(users_file).read()["alice"], "another password")


def test_users_are_listed_by_name_and_nothing_else_is_told(run_users):
    assert run_users("list").output == ""
    for name in ("bob", "alice", "carl"):
        run_users("add", name)
    result = run_users("list")
    assert (result.exit_code, result.output) == (0, "alice\nbob\ncarl\n")


def test_a_user_is_removed(run_users):
    run_users("add", "alice")
    result = run_users("remove", "alice")
    assert (result.exit_code, result.output) == (0, "alice is removed.\n")
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
        ("al:ice", PASSWORD, "1 to 64 of"),
        ("", PASSWORD, "1 to 64 of"),
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


@needs_flask
@pytest.mark.parametrize(
    ("typed", "exit_code", "said"),
    [
        ([PASSWORD, PASSWORD], 0, "alice is added."),
        ([PASSWORD, "something else", PASSWORD, PASSWORD], 0, "alice is added."),
        (["short", "short"], 1, "at least 8 characters"),
    ],
)
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(users_file, typed, exit_code, said):
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [FLASK, "users", "add", "alice"],
        cwd=ROOT,
        env={**os.environ, "AUTH_USERS_FILE": str(users_file)},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,  # so that there is no other terminal to ask at
    ) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                part = os.read(terminal, 1024)
            except OSError:  # the other end is closed: it is over
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


# flask models missing


def test_missing_names_the_use_cases_without_a_model(run, registry):
    assert run("missing").stdout.split() == ["bikes"]
    registry.delete(registry.latest("credit"))
    assert run("missing").stdout.split() == ["bikes", "credit"]


def test_a_use_case_whose_models_are_all_refused_is_missing(run, registry, model_id):
    copy_of(registry)
    for each in registry.list("credit"):
        assert "credit" not in run("missing").stdout.split()
        change_byte(registry.location / each / "model.pkl")
    result = run("missing")
    assert result.stdout.split() == ["bikes", "credit"]
    assert result.stderr.count("its file model.pkl is not the one that training wrote") == 2
