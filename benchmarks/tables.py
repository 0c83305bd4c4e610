"""Whether Tabserve serves anybody's table: `make tables`.

Each table of `table_sources` goes the way of a newcomer, in an empty folder: `tabserve init`, `train`, `serve`, then a
record, an explanation and a file over HTTP. No draft is edited. The hold-out is then predicted by what most people
would write: pandas, text columns as categories, LightGBM's defaults, fitted on the same training part.

The results are written to TABLES.md in this folder. `python -m benchmarks.tables NAME...` runs some tables only, and
prints what it would write.
"""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.table_sources import TABLES, RealTable
from tabserve import __version__
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import TEST_TABLE, TRAIN_TABLE
from tabserve.settings import RegistrySettings
from tabserve.training.provenance import library_versions

OUTPUT = Path(__file__).with_name("TABLES.md")
TABSERVE = Path(sys.executable).with_name("tabserve")
ROWS_SENT = 100


@dataclass(frozen=True)
class Line:
    """What became of a table."""

    table: RealTable
    rows: int
    metric: str
    ours: float
    algorithm: str
    plain: float
    seconds: float
    cpu: float
    plain_cpu: float
    rejected: str


def main(names: Sequence[str]) -> None:
    lines = []
    for table in TABLES:
        if not names or table.name in names:
            with tempfile.TemporaryDirectory() as folder:
                lines.append(_try(table, Path(folder)))
            print(_row(lines[-1]), flush=True)
    if not names:
        OUTPUT.write_text(_document(lines), encoding="utf-8")


def _try(table: RealTable, folder: Path) -> Line:
    path = table.write(folder)
    before, started = _cpu_of_children(), time.perf_counter()
    _run(folder, "init", path.name, "--target", table.target)
    log = _run(folder, "train", table.name, *table.train, may_fail=True)
    seconds, cpu = time.perf_counter() - started, _cpu_of_children() - before
    os.environ["MODEL_REGISTRY"] = str(folder / "models")
    registry = RegistrySettings.from_environment().open_registry()
    model_ids = registry.list(table.name)
    assert model_ids, f"{table.name}: nothing was registered\n{log}"
    artifact = registry.load(model_ids[0])
    manifest = artifact.manifest
    with _served(folder) as address:
        _ask(address, table, artifact, path)
    saved = folder / "models" / model_ids[0]
    plain, plain_cpu = _plain(artifact, saved / TRAIN_TABLE, saved / TEST_TABLE)
    ours = manifest.metrics["hold_out"][manifest.headline]
    refused = ", ".join(sorted(_trained(manifest) - {registry.manifest(one).algorithm for one in model_ids}))
    return Line(
        table, manifest.data.rows, manifest.headline, ours, manifest.algorithm, plain, seconds, cpu, plain_cpu, refused
    )


def _trained(manifest: Manifest) -> set[str]:
    return set(manifest.comparison) - {manifest.baseline}


def _run(folder: Path, *arguments: str, may_fail: bool = False) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("MODEL_REGISTRY", "USE_CASES")}
    command = [str(TABSERVE), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    (Path(tempfile.gettempdir()) / f"tables-{arguments[0]}.log").write_text(done.stdout + done.stderr)
    assert may_fail or not done.returncode, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("MODEL_REGISTRY", "USE_CASES")}
    command = [str(TABSERVE), "serve", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address)
        yield address
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str) -> None:
    for _ in range(150):
        try:
            urllib.request.urlopen(f"{address}/ready", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("The service is not ready after 30 seconds.")


def _ask(address: str, table: RealTable, artifact: Artifact, path: Path) -> None:
    """One record, its explanation and the first rows of the file, as a client would send them."""
    record = json.dumps(dict(artifact.declared.example)).encode()
    answer = _post(f"{address}/output/{table.name}", record, "application/json")
    assert len(answer["result"]) == 1, answer
    explained = _post(f"{address}/explain/{table.name}", record, "application/json")["explanations"][0]
    assert np.isclose(
        explained["raw_score"], explained["base_value"] + sum(explained["contributions"].values()), atol=1e-6
    )
    boundary = "----tables"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="fileupload"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + _first_rows(path) + f"\r\n--{boundary}--\r\n".encode()
    answer = _post(
        f"{address}/outputs_upload/{table.name}?partial=true", body, f"multipart/form-data; boundary={boundary}"
    )
    assert any(result is not None for result in answer["result"]), answer


def _first_rows(path: Path) -> bytes:
    content = path.read_bytes()
    return content if path.suffix == ".xlsx" else b"".join(content.splitlines(keepends=True)[: ROWS_SENT + 1])


def _post(url: str, body: bytes, kind: str) -> dict[str, object]:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            content: dict[str, object] = json.load(response)
            return content
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.read()[:2000]!r}") from None


def _plain(artifact: Artifact, train_path: Path, test_path: Path) -> tuple[float, float]:
    """The headline metric on the hold-out of what most people would write, and its CPU seconds."""
    started = time.process_time()
    train, test = pd.read_parquet(train_path), pd.read_parquet(test_path)
    target = artifact.target.feature.name
    features = [name for name in train.columns if name != target]
    for name in features:
        train[name], test[name] = _as_plain(train[name], test[name])
    y = artifact.target.transform(_values(train[target]))
    y_test = artifact.target.transform(_values(test[target]))
    predictions = _fit_plain(artifact, train[features], y, test[features])
    return artifact.task.metric(y_test, predictions), time.process_time() - started


def _values(column: "pd.Series[object]") -> list[object]:
    return [value if not isinstance(value, np.generic) else value.item() for value in column.tolist()]


def _as_plain(train: "pd.Series[object]", test: "pd.Series[object]") -> tuple[object, object]:
    """Texts as categories and dates as numbers, as pandas and LightGBM need them."""
    if pd.api.types.is_numeric_dtype(train):
        return train, test
    texts = train.dropna().astype(str)
    if len(texts) and texts.str.match(r"\d{4}-\d\d-\d\d").all():
        days = [pd.to_datetime(one, format="ISO8601", utc=True).astype("int64") / 86_400e9 for one in (train, test)]
        return days[0], days[1]
    kind = pd.CategoricalDtype(sorted(texts.unique()))
    return train.astype(str).astype(kind), test.astype(str).astype(kind)


def _fit_plain(artifact: Artifact, X: pd.DataFrame, y: "np.ndarray", X_test: pd.DataFrame) -> "np.ndarray":
    from lightgbm import LGBMClassifier, LGBMRegressor

    if not artifact.task.outcomes:
        return np.asarray(LGBMRegressor(verbosity=-1, n_jobs=2).fit(X, y).predict(X_test))
    probabilities = np.asarray(LGBMClassifier(verbosity=-1, n_jobs=2).fit(X, y).predict_proba(X_test))
    return probabilities[:, 1] if len(artifact.task.outcomes) == 2 else probabilities


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _row(line: Line) -> str:
    ahead = "ahead" if line.ours > line.plain else "behind"
    return (
        f"| {line.table.name} | {line.table.about} | {line.rows:,} | {line.metric} | {line.ours:.4f} "
        f"({line.algorithm}) | {line.plain:.4f} | {ahead} by {abs(line.ours - line.plain):.4f} | {line.cpu:.0f} "
        f"| {line.plain_cpu:.1f} |"
    )


def _document(lines: Sequence[Line]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    return "\n".join(
        [
            "# Anybody's table",
            "",
            f"Written by `make tables`: Tabserve {__version__}, {versions}. Each table went through `tabserve init`, "
            "`train` and `serve` in an empty folder, its draft unedited; a record, its explanation and a file were "
            "answered. *Plain* is pandas and LightGBM's defaults, fitted on the same training part and scored on the "
            "same hold-out. Higher is better. CPU seconds of ours include the draft, the search, all algorithms and "
            "their reports.",
            "",
            "| table | what it is like | rows | metric | ours | plain | | CPU s | plain CPU s |",
            "|---|---|---|---|---|---|---|---|---|",
            *map(_row, lines),
            "",
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
