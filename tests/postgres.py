"""A PostgreSQL of a test's own."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tests.conftest import children_of, wait_until

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"), key=str)


def new_database(server: str) -> str:
    """The address of an empty database of a server, whose address is without one."""
    name = f"test_{secrets.token_hex(4)}"
    address = f"{server.replace('postgresql:', 'postgresql+psycopg:')}/postgres"
    engine = sql.create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
    engine.dispose()
    return f"{server}/{name}"


class Postgres:
    """A PostgreSQL on 127.0.0.1, whose superuser has that name and password."""

    def __init__(self, owner: str, password: str) -> None:
        if not (PROGRAMS / "initdb").exists():
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        # the server refuses to run as root
        user = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
        self.folder = Path(tempfile.mkdtemp(prefix="tabserve-postgres-"))
        (self.folder / "password").write_text(password)
        for path in (self.folder, self.folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
        self._as_user: dict[str, Any] = {
            "cwd": self.folder,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        if os.getuid() == 0:
            self._as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        secured = ["--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}", f"--username={owner}", "--no-sync"]
        subprocess.run([PROGRAMS / "initdb", "-D", self.folder / "data", *secured], check=True, **self._as_user)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["-p", str(self.port), "-k", self.folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self.process = subprocess.Popen([PROGRAMS / "postgres", "-D", self.folder / "data", *options], **self._as_user)
        ready = [PROGRAMS / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(lambda: subprocess.run(ready, **self._as_user).returncode == 0, 60, "PostgreSQL does not start.")

    def kill(self) -> None:
        """End it in the middle of what it does."""
        children = children_of(self.process.pid)
        self.process.kill()
        self.process.wait()
        for child in children:  # they would end a moment later
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def stop(self) -> None:
        """End it, and delete its data."""
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder)


@contextmanager
def running_postgres(owner: str, password: str) -> Iterator[int]:
    """The port of a `Postgres`."""
    server = Postgres(owner, password)
    try:
        server.start()
        yield server.port
    finally:
        server.stop()
