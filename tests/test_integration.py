"""The integration script against real servers: one that is right, and ones that are not."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner, Result

from tabserve.registry.registry import Registry
from tests.conftest import ALICE, Server, running_server
from tests.integration import main


def run(url: str, registry: Registry, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--url", url, *arguments], env={"MODEL_REGISTRY": str(registry.location)})


@contextmanager
def altered(server: Server, alter: Callable[[str, Any], Any]) -> Iterator[str]:
    """A server that passes requests on and changes the answers."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one piece: in two, each would wait for an acknowledgement

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
            with urlopen(Request(server.url + self.path, body, method=self.command), timeout=30) as response:
                content = json.dumps(alter(self.path, json.load(response))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()


def test_a_service_that_answers_as_trained_passes(server: Server, trained: Registry) -> None:
    result = run(server.url, trained)
    assert result.exit_code == 0, result.output
    manifest = trained.manifest(trained.latest("credit"))
    assert f"roc_auc   {manifest.metrics['hold_out']['roc_auc']:.4f}" in result.output
    assert "p99" in result.output


def test_a_regression_passes_too(server: Server, trained: Registry) -> None:
    model_id = trained.latest("bikes")
    result = run(server.url, trained, "--hold-out", str(trained.location / model_id / "test.parquet"))
    assert result.exit_code == 0, result.output
    assert f"r2        {trained.manifest(model_id).metrics['hold_out']['r2']:.4f}" in result.output


def test_a_service_that_needs_a_user_gets_one_from_the_environment(
    trained: Registry, users_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"MODEL_REGISTRY": str(trained.location), "AUTH_REQUIRED": "true", "AUTH_USERS_FILE": str(users_file)}
    with running_server(tmp_path / "log.txt", {**environment, "WEB_CONCURRENCY": "1"}) as service:
        refused = run(service.url, trained)
        assert refused.exit_code == 1
        assert ": 401 Send a user" in refused.output
        monkeypatch.setenv("TABSERVE_USER", ALICE[0])
        monkeypatch.setenv("TABSERVE_PASSWORD", ALICE[1])
        passed = run(service.url, trained)
        assert passed.exit_code == 0, passed.output


def test_a_batch_that_disagrees_with_its_rows_fails(server: Server, trained: Registry) -> None:
    def alter(path: str, answer: Any) -> Any:
        if path.startswith("/outputs/"):
            answer["probability"][7] += 1e-12
        return answer

    with altered(server, alter) as url:
        result = run(url, trained)
    assert result.exit_code == 1
    assert "disagree on 1 rows" in result.output


@pytest.mark.parametrize(("above", "exit_code"), [(0.0009, 0), (0.0011, 1)])
def test_an_auc_below_the_manifests_fails(server: Server, trained: Registry, above: float, exit_code: int) -> None:
    def alter(path: str, answer: Any) -> Any:
        if path.startswith("/models/"):
            answer["hold_out"]["score"] += above
        return answer

    with altered(server, alter) as url:
        result = run(url, trained)
    assert result.exit_code == exit_code
    assert ("the roc_auc is below the manifest's" in result.output) == bool(exit_code)


def test_what_cannot_be_checked_is_said_in_one_line(server: Server, trained: Registry, tmp_path: Path) -> None:
    refused = run("http://127.0.0.1:9", trained)
    assert (refused.exit_code, len(refused.output.splitlines())) == (1, 1)
    assert "no usable answer" in refused.output
    assert "must look like" in run("localhost:8080", trained).output
    kept_out = Registry(tmp_path / "models")
    trained.copy(trained.latest("credit"), kept_out, hold_out=False)
    without = run(server.url, kept_out)
    assert (without.exit_code, len(without.output.splitlines())) == (1, 1)
    assert "hold-out of this model is not stored here" in without.output
    stray = shutil.copy(trained.location / trained.latest("credit") / "test.parquet", tmp_path)
    assert "must lie in its artifact's folder" in run(server.url, trained, "--hold-out", str(stray)).output
