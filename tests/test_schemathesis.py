"""schemathesis: whether the running service does what its OpenAPI document says, by every check that it has."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tabserve.registry.registry import Registry
from tests.conftest import ALICE, ROOT, running_server

OPERATIONS = 21


# As a command, since its pytest plugin warns, and warnings are errors here.
@pytest.mark.slow
@pytest.mark.parametrize(("auth_required", "examples"), [("true", 20), ("false", 20)])
def test_the_service_does_what_its_document_says(
    trained: Registry, users_file: Path, tmp_path: Path, auth_required: str, examples: int
) -> None:
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "MAX_ROWS": "20",  # so that longer lists are tried
        "AUTH_REQUIRED": auth_required,
        "AUTH_USERS_FILE": str(users_file),
        "DECISION_LOG": f"sqlite:///{tmp_path / 'decisions.db'}",
        "DECISION_SPOOL_FOLDER": str(tmp_path / "decisions"),
    }
    unlimited = {f"tabserve.jobs.store.{name}": 10**6 for name in ("MOST_WAITING", "MOST_OF_ONE")}
    with running_server(tmp_path / "log.txt", environment, unlimited) as server:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", "tests/schemathesis.toml", "--no-color"),
            *("run", f"{server.url}/openapi.json", "--auth", ":".join(ALICE), "--checks", "all"),
            *("--generation-deterministic", "--max-examples", str(examples)),
        ]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMATHESIS")}
        done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=1800)
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout
    assert int(tested[1]) == OPERATIONS
    assert "unexpected" not in log
