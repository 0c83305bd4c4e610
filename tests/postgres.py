"""A PostgreSQL of a test's own."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tests.conftest import wait_until

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


@contextmanager
def running_postgres(owner: str, password: str) -> Iterator[int]:
    """The port of a PostgreSQL on 127.0.0.1, whose superuser has that name and password."""
    if not (PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # the server refuses to run as root
    user = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
    folder = Path(tempfile.mkdtemp(prefix="tabserve-postgres-"))
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        os.chown(path, user.pw_uid, user.pw_gid)
    as_user: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.getuid() == 0:
        as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = folder / "data"
    secured = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}", f"--username={owner}", "--no-sync"]
    subprocess.run([PROGRAMS / "initdb", "-D", data, *secured], check=True, **as_user)
    options = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen([PROGRAMS / "postgres", "-D", data, *options], **as_user)
    try:
        ready = [PROGRAMS / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        wait_until(lambda: subprocess.run(ready, **as_user).returncode == 0, 60, "PostgreSQL does not start.")
        yield port
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)
