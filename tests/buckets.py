"""An S3 bucket for tests: moto's server in its own process, behind a proxy that can fail like a network."""

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from functools import cache, cached_property

import boto3
import botocore.session
import pytest

from tests.conftest import free_port

# otherwise each client would read the SDK's large service descriptions again
botocore.session.create_loader = cache(botocore.session.create_loader)

REGION = "eu-central-1"
_numbers = itertools.count()


class Proxy:
    """Passes bytes between clients and a server.

    Attributes
    ----------
    mode : str
        `pass`; `refuse`: connections are closed at once; `hang`: nothing is passed; `cut`: of each answer only the
        first `CUT` bytes are passed; `drip`: of each answer a byte a `DRIP`; `alter`: answers are other ones.
    answer : bytes
        The whole of each answer while they are other ones.
    """

    CUT = 20_000
    DRIP = 0.5  # seconds

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self.answer = b""
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, mode: str) -> None:
        """Fail from now on, also on open connections."""
        self.mode = mode
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.fail("refuse")

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    if self.mode == "refuse":
                        raise ConnectionRefusedError
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                self._open |= {client, server}
                for source, sink, is_answer in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=(source, sink, is_answer), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(4096):
                while self.mode == "hang":
                    time.sleep(0.05)
                if is_answer and self.mode == "cut" and passed + len(data) > self.CUT:
                    break
                passed += len(data)
                if is_answer and self.mode == "alter":
                    sink.sendall(self.answer)
                    break
                drops = [data]
                if is_answer and self.mode == "drip":
                    drops = [data[place : place + 1] for place in range(len(data))]
                for drop in drops:
                    sink.sendall(drop)
                    time.sleep(self.DRIP if self.mode == "drip" else 0)
        for connection in (source, sink):
            self._open.discard(connection)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class S3:
    """Run moto's server and a proxy in front of it during the `with` block; the environment names the proxy."""

    def __enter__(self) -> "S3":
        self._port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._proxies: list[Proxy] = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/moto-api/", timeout=5).close()
                return self
            time.sleep(0.05)
        self.__exit__()
        pytest.fail("moto's server did not start")

    def __exit__(self, *exception: object) -> None:
        for proxy in self._proxies:
            proxy.close()
        self._process.terminate()
        self._process.wait(20)

    def proxy(self) -> Proxy:
        proxy = Proxy(self._port)
        self._proxies.append(proxy)
        return proxy

    def environment(self, proxy: Proxy | None = None) -> dict[str, str]:
        """The environment with which the AWS SDK finds this S3, directly or through the proxy."""
        return {
            "AWS_ENDPOINT_URL": proxy.url if proxy else f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @cached_property
    def _client(self):
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._port}",
            region_name=REGION,
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
        )

    def client(self):
        return self._client

    def bucket(self) -> str:
        """Create a bucket and return its name."""
        name = f"tabserve-{next(_numbers)}"
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name
