"""The users file: what it takes, how it is written, and what is refused."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from argon2 import Type, extract_parameters
from hypothesis import given
from hypothesis import strategies as st

from tabserve.api import users as module
from tabserve.api.users import (
    DEFAULT_SCOPES,
    SCOPES,
    InvalidUserError,
    NoUsersError,
    UnknownUserError,
    User,
    Users,
    UsersFileError,
    matches,
)
from tests.conftest import ROOT, write_users

PASSWORD = "correct horse battery"
HASH = f"$argon2id$v=19$m=8,t=1,p=1${'A' * 22}${'B' * 43}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.txt"


@pytest.fixture
def users(path: Path) -> Users:
    return Users(path)


def test_without_a_file_there_are_no_users(users: Users, path: Path) -> None:
    assert users.read() == {}
    with pytest.raises(NoUsersError, match=r"tabserve users add NAME.*AUTH_REQUIRED=false"):
        users.check_there_are_some()
    assert not path.exists()


def test_an_added_user_has_the_password_and_no_other(users: Users) -> None:
    assert users.add("alice", PASSWORD)
    assert users.add("bob", f"{PASSWORD}2")
    hashes = Users(users._path).read()
    assert list(hashes) == ["alice", "bob"]
    assert matches(hashes["alice"].hash, PASSWORD)
    assert not matches(hashes["alice"].hash, f"{PASSWORD}2")
    assert not matches(hashes["alice"].hash, "")
    users.check_there_are_some()


def test_adding_a_user_again_changes_the_password(users: Users) -> None:
    users.add("alice", PASSWORD)
    assert not users.add("alice", "another password")
    (user,) = users.read().values()
    assert matches(user.hash, "another password")
    assert not matches(user.hash, PASSWORD)


def test_a_removed_user_is_gone_and_the_others_are_not(users: Users) -> None:
    users.add("alice", PASSWORD)
    users.add("bob", PASSWORD)
    users.remove("alice")
    assert list(users.read()) == ["bob"]
    with pytest.raises(UnknownUserError):
        users.remove("alice")


def test_hashes_are_argon2id_with_owasps_parameters_and_a_salt_of_their_own(users: Users, path: Path) -> None:
    users.add("alice", PASSWORD)
    users.add("bob", PASSWORD)
    hashes = [user.hash for user in users.read().values()]
    for hash_ in hashes:
        parameters = extract_parameters(hash_)
        assert parameters.type is Type.ID
        assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19 * 1024, 2, 1)
    assert hashes[0] != hashes[1]
    assert PASSWORD not in path.read_text()


def test_a_user_may_predict_and_read_unless_the_file_says_what(users: Users, path: Path) -> None:
    users.add("alice", PASSWORD)
    users.add("bob", PASSWORD, ["audit", "read"])
    assert [user.scopes for user in users.read().values()] == [{"predict", "read"}, {"audit", "read"}]
    alice, bob = path.read_text().splitlines()
    assert alice.count(":") == 1  # as files always were
    assert bob.endswith(":read,audit")
    users.add("bob", f"{PASSWORD}2")  # a new password is no new scope
    assert users.read()["bob"].scopes == {"audit", "read"}
    users.allow("alice", ["audit"])
    users.allow("bob", ["read", "predict"])
    assert [user.scopes for user in users.read().values()] == [{"audit"}, {"predict", "read"}]
    with pytest.raises(UnknownUserError):
        users.allow("carl", ["read"])


@pytest.mark.parametrize("scopes", [[], [""], ["write"], ["read", "Audit"], ["read", "audit "]])
def test_a_scope_that_there_is_not_is_refused_and_nothing_is_written(
    users: Users, path: Path, scopes: list[str]
) -> None:
    with pytest.raises(InvalidUserError, match="predict, read, audit"):
        users.add("alice", PASSWORD, scopes)
    assert not path.exists()


@given(
    st.lists(
        st.tuples(st.from_regex(r"[A-Za-z0-9._@-]{1,64}", fullmatch=True), st.sets(st.sampled_from([*SCOPES]))),
        max_size=5,
        unique_by=lambda user: user[0],
    )
)
def test_what_is_written_of_users_is_what_is_read(listed: list[tuple[str, set[str]]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "users.txt"
        named = {name: User(HASH, frozenset(scopes) or DEFAULT_SCOPES) for name, scopes in listed}
        path.write_text("".join(user.line(name) for name, user in named.items()))
        assert Users(path).read() == named


@given(st.text(alphabet=st.sampled_from("predictaudit,:\0 \x85"), max_size=20))
def test_no_other_scopes_are_read(text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "users.txt"
        path.write_bytes(f"alice:{HASH}:{text}\n".encode())
        if set(text.split(",")) <= set(SCOPES):
            assert Users(path).read()["alice"].scopes == set(text.split(","))
        else:
            with pytest.raises(UsersFileError, match="line 1"):
                Users(path).read()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_the_file_is_its_owners_alone(users: Users, path: Path, umask: int) -> None:
    path.touch(0o666)
    before = os.umask(umask)
    try:
        users.add("alice", PASSWORD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_file_as_it_was(
    users: Users, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.add("alice", PASSWORD)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fsync", full)
        with pytest.raises(UsersFileError, match="writing it failed") as caught:
            users.add("bob", PASSWORD)
    assert str(path) not in str(caught.value)
    assert path.read_bytes() == before
    users.add("bob", PASSWORD)  # what the failed one left is in nobody's way
    assert list(users.read()) == ["alice", "bob"]
    assert [file.name for file in path.parent.iterdir()] == ["users.txt"]


def test_the_file_is_replaced_and_never_written_to(users: Users, path: Path) -> None:
    users.add("alice", PASSWORD)
    with path.open() as reader:
        users.add("bob", PASSWORD)
        assert len(reader.read().splitlines()) == 1
    assert len(path.read_text().splitlines()) == 2


def test_processes_that_change_the_file_at_once_lose_nothing(path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tabserve.api.users import Users\n"
        "users = Users(Path(sys.argv[1]))\n"
        "sys.stdin.read()\n"
        "for number in range(10):\n"
        "    users.add(f'{sys.argv[2]}{number}', 'correct horse battery')\n"
        "users.remove(f'{sys.argv[2]}0')\n"
    )
    adders = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=ROOT, stdin=subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    for adder in adders:
        assert adder.stdin
        adder.stdin.close()  # on your marks
    assert [adder.wait(60) for adder in adders] == [0, 0, 0]
    assert set(Users(path).read()) == {f"{name}{number}" for name in "abc" for number in range(1, 10)}


@pytest.mark.parametrize("name", ["a", "Alice.B-c_d@example.org", "0", "x" * 64, "-", "..."])
def test_a_name_of_letters_digits_and_some_signs_is_taken(users: Users, name: str) -> None:
    users.add(name, PASSWORD)
    assert list(users.read()) == [name]


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "a:b", "a b", "a\n", "\n", "a\0", "a\x1b", "ä", "\u0661", "a/b", "a\u2028b", "a\r"]
)
def test_any_other_name_is_refused_and_nothing_is_written(users: Users, path: Path, name: str) -> None:
    with pytest.raises(InvalidUserError, match="1 to 64 characters"):
        users.add(name, PASSWORD)
    assert not path.exists()


@pytest.mark.parametrize(
    "password", ["x" * 8, "x" * 1024, "ä" * 512, "with: colon ", "käse und brot \U0001f9c0", " " * 12]
)
def test_a_password_of_some_length_is_taken(users: Users, password: str) -> None:
    users.add("alice", password)
    assert matches(users.read()["alice"].hash, password)


@pytest.mark.parametrize("password", ["", "x" * 7, "ä" * 7, "x" * 1025, "ä" * 513, "\udcff" * 12])
def test_any_other_password_is_refused_and_not_repeated(users: Users, path: Path, password: str) -> None:
    with pytest.raises(InvalidUserError, match="The password must") as caught:
        users.add("alice", password)
    assert not password or password not in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "bob",
        "bob:",
        "bob:hunter2hunter2",
        "bob:{hash} ",
        " bob:{hash}",
        "b b:{hash}",
        ":{hash}",
        "bob:{hash}:x",
        "bob:{hash}:",
        "bob:{hash}:read,",
        "bob:{hash}:read,write",
        "bob:{hash}:read:audit",
        "bob:$argon2i${rest}",
        "bob:$argon2id$v=19$m=19456,t=2,p=1$short$hash",
        "alice:{hash}",
        "\ufeffbob:{hash}",
        "bob\0:{hash}",
    ],
)
def test_a_line_that_is_no_users_is_refused_with_its_number_and_without_its_content(
    users: Users, path: Path, line: str
) -> None:
    write_users(path, ("alice", PASSWORD))
    hash_ = users.read()["alice"].hash
    content = path.read_text() + line.format(hash=hash_, rest=hash_.removeprefix("$argon2id$")) + "\n"
    path.write_text(content, encoding="utf-8")
    for use in (users.read, users.check_there_are_some, lambda: users.add("carl", PASSWORD)):
        with pytest.raises(UsersFileError, match=r"AUTH_USERS_FILE.*line 2") as caught:
            use()
        assert not {"bob", "alice", "hunter2", hash_, str(path)} & set(str(caught.value).split())
    assert path.read_text(encoding="utf-8") == content


def test_bytes_that_are_no_text_are_refused_with_their_line(users: Users, path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00:\n")
    with pytest.raises(UsersFileError, match="line 1"):
        users.read()


def test_a_file_without_a_last_newline_or_with_windows_newlines_is_read(users: Users, path: Path) -> None:
    write_users(path, ("alice", PASSWORD), ("bob", PASSWORD))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    assert list(users.read()) == ["alice", "bob"]
    users.add("carl", PASSWORD)
    assert list(users.read()) == ["alice", "bob", "carl"]


def test_what_cannot_be_read_or_written_is_said_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsersFileError, match="reading it failed") as caught:
        Users(tmp_path).read()
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(UsersFileError, match="writing it failed") as caught:
        Users(tmp_path / "missing" / "users.txt").add("alice", PASSWORD)
    assert str(tmp_path) not in str(caught.value)


def test_a_hash_that_cannot_be_computed_is_the_files_fault(users: Users, path: Path) -> None:
    write_users(path, ("alice", PASSWORD))
    path.write_text(path.read_text().replace("m=8,", "m=1,"))  # argon2 needs at least 8
    with pytest.raises(UsersFileError, match="could not be computed"):
        matches(users.read()["alice"].hash, PASSWORD)


def test_a_link_to_the_users_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    link, target = tmp_path / "users.txt", tmp_path / "secrets" / "users"
    link.symlink_to(target)
    Users(link).add("alice", "correct horse battery")
    Users(link).add("bob", "correct horse battery")
    assert link.is_symlink()
    assert list(Users(target).read()) == ["alice", "bob"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_that_root_changes_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    Users(path).add("alice", "correct horse battery")
    os.chown(path, 65534, 65534)
    Users(path).add("bob", "correct horse battery")
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)
