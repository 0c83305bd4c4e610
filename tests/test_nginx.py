"""nginx in front of the service as Elastic Beanstalk and compose set it up, with our files: a real one."""

import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE, ROOT, Server, free_port, running_server

OURS = ROOT / "deploy" / "elasticbeanstalk" / ".platform" / "nginx"
LIMIT = 64 * 1024 * 1024  # client_max_body_size
BIKES = "/predictions?hour=15&weekday=Friday&month=June&weather=Cloudy"  # always needs a user
CLIENT = "203.0.113.9"  # what the load balancer says of a client

# The platform's own files on Amazon Linux 2023, as far as they matter here, with a port and folders for tests.
NGINX_CONF = """
{user}
error_log {folder}/error.log warn;
pid {folder}/nginx.pid;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" '
                    '"$http_user_agent" "$http_x_forwarded_for"';
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include conf.d/*.conf;
    map $http_upgrade $connection_upgrade {{ default "upgrade"; }}
    server {{
        listen 127.0.0.1:{port} default_server;
        access_log {folder}/access.log main;
        client_header_timeout 60;
        client_body_timeout 60;
        keepalive_timeout 60;
        gzip off;
        gzip_comp_level 4;
        gzip_types text/plain text/css application/json application/javascript application/x-javascript
                   text/xml application/xml application/xml+rss text/javascript;
        include conf.d/elasticbeanstalk/*.conf;
    }}
}}
"""
UPSTREAM_CONF = "upstream docker {{ server 127.0.0.1:{upstream}; keepalive 256; }}"
APPLICATION_CONF = """
location / {
    proxy_pass http://docker;
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
}
"""
HEALTH_FORMAT_CONF = 'log_format healthd \'$msec"$uri"$status"$request_time"$upstream_response_time\';'
HEALTH_CONF = """
if ($time_iso8601 ~ "^(\\d{{4}})") {{ set $year $1; }}
access_log {folder}/health.log.$year healthd;
"""


def lay_out(folder: Path, port: int, upstream: int) -> list[str]:
    """Write the configuration as a deployment does; the command that runs nginx with it."""
    inside = folder / "conf.d" / "elasticbeanstalk"
    inside.mkdir(parents=True)
    (folder / "html").mkdir()  # nginx's default root: a log with a variable in its name is not written without it
    user = "user root;" if os.geteuid() == 0 else ""  # another user could not enter the folders of tests
    (folder / "nginx.conf").write_text(NGINX_CONF.format(folder=folder, port=port, user=user))
    (folder / "conf.d" / "elasticbeanstalk-nginx-docker-upstream.conf").write_text(
        UPSTREAM_CONF.format(upstream=upstream)
    )
    (folder / "conf.d" / "healthd_logformat.conf").write_text(HEALTH_FORMAT_CONF)
    (inside / "00_application.conf").write_text(APPLICATION_CONF)
    (inside / "healthd.conf").write_text(HEALTH_CONF.format(folder=folder))
    shutil.copytree(OURS, folder, dirs_exist_ok=True)  # over the platform's own: the same name would replace
    return nginx_in(folder)


def nginx_in(folder: Path) -> list[str]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    return [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Nginx:
    """A running nginx."""

    port: int
    folder: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Answer to one request; underscores in headers' names are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


class running_nginx:  # noqa: N801 - used as a function
    """nginx in front of an upstream's port, or as another command says, while the `with` block runs."""

    def __init__(self, folder: Path, upstream: int, lay_out: Callable[[Path, int, int], list[str]] = lay_out) -> None:
        self.folder = folder
        self.port = free_port()
        self.command = lay_out(folder, self.port, upstream)

    def __enter__(self) -> Nginx:
        self.process = subprocess.Popen([*self.command, "-g", "daemon off;"])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return Nginx(self.port, self.folder)
            except OSError:
                time.sleep(0.02)
        self.__exit__()
        pytest.fail(f"nginx did not start:\n{(self.folder / 'error.log').read_text()}")

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        self.process.wait(20)


class Echo(BaseHTTPRequestHandler):
    """Says what reached it."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        digest, length = hashlib.sha256(), int(self.headers.get("Content-Length", 0))
        left = length
        while left:
            part = self.rfile.read(min(left, 1 << 20))
            digest.update(part)
            left -= len(part)
        said = {
            "path": self.path,
            "headers": {name.lower(): text for name, text in self.headers.items()},
            "length": length,
            "sha256": digest.hexdigest(),
            "connection": self.client_address[1],
        }
        content = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx in front of something that says what reached it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as upstream:
        upstream.daemon_threads = True
        upstream.block_on_close = False
        thread = threading.Thread(target=upstream.serve_forever)
        thread.start()
        try:
            with running_nginx(tmp_path_factory.mktemp("echo"), upstream.server_address[1]) as nginx:
                yield nginx
        finally:
            upstream.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def service(
    trained: Registry, users_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Nginx, Server]]:
    """nginx in front of the service, set up as in the environment."""
    folder = tmp_path_factory.mktemp("service")
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "TRUSTED_PROXIES": "2",
        "AUTH_USERS_FILE": str(users_file),
        "DATABASE_URL": f"sqlite:///{folder}/jobs.db",
        "JOB_WORKERS": "0",
    }
    with running_server(folder / "service.txt", environment) as server:
        port = int(server.url.rpartition(":")[2])
        with running_nginx(folder / "nginx", port) as nginx:
            yield nginx, server


def test_the_configuration_is_valid_and_nginx_warns_of_nothing(tmp_path: Path) -> None:
    done = subprocess.run([*lay_out(tmp_path, free_port(), 8080), "-t"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    assert "[emerg]" not in done.stderr


def test_no_file_of_ours_has_the_name_of_one_of_the_platform() -> None:
    # so that nothing depends on which of the two would win
    assert {path.name for path in OURS.rglob("*.conf")} == {"tabserve.conf"}


def test_it_does_not_depend_on_what_the_platform_says_of_the_root(tmp_path: Path) -> None:
    command = lay_out(tmp_path, free_port(), 8080)
    (tmp_path / "conf.d" / "elasticbeanstalk" / "00_application.conf").unlink()
    done = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/output/credit", "/predictions?hour=15&weekday=Friday", "/readyx", "/ready/x"])
def test_http_is_redirected_with_its_method_path_and_query(echo: Nginx, method: str, path: str) -> None:
    answer = echo.ask(method, path, X_Forwarded_Proto="http", Host="scores.example.org")
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://scores.example.org{path}"


def test_a_redirection_forgets_the_port_of_http(echo: Nginx) -> None:
    answer = echo.ask("GET", "/docs", X_Forwarded_Proto="http", Host="scores.example.org:80")
    assert answer.headers["Location"] == "https://scores.example.org/docs"


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/%6Detrics", "/metrics?name=x"])
def test_metrics_are_not_passed_on(echo: Nginx, path: str) -> None:
    answer = echo.ask("GET", path, X_Forwarded_Proto="https")
    assert (answer.status, answer.json["detail"]) == (404, "There is nothing here.")


@pytest.mark.parametrize("path", ["/", "/output/credit", "/ready"])
def test_https_is_not_redirected(echo: Nginx, path: str) -> None:
    answer = echo.ask("POST", path, b"{}", X_Forwarded_Proto="https")
    assert (answer.status, answer.json["path"]) == (200, path)


@pytest.mark.parametrize("headers", [{}, {"X_Forwarded_Proto": "http"}])
@pytest.mark.parametrize("path", ["/ready", "/ready/"])
def test_the_health_check_is_never_redirected(echo: Nginx, path: str, headers: dict[str, str]) -> None:
    assert echo.ask("GET", path, **headers).status == 200


def test_each_proxy_adds_to_what_is_forwarded(echo: Nginx) -> None:
    answer = echo.ask("GET", "/", X_Forwarded_For=CLIENT, X_Forwarded_Proto="https", Host="scores.example.org")
    headers = answer.json["headers"]
    assert headers["x-forwarded-for"] == f"{CLIENT}, 127.0.0.1"
    assert headers["x-forwarded-proto"] == "https, http"
    assert headers["host"] == "scores.example.org"


def test_without_a_load_balancer_nginx_is_the_only_proxy(echo: Nginx) -> None:
    headers = echo.ask("GET", "/").json["headers"]
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"


def test_connections_to_the_container_are_kept(echo: Nginx) -> None:
    answers = [echo.ask("GET", "/").json for _ in range(3)]
    assert len({answer["connection"] for answer in answers}) == 1
    assert "connection" not in answers[0]["headers"]


def test_a_body_of_20_mb_arrives_as_it_was_sent(echo: Nginx) -> None:
    body = os.urandom(20 * 1024 * 1024)
    answer = echo.ask("POST", "/outputs_upload/credit", body, X_Forwarded_Proto="https")
    assert answer.status == 200
    assert (answer.json["length"], answer.json["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_nginx_refuses_only_what_is_far_above_the_services_own_limit(echo: Nginx) -> None:
    assert 2 * Settings().max_content_length < LIMIT
    for length, status in ((LIMIT, b"100"), (LIMIT + 1, b"413")):
        with socket.create_connection(("127.0.0.1", echo.port), 20) as connection:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).split(b" ")[1] == status


def test_the_platform_still_sees_every_request(echo: Nginx) -> None:
    echo.ask("GET", "/seen")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        logs = [path.read_text() for path in echo.folder.glob("*.log*") if path.name != "error.log"]
        if len(logs) == 2 and all("/seen" in log for log in logs):
            return
        time.sleep(0.05)
    pytest.fail("the access log and the log of enhanced health do not both hold the request")


@pytest.mark.parametrize("path", ["/openapi.json", "/"])
def test_json_and_html_are_compressed_for_who_asks(service: tuple[Nginx, Server], path: str) -> None:
    nginx, _ = service
    plain = nginx.ask("GET", path)
    small = nginx.ask("GET", path, Accept_Encoding="gzip")
    assert plain.status == small.status == 200
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Vary"] == small.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(small.body) == plain.body
    assert len(small.body) < len(plain.body) / 2


def test_a_short_answer_is_not_compressed(service: tuple[Nginx, Server]) -> None:
    nginx, _ = service
    answer = nginx.ask("GET", "/health", Accept_Encoding="gzip")
    assert "Content-Encoding" not in answer.headers
    assert answer.json == {"status": "ok"}


def test_a_prediction_through_nginx(service: tuple[Nginx, Server], record: dict[str, Any]) -> None:
    nginx, _ = service
    body = json.dumps(record).encode()
    answer = nginx.ask("POST", "/output/credit", body, Content_Type="application/json", X_Forwarded_Proto="https")
    assert answer.status == 200
    assert answer.json["result"] in ([0], [1])


@pytest.mark.parametrize("path", ["/output/credit", "/outputs_upload/credit"])
def test_a_body_above_the_services_limit_is_refused_in_its_words(service: tuple[Nginx, Server], path: str) -> None:
    nginx, _ = service
    body = b" " * (Settings().max_content_length + 1)
    kind = "application/json" if path.startswith("/output/") else "multipart/form-data; boundary=x"
    for _ in range(5):
        answer = nginx.ask("POST", path, body, Content_Type=kind, X_Forwarded_Proto="https")
        assert answer.status == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["status"] == 413


def test_six_large_uploads_at_once_are_all_taken_as_jobs(service: tuple[Nginx, Server]) -> None:
    nginx, _ = service
    head = b'--B\r\nContent-Disposition: form-data; name="fileupload"; filename="rows.csv"\r\n\r\n'
    body = head + b"0;1;2;3\r\n" * 900_000 + b"\r\n--B--\r\n"
    kind = {"Content_Type": "multipart/form-data; boundary=B", "X_Forwarded_Proto": "https"}
    with ThreadPoolExecutor(6) as pool:
        answers = [*pool.map(lambda _: nginx.ask("POST", "/jobs/credit", body, **kind), range(6))]
    assert [answer.status for answer in answers] == [202] * 6
    for answer in answers:
        path = answer.headers["Location"]
        assert nginx.ask("GET", path, **kind).json["state"] == "waiting"
        assert nginx.ask("DELETE", path, **kind).status == 204


def test_a_refusal_before_the_body_is_read_arrives(service: tuple[Nginx, Server]) -> None:
    nginx, _ = service
    for _ in range(5):
        answer = nginx.ask("POST", BIKES, b" " * (4 * 1024 * 1024), X_Forwarded_For="203.0.113.10")
        assert answer.status == 401
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_clients_are_told_apart_by_what_the_load_balancer_says_of_them(service: tuple[Nginx, Server]) -> None:
    nginx, server = service
    chain = f"198.51.100.66, {CLIENT}"  # the first is what the client itself claims
    headers = {"Authorization": f"Basic {basic(ALICE[0], 'wrong password')}", "X_Forwarded_For": chain}
    answer = nginx.ask("POST", BIKES, **headers)
    assert answer.status == 401
    (line,) = [line for line in server.log.read_text().splitlines() if "refused alice" in line]
    assert f"from {CLIENT}:" in line


def basic(name: str, password: str) -> str:
    return b64encode(f"{name}:{password}".encode()).decode()


# what a proxy hands to the next replica


OVERLOADED = "503 Service Unavailable"


class Replicas:
    """Some that count what reaches them; `fatal` requests kill, as far as nginx can see, each that reads one."""

    def __init__(self, count: int = 3) -> None:
        self.fatal = b"\0"
        self.reached: list[int] = []  # the replica, for each request
        self.listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        self.ports = [listener.getsockname()[1] for listener in self.listeners]
        self.status = "200 OK"
        self.overloaded: set[int] = set()  # the replicas that refuse whatever they read
        for number, listener in enumerate(self.listeners):
            threading.Thread(target=self.serve, args=(number, listener), daemon=True).start()

    def serve(self, number: int, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                head, _, body = read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
                if not head:
                    continue
                self.reached.append(number)
                if self.fatal in head:  # with most of its body unread
                    continue
                length = next((line for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), b":0")
                missing = int(length.partition(b":")[2]) - len(body)
                while missing > 0 and (part := client.recv(65536)):
                    missing -= len(part)
                path = head.split()[1]
                status = f"{OVERLOADED}\r\nRetry-After: 1" if number in self.overloaded else self.status
                client.sendall(
                    f"HTTP/1.1 {status}\r\nContent-Length: {len(path)}\r\nConnection: close\r\n\r\n".encode() + path
                )

    def close(self) -> None:
        for listener in self.listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data and (part := client.recv(65536)):
        data += part
    return data


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    with closing(Replicas()) as made:
        yield made


@pytest.fixture
def compose(replicas: Replicas, tmp_path: Path) -> Iterator[Nginx]:
    with nginx_of_compose(tmp_path, replicas) as nginx:
        yield nginx


def nginx_of_compose(folder: Path, replicas: Replicas, **changes: str) -> running_nginx:
    """compose's nginx, whose replicas are here instead of in Docker's DNS, and some directives changed."""

    def lay_out(folder: Path, port: int, _: int) -> list[str]:
        servers = "".join(f"server 127.0.0.1:{port} max_fails=0; " for port in replicas.ports)
        text = (ROOT / "deploy" / "compose" / "nginx.conf").read_text()
        for ours, theirs in {
            "http://replica:8080": "http://replicas",
            "http {": f"http {{\nupstream replicas {{ {servers}}}",
            "listen 8080": f"listen 127.0.0.1:{port}",
            "/tmp/": f"{folder}/",
            "/dev/stderr": f"{folder}/error.log",
        }.items():
            assert ours in text
            text = text.replace(ours, theirs)
        for directive, value in changes.items():
            text, count = re.subn(rf"\b{directive} \S+;", f"{directive} {value};", text)
            assert count == 1, directive
        user = "user root;\n" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(user + text)
        return nginx_in(folder)

    return running_nginx(folder, 0, lay_out)


PATHS = ["/outputs_upload/credit", "/outputs_upload/credit/?partial=true", "/outputs%5Fupload/credit"]
JOBS = ["/jobs/credit", "/jobs/credit/?partial=true", "/jobs//credit", "//jobs/credit", "/j%6Fbs/credit"]
SENT_ONCE = [
    *[(path, 9_000) for path in PATHS],
    *[(path, 2) for path in JOBS],
    ("/jobs/credit", 0),  # the hold-out
    ("/output/credit", 16_000_000),
    ("/explain/credit", 100_000),
]


@pytest.mark.parametrize(("path", "length"), SENT_ONCE)
def test_what_may_kill_a_replica_or_makes_a_job_is_handed_to_one_alone(
    compose: Nginx, replicas: Replicas, path: str, length: int
) -> None:
    replicas.fatal = b"POST"
    answer = compose.ask("POST", path, b"x" * length)
    assert (answer.status, answer.json["detail"]) == (503, "No replica answers.")
    assert answer.headers["Retry-After"] == "1"
    assert len(replicas.reached) == 1


def test_so_is_a_body_whose_length_nobody_said(compose: Nginx, replicas: Replicas) -> None:
    replicas.fatal = b"POST"
    with closing(http.client.HTTPConnection("127.0.0.1", compose.port, timeout=60)) as connection:
        connection.request("POST", "/output/credit", iter([b"x" * 9_000] * 2), encode_chunked=True)
        assert connection.getresponse().status == 503
    assert len(replicas.reached) == 1


@pytest.mark.parametrize("path", ["/output/credit", "/predict", "/explain/credit", "/outputs/credit"])
def test_a_short_request_whose_replica_dies_is_handed_to_the_next(
    compose: Nginx, replicas: Replicas, path: str
) -> None:
    replicas.fatal = b"POST"
    assert compose.ask("POST", path, b"{}").status == 503
    assert sorted(replicas.reached) == [0, 1, 2]


@pytest.mark.parametrize("path", ["/jobs/4f1c", "/jobs/4f1c/result.csv"])
def test_a_job_is_looked_up_at_another_replica_when_one_dies(compose: Nginx, replicas: Replicas, path: str) -> None:
    replicas.fatal = b"GET"
    assert compose.ask("GET", path).status == 503
    assert sorted(replicas.reached) == [0, 1, 2]


@pytest.mark.parametrize(("path", "length"), [("/output/credit", 2), *SENT_ONCE])
def test_whatever_was_not_begun_is_handed_to_a_replica_that_is_there(
    compose: Nginx, replicas: Replicas, path: str, length: int
) -> None:
    for listener in replicas.listeners[:2]:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for _ in range(6):
        answer = compose.ask("POST", path, b"x" * length)
        assert (answer.status, answer.body.decode()) == (200, path)
    assert replicas.reached == [2] * 6


@pytest.mark.parametrize(("path", "length"), [("/outputs_upload/credit", 9_000), ("/jobs/credit", 2)])
def test_a_refusal_of_what_is_sent_once_arrives_as_it_is(
    compose: Nginx, replicas: Replicas, path: str, length: int
) -> None:
    replicas.overloaded = {0, 1, 2}
    answer = compose.ask("POST", path, b"x" * length)
    assert (answer.status, answer.headers["Retry-After"], answer.body.decode()) == (503, "1", path)
    assert len(replicas.reached) == 1


def test_a_short_request_that_an_overloaded_replica_refuses_is_answered_by_another(
    compose: Nginx, replicas: Replicas
) -> None:
    replicas.overloaded = {0, 1}
    for _ in range(6):
        answer = compose.ask("POST", "/output/credit", b"{}")
        assert (answer.status, answer.body) == (200, b"/output/credit")
    assert replicas.reached.count(2) == 6


def test_when_all_are_overloaded_three_of_them_are_asked_and_the_refusal_arrives(tmp_path: Path) -> None:
    with closing(Replicas(5)) as replicas, nginx_of_compose(tmp_path, replicas) as nginx:
        replicas.overloaded = set(range(5))
        answer = nginx.ask("POST", "/output/credit", b"{}")
        assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "1", b"/output/credit")
        assert len(set(replicas.reached)) == len(replicas.reached) == 3


def test_a_client_that_is_slow_to_send_reaches_no_replica(replicas: Replicas, tmp_path: Path) -> None:
    brief = {"client_header_timeout": "300ms", "client_body_timeout": "300ms"}
    head = b"POST /output/credit HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
    with nginx_of_compose(tmp_path, replicas, **brief) as nginx:
        for sent in (head, head + b"\r\n{"):
            with socket.create_connection(("127.0.0.1", nginx.port), 20) as client, suppress(ConnectionResetError):
                client.sendall(sent)
                assert client.recv(100) == b""
    assert replicas.reached == []


@pytest.mark.parametrize("path", ["/outputs_upload/credit", "/jobs/credit"])
def test_elastic_beanstalks_nginx_sends_no_file_and_no_job_twice(replicas: Replicas, tmp_path: Path, path: str) -> None:
    replicas.fatal = path.encode()
    with running_nginx(tmp_path, replicas.ports[0]) as nginx:
        assert nginx.ask("POST", "/output/credit", b"{}").status == 200
        assert nginx.ask("POST", path, b"x" * 9_000).status == 502
    assert len(replicas.reached) == 2


def test_elastic_beanstalks_nginx_passes_a_refusal_on(replicas: Replicas, tmp_path: Path) -> None:
    replicas.overloaded = {0}
    with running_nginx(tmp_path, replicas.ports[0]) as nginx:
        answer = nginx.ask("POST", "/output/credit", b"{}")
    assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "1", b"/output/credit")
    assert replicas.reached == [0]
