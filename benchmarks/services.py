"""The services under test: how each is started on one core, called, measured and stopped."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

ROOT = Path(__file__).parent.parent
SERVER_CORE, DRIVER_CORE = sorted(os.sched_getaffinity(0))[:2] if len(os.sched_getaffinity(0)) > 1 else (0, 0)
PATIENCE = 60.0  # seconds that a service may take to start or to answer
BETWEEN_LOOKS = 0.005  # seconds between two checks of a service that is starting


@dataclass(frozen=True)
class Service:
    """A service with one worker.

    Parameters
    ----------
    title : str
        What the report calls it.
    command : tuple of str
        Python's arguments; `{port}` stands for the port.
    one_row, rows : str
        Paths that take one record and a list; no list when it is empty.
    environment : mapping
        Added to ours.
    forks : bool
        Whether a master process forks the worker (gunicorn), or the process is the worker (uvicorn).
    headers : mapping
        Sent with each prediction.
    checkout : Path
        The repository that it runs in, by the environment there.
    """

    title: str
    command: tuple[str, ...]
    one_row: str
    rows: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    forks: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    checkout: Path = ROOT

    @property
    def python(self) -> str:
        """The interpreter that runs it."""
        return sys.executable if self.checkout == ROOT else str(self.checkout / ".venv" / "bin" / "python")


class Running:
    """A service while the `with` block runs; `start_seconds` is how long it took until /ready answered 200."""

    def __init__(self, service: Service, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.service = service
        self.log = log

    def __enter__(self) -> Self:
        command = [part.format(port=self.port) for part in self.service.command]
        environment = {
            **os.environ,
            "HOST": "127.0.0.1",
            "AUTH_REQUIRED": "false",
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "OMP_NUM_THREADS": "1",
            **self.service.environment,
        }
        started = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(SERVER_CORE), self.service.python, *command],
                cwd=self.service.checkout,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        self.start_seconds = time.perf_counter() - started
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with suppress(ProcessLookupError):  # the whole session that was started for it; usually nothing is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **self.service.headers})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def predict(self, path: str, body: bytes) -> dict[str, Any]:
        """The answer to a body; anything but 200 ends the run."""
        status, content = self.ask("POST", path, body)
        if status != 200:
            raise SystemExit(f"{self.service.title}: {path} answered {status}: {content[:500]!r}")
        answer: dict[str, Any] = orjson.loads(content)
        return answer

    def memory_mb(self) -> dict[str, float]:
        """RSS and PSS of the worker process; PSS counts a page that n processes share as a share of 1/n."""
        lines = Path(f"/proc/{self._worker()}/smaps_rollup").read_text().splitlines()[1:]
        kilobytes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
        return {"rss_mb": kilobytes["Rss"] / 1024, "pss_mb": kilobytes["Pss"] / 1024}

    def cpu_seconds(self) -> float:
        """Processor time that the worker has used so far, all its threads together."""
        fields = Path(f"/proc/{self._worker()}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def replacement_seconds(self) -> float:
        """Kill the worker: how long until the one that gunicorn forks in its place answers /ready."""
        before = self._worker()
        assert before
        started = time.perf_counter()
        os.kill(before, signal.SIGKILL)
        while self._worker() in (None, before):
            self._give_up_after(started)
            time.sleep(BETWEEN_LOOKS / 5)
        self._wait_until_ready()
        return time.perf_counter() - started

    def _worker(self) -> int | None:
        if not self.service.forks:
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        forked = [child for child in children if _command(child) == _command(self.process.pid)]  # not the one for jobs
        return int(forked[0]) if forked else None

    def _wait_until_ready(self) -> None:
        started = time.perf_counter()
        while True:
            with suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/ready")[0] == 200:
                    return
            self._give_up_after(started)
            time.sleep(BETWEEN_LOOKS)

    def _give_up_after(self, started: float) -> None:
        if self.process.poll() is not None or time.perf_counter() - started > PATIENCE:
            raise SystemExit(f"{self.service.title} did not start:\n{self.log.read_text()[-3000:]}")


def _command(pid: int | str) -> bytes:
    with suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
