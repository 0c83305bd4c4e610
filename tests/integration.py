"""Integration check: a running service against a model's hold-out.

Reads a `test.parquet`, sends its rows one by one to `/output` and all at once to `/outputs`, prints the headline metric
and percentiles, and exits with 1 when the two ways disagree or the main metric (ROC AUC, or R² for a regression) is
below the manifest's of these rows by more than 0.001. Where a service needs a user, TABSERVE_USER and TABSERVE_PASSWORD
say who asks.

    python -m tests.integration [--url http://localhost:8080] [--hold-out models/<model_id>/test.parquet]
"""

import http.client
import json
import math
import os
import sys
import time
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np

from tabserve.declaration.discovery import get_use_case
from tabserve.errors import TabserveError
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import TEST_TABLE
from tabserve.settings import RegistrySettings
from tabserve.tables.reader import read_training_table

TOLERANCE = 0.001  # of the main metric
PERCENTILES = (50, 90, 99)


class Client:
    """One keep-alive connection to the service."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise click.ClickException(f"The URL must look like http://localhost:8080, not {url}.")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=60)
        self._headers = {"Content-Type": "application/json"}
        if user := os.environ.get("TABSERVE_USER"):
            credentials = f"{user}:{os.environ.get('TABSERVE_PASSWORD', '')}"
            self._headers["Authorization"] = "Basic " + b64encode(credentials.encode()).decode()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def call(self, method: str, path: str, content: Any = None) -> Any:
        """The answer's JSON; a failure ends the check with the service's own words."""
        body = None if content is None else json.dumps(content)
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise click.ClickException(f"{method} {path}: no usable answer ({type(error).__name__}).") from None
        if response.status != 200:
            raise click.ClickException(f"{method} {path}: {response.status} {answer.get('detail')}")
        return answer


@click.command(help=__doc__)
@click.option("--url", default="http://localhost:8080", show_default=True, help="Where the service is.")
@click.option(
    "--hold-out",
    "given",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A hold-out in its artifact's folder.  [default: the latest credit model's]",
)
def main(url: str, given: Path | None) -> None:
    with TemporaryDirectory() as folder:
        check(url, given or latest_hold_out(Path(folder)))


def latest_hold_out(folder: Path) -> Path:
    """The hold-out of the latest credit model, brought into a folder from wherever the registry is."""
    registry = RegistrySettings.from_environment().open_registry()
    try:
        model_id = registry.latest("credit")
        content = registry.hold_out(model_id, registry.manifest(model_id))
    except TabserveError as error:
        raise click.ClickException(str(error)) from None
    path = folder / model_id / TEST_TABLE
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def check(url: str, hold_out: Path) -> None:
    """Compare the service's answers with the hold-out and with the manifest."""
    model_id = hold_out.resolve().parent.name
    parts = ModelId.parse(model_id)
    if parts is None:
        raise click.ClickException("The file must lie in its artifact's folder, models/<model_id>/test.parquet.")
    use_case = get_use_case(parts.use_case)
    table = read_training_table(hold_out, use_case.features, use_case.target.feature)
    y = use_case.target.fit_transform(table.target)
    headline = use_case.task.headline

    with closing(Client(url)) as client:
        expected = client.call("GET", f"/models/{model_id}")["hold_out"]["score"]
        one_by_one, seconds = [], []
        for record in table.records:
            started = time.perf_counter()
            one_by_one += scores_of(client.call("POST", f"/output/{model_id}", record))
            seconds.append(time.perf_counter() - started)
        batch = scores_of(client.call("POST", f"/outputs/{model_id}", [*table.records]))

    found = use_case.task.metric(y, np.array(one_by_one))
    latency = ", ".join(f"p{p} {np.percentile(seconds, p) * 1000:.2f} ms" for p in PERCENTILES)
    click.echo(f"model     {model_id}")
    click.echo(f"rows      {len(table.records)}")
    click.echo(f"{headline:<9} {found:.4f} (manifest {expected or math.nan:.4f})")
    click.echo(f"latency   {latency}")
    failures = []
    if one_by_one != batch:
        differing = sum(one != other for one, other in zip(one_by_one, batch, strict=True))
        failures.append(f"/output and /outputs disagree on {differing} rows")
    if expected is not None and not found >= expected - TOLERANCE:
        failures.append(f"the {headline} is below the manifest's")
    for failure in failures:
        click.echo(f"FAILED    {failure}", err=True)
    sys.exit(1 if failures else 0)


def scores_of(answer: dict[str, Any]) -> list[float]:
    """What an answer's decisions were made from, or the values of a regression."""
    return answer.get("probability", answer["result"])


if __name__ == "__main__":
    main()
