"""The images and compose.yaml on a real container engine; run by `make docker-test`, and by nothing else.

Images, containers, networks and volumes have names of their own, and are removed at the end, whatever happens.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tabserve import __version__
from tabserve.declaration.use_case import UseCase
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.writer import written_like
from tabserve.training.provenance import commit
from tests.conftest import ALICE, ROOT, free_port, wait_until, write_users
from tests.load import UNDER_WAY, Load
from tests.test_docs import blocks, write_loans
from tests.test_hostile_files import HOSTILE

pytestmark = pytest.mark.container
logger = logging.getLogger(__name__)

NAME = "tabserve-check"  # of images, containers and the compose project
IMAGE, TESTS, PROXY = NAME, f"{NAME}:tests", f"{NAME}:proxy"
LARGEST = 760 * 1000**2  # bytes
HARDENED = [
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--memory", "512m", "--cpus", "1"),
]
CODE = ("setup.py", "application.py", "gunicorn.conf.py")  # beside the packages
JSON = "application/json"
NOBODY = ["--env", "AUTH_REQUIRED=false"]
# jobs on disk, as in compose.yaml: /tmp is memory
JOBS = ["--volume", "/var/lib/tabserve", "--env", "DATABASE_URL=sqlite:////var/lib/tabserve/jobs.db"]
MINUTE = 60  # seconds
# what a container has of memory, without what the kernel can take back: cgroups of version 2, and of version 1
MEMORY = {"/sys/fs/cgroup/memory.stat": ("anon", "shmem"), "/sys/fs/cgroup/memory/memory.stat": ("rss", "shmem")}
KILLED = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
DEPLOYING = (ROOT / "docs" / "deploying.md").read_text()
SCALING = (ROOT / "docs" / "scaling.md").read_text()
SKIPPED = {  # reasons for which a test may be skipped in the image; on the host nothing is
    "this is no git checkout, or git is not installed",
    "this machine has no ::1",  # Docker's own network has no IPv6
}
Start = Callable[..., str]
# what compose.yaml takes from the environment of who calls it, and the tests must not
SETTINGS = {
    *("AUTH_REQUIRED", "LOG_LEVEL", "MODEL_SIGNING_KEY", "RATE_LIMIT", "TABSERVE_UID", "METRICS", "DECISION_LOG"),
    *("CLUSTER_REGISTRY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
}


def docker(*arguments: str, within: float = 2 * MINUTE, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the engine's command; a failure shows what it said."""
    done = run("docker", *arguments, within=within, **options)
    assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done


def run(*command: str, within: float = 2 * MINUTE, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=within, **options)


def inspected(name: str, template: str) -> Any:
    return json.loads(docker("inspect", "--format", f"{{{{json {template}}}}}", name).stdout)


def moment(container: str, name: str) -> float:
    """When a container was started, or ended, as Unix time."""
    return datetime.fromisoformat(inspected(container, f".State.{name}")).timestamp()


@pytest.fixture(scope="session", autouse=True)
def engine() -> Iterator[None]:
    """What an earlier run left, and what this one leaves, is removed."""
    if shutil.which("docker") is None or run("docker", "version").returncode:
        pytest.skip("there is no container engine")
    clean()
    yield
    clean()
    for kind in (("ps", "--all", "--quiet"), ("network", "ls", "--quiet")):
        wait_until(lambda kind=kind: docker(*kind, "--filter", f"name={NAME}").stdout == "", MINUTE, f"{kind[0]}: left")


def clean() -> None:
    run(*COMPOSE, "down", "--volumes", "--timeout", "1", "--remove-orphans", env=compose_environment())
    left = docker("ps", "--all", "--quiet", "--filter", f"name={NAME}").stdout.split()
    if left:
        run("docker", "rm", "--force", "--volumes", *left)
    images = docker("images", "--format", "{{.Repository}}:{{.Tag}}", NAME).stdout.split()
    if images:
        run("docker", "rmi", *images)  # the layers stay in the cache


@pytest.fixture(scope="session")
def image() -> str:
    """The service's image. Without models in the context, it trains them."""
    done = run("make", "docker-build", f"IMAGE={IMAGE}", within=20 * MINUTE)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return IMAGE


@pytest.fixture(scope="session")
def tests_image(image: str) -> str:
    """The image of the tests, on top of the service's."""
    docker(
        *("build", "--file", "Dockerfile.test", "--build-arg", f"IMAGE={image}", "--tag", TESTS, "."),
        within=20 * MINUTE,
    )
    return TESTS


@pytest.fixture(scope="session")
def training_image() -> str:
    tag = f"{NAME}:training"
    arguments = ("--target", "training", "--build-arg", "COMMIT=0123abc", "--tag", tag)
    docker("build", *arguments, ".", within=10 * MINUTE)
    return tag


@pytest.fixture
def start(image: str) -> Iterator[Start]:
    """Starts containers, which are removed after the test."""
    started: list[str] = []

    def start_one(*options: str, image: str = image) -> str:
        name = f"{NAME}-{len(started)}"
        started.append(name)
        docker("run", "--detach", "--name", name, "--publish", "127.0.0.1::8080", *options, image)
        return name

    yield start_one
    for name in started:
        run("docker", "rm", "--force", "--volumes", name)


def address(container: str, port: int = 8080) -> str:
    return "http://" + docker("port", container, f"{port}/tcp").stdout.split()[0]


def answer(url: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of an answer; 0 when there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


def ready(container: str, within: float = MINUTE) -> str:
    """The address of a container that is ready."""
    url = address(container)

    def is_ready() -> bool:
        assert inspected(container, ".State.Running"), docker("logs", container).stderr
        return answer(f"{url}/ready")[0] == 200

    wait_until(is_ready, within, f"{container} is not ready after {within} s")
    return url


# the image


def test_the_image_is_small_and_says_what_it_is(image: str) -> None:
    size = inspected(image, ".Size")
    logger.info("%d MB", size // 1000**2)
    assert size < LARGEST
    labels = inspected(image, ".Config.Labels")
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert labels == {
        "title": "Tabserve",
        "description": "Answers predictions from models trained on tables",
        "licenses": "MIT",
        "version": __version__,
        "revision": commit() or "unknown",
    }


def test_the_image_runs_gunicorn_as_a_user_by_number(image: str) -> None:
    config = inspected(image, ".Config")
    assert config["User"] == "10001:10001"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert (config.get("Entrypoint"), config["Cmd"]) == (None, ["tabserve", "serve"])


def find(image: str, *arguments: str) -> list[str]:
    """What `find` prints in an image, as its user; what that user cannot read is none of the service's."""
    script = 'find "$@" 2>/dev/null || true'
    return docker("run", "--rm", image, "sh", "-c", script, "sh", *arguments).stdout.splitlines()


def test_the_image_holds_what_serves_and_nothing_else(image: str) -> None:
    top = {Path(path).name for path in find(image, "/app", "-mindepth", "1", "-maxdepth", "1")}
    metadata = f"tabserve-{__version__}.dist-info"
    assert top == {".venv", "application.py", "bin", "gunicorn.conf.py", "models", "tabserve", metadata}
    unwanted = (
        "train.parquet",
        "test.parquet",
        "rejected",
        ".git",
        "users.txt",
        "*.pem",
        ".env*",
        "conftest.py",
        "test_*.py",
    )
    ours = ("/app", "-path", "/app/.venv", "-prune", "-o")
    for name in unwanted:
        assert find(image, *ours, "-name", name, "-print") == []
    assert find(image, "/app", "-writable") == []
    assert find(image, "/app", "!", "-readable") == []
    assert find(image, "/etc/tabserve", "/root/.cache", "/var/lib/apt/lists", "/var/cache/apt", "-type", "f") == []
    assert find(image, "/app/tabserve", "-name", "train_pipeline.cpython-*.pyc")
    which = docker("run", "--rm", image, "sh", "-c", "command -v git make gcc pytest || true").stdout
    assert which == ""
    training = docker("run", "--rm", image, "sh", "-c", "ls .venv/lib/python*/site-packages").stdout.split()
    assert {"flask", "s3fs", "sklearn", "pandas", "psycopg", "sqlalchemy", "uvloop"} <= set(training)
    of_training = {"matplotlib", "bayes_opt", "rich", "tomlkit", "pip"}
    assert not of_training & set(training)


def test_the_libraries_work_without_their_tests(image: str) -> None:
    code = (
        "import lightgbm, pandas, s3fs, redis, openpyxl, sklearn.svm, sklearn.linear_model, sklearn.tree, scipy.stats\n"
        "import pyarrow.parquet, pyarrow.feather, python_calamine\n"
        "import scipy.optimize, scipy.sparse.linalg, numpy.testing, sklearn.utils.estimator_checks as _\n"
        "from tabserve.settings import RegistrySettings\n"
        "registry = RegistrySettings.from_environment().open_registry()\n"
        "print(len([registry.load(name) for name in registry.list()]))"
    )
    assert int(docker("run", "--rm", *HARDENED, image, "python", "-W", "error", "-c", code).stdout) >= 2


def test_commands_are_there_in_any_folder(image: str) -> None:
    listed = docker("run", "--rm", "--workdir", "/", image, "tabserve", "models", "list", "--json").stdout
    assert {model["use_case"] for model in json.loads(listed)} >= {"credit", "bikes"}
    assert docker("run", "--rm", image, "tabserve", "models", "missing").stdout == ""


def test_secrets_and_private_data_are_kept_out_of_the_context(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    kept = ["Dockerfile", "api/app.py", "models/m/manifest.json", "models/credit.champion", "tests/x.py", ".travis.yml"]
    dropped = [
        *(".git/config", ".env", ".env.production", "users.txt", "deploy/users.txt", "deploy/tls.key", "cert.pem"),
        *("tls.p12", ".aws/credentials", ".netrc"),
        *(
            "models/m/train.parquet",
            "models/rejected/m/report.html",
            "model-cache/b/m/x",
            ".venv/bin/python",
            "a/__pycache__/b",
        ),
        *(".coverage.x", ".hypothesis/x", "build/x", "dist/bundle.zip", "tabserve.egg-info/x"),
    ]
    for name in (*kept, *dropped):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "Dockerfile").write_text(f"FROM {base()}\nCOPY . /context\nRUN find /context -type f\n")
    docker("build", "--tag", f"{NAME}:context", str(tmp_path), within=10 * MINUTE)
    found = docker("run", "--rm", f"{NAME}:context", "find", "/context", "-type", "f", "-printf", "%P\n").stdout
    assert set(found.split()) - {".dockerignore"} == set(kept)


def base() -> str:
    (name,) = re.findall(r"^FROM (\S+) AS base$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return str(name)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """What the service's image is built from, without models, in a folder that a test may change."""
    folder = tmp_path / "context"
    folder.mkdir()
    for path in (ROOT / "Dockerfile", ROOT / ".dockerignore", *map(ROOT.joinpath, CODE), *ROOT.glob("requirements*")):
        shutil.copy(path, folder)
    for name in ("api", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_an_image_that_is_given_models_trains_none(image: str, context: Path) -> None:
    name = f"{NAME}-models"
    docker("create", "--name", name, image)
    docker("cp", f"{name}:/app/models", str(context))
    docker("rm", name)
    tag = f"{NAME}:given"
    docker("build", "--target", "models", "--tag", tag, str(context), within=10 * MINUTE)
    files = ("-type", "f", "-printf", "%P\n")
    assert sorted(find(tag, "/models", *files)) == sorted(find(image, "models", *files))
    libraries = docker("run", "--rm", tag, "sh", "-c", "ls .venv/lib/python*/site-packages").stdout.split()
    assert "sklearn" in libraries
    assert "bayes_opt" not in libraries


def test_the_hold_outs_are_in_the_image_when_they_are_asked_for(image: str, context: Path, trained: Registry) -> None:
    shutil.copytree(trained.location, context / "models", ignore=shutil.ignore_patterns("train.parquet"))
    tag = f"{NAME}:held-out"
    for argument, found in (("HOLD_OUT=true", len(trained.list())), ("HOLD_OUT=false", 0)):
        docker("build", "--build-arg", argument, "--tag", tag, str(context), within=10 * MINUTE)
        assert len(find(tag, "/app/models", "-name", "test.parquet")) == found
    refused = run("docker", "build", "--build-arg", "HOLD_OUT=perhaps", str(context), within=10 * MINUTE)
    assert refused.returncode != 0


def test_modes_in_the_image_are_not_those_of_who_builds_it(image: str, context: Path) -> None:
    for path in (context / name for name in CODE):
        path.chmod(0o600)
    for name in ("api", "src"):
        for path in (context / name, *(context / name).rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
    tag = f"{NAME}:modes"
    docker("build", "--target", "app", "--tag", tag, str(context), within=10 * MINUTE)
    assert docker("run", "--rm", "--user", "10001:10001", tag, "find", "/app", "!", "-readable").stdout == ""
    assert docker("run", "--rm", "--user", "10001:10001", tag, "find", "/app", "-writable").stdout == ""


def test_the_training_image_trains_as_the_same_user(training_image: str) -> None:
    script = "id -u && tabserve train --trials 2 && tabserve models copy /tmp/models && cat models/*/*.json"
    done = docker("run", "--rm", training_image, "sh", "-c", script, within=10 * MINUTE)
    assert done.stdout.startswith("10001\n")
    assert '"commit": "0123abc"' in done.stdout


def test_a_table_of_ones_own_is_drafted_trained_and_served_as_documented(
    image: str, training_image: str, tmp_path: Path
) -> None:
    write_loans(tmp_path / "loans.xlsx")
    owner = os.getuid() or 10002
    os.chown(tmp_path, owner, -1)
    (script,) = [block for block in blocks("sh", DEPLOYING) if block.startswith("alias tabserve=")]
    port, container = free_port(), f"{NAME}-own"
    for documented, here in (
        ("--interactive --tty ", ""),
        ("$(id -u):$(id -g)", f"{owner}:{owner}"),
        ("tabserve:training", training_image),
        ("train loans ", "train loans --trials 1 "),
        (
            "docker run --rm --publish 127.0.0.1:8080:",
            f"docker run --detach --name {container} --publish 127.0.0.1:{port}:",
        ),
        ('models:ro" tabserve\n', f'models:ro" {image}\n'),
    ):
        assert script.count(documented) == 1, documented
        script = script.replace(documented, here)
    command = ["bash", "-O", "expand_aliases", "-euc", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=10 * MINUTE)
    try:
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.stat().st_uid == owner}
        assert made == {"use_cases", "models"}
        url = ready(container)
        operation = answer(f"{url}/openapi.json")[1]["paths"]["/predict"]["post"]
        (example,) = operation["requestBody"]["content"][JSON]["examples"].values()
        status, predicted = answer(f"{url}/predict", {**example["value"], "loan_id": "L-7"})
        assert (status, predicted["errors"], predicted["ids"]) == (200, None, {"loan_id": ["L-7"]})
    finally:
        run("docker", "rm", "--force", container)


def test_the_tests_pass_in_the_image_of_the_tests(tests_image: str, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        done = subprocess.run(
            ["docker", "run", "--rm", "--name", f"{NAME}-tests", tests_image],
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=40 * MINUTE,
        )
    said = log.read_text(errors="replace")
    assert done.returncode == 0, said[-20_000:]
    assert " passed" in said
    skipped = re.findall(r"^SKIPPED \[\d+\] \S+: (.*)$", said, re.MULTILINE)
    assert set(skipped) <= SKIPPED, skipped


# a container


def test_a_locked_down_container_is_ready_soon_and_predicts_as_its_models_do(start: Start) -> None:
    container = start(*HARDENED, *NOBODY)
    url = ready(container)
    seconds = time.time() - moment(container, "StartedAt")
    logger.info("ready in %.1f s", seconds)
    assert seconds < 10
    code = (
        "import json\n"
        "from tabserve.predict import make_prediction\n"
        "from tabserve.settings import RegistrySettings\n"
        "from tabserve.declaration.discovery import all_use_cases, get_use_case\n"
        "registry = RegistrySettings.from_environment().open_registry()\n"
        "use_cases = [get_use_case(name) for name in all_use_cases()]\n"
        "answers = {one.name: make_prediction(registry.load(registry.latest(one.name)), [one.example]).columns"
        " for one in use_cases}\n"
        "print(json.dumps([{one.name: one.example for one in use_cases}, answers], default=list))"
    )
    examples, expected = json.loads(docker("exec", container, "python", "-c", code).stdout)
    assert len(examples) >= 2
    for name, record in examples.items():
        status, predicted = answer(f"{url}/output/{name}", record)
        assert status == 200
        assert {column: predicted[column] for column in expected[name]} == expected[name]
    command = docker("exec", container, "cat", "/proc/1/cmdline").stdout.split("\0")
    assert [Path(part).name for part in command[1:]] == ["tabserve", "serve", ""]


def patiently(request: urllib.request.Request, refused: Counter[int] | None = None) -> tuple[int, Message, bytes]:
    """Status, headers and body of the answer; like any client, the request is sent again when it was told to."""
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5 * MINUTE) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:
                    return error.code, error.headers, error.read()
                if refused is not None:
                    refused[error.code] += 1
                time.sleep(int(error.headers["Retry-After"]))


def upload(url: str, kind: str, content: bytes, accept: str = JSON) -> tuple[int, Message, bytes]:
    """The answer to a file that is sent to an address."""
    head = f'--B\r\nContent-Disposition: form-data; name="fileupload"; filename="rows.{kind}"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=B", "Accept": accept}
    return patiently(urllib.request.Request(url, head.encode() + content + b"\r\n--B--\r\n", headers))


def finished(url: str, headers: Message) -> dict[str, Any]:
    """A job, when it has finished."""
    while True:
        status, job = answer(f"{url}{headers['Location']}")
        assert status == 200, job
        if job["state"] in ("done", "failed"):
            return dict(job)
        time.sleep(1)


class Memory:
    """The most memory that a container has while the `with` block runs."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        for path, names in MEMORY.items():
            done = run("docker", "exec", self._container, "cat", path)
            if not done.returncode:
                counts = dict(line.split() for line in done.stdout.splitlines())
                return sum(int(counts[name]) for name in names)
        raise AssertionError("the memory of a container cannot be read")


def nothing_was_killed(container: str) -> bool:
    counts = docker("exec", container, "sh", "-c", f"cat {' 2>/dev/null || cat '.join(KILLED)}").stdout
    log = docker("logs", container).stderr
    return "oom_kill 0" in counts.splitlines() and log.count("Booting worker") == 1 and "attempt 2" not in log


KINDS = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
    "feather": "application/vnd.apache.arrow.file",
}


def table(credit: UseCase, records: list[dict[str, Any]], kind: str, rows: int) -> bytes:
    """A file with so many rows."""
    chosen = (records * (rows // len(records) + 1))[:rows]
    columns = {feature.name: [row.get(feature.name) for row in chosen] for feature in credit.features}
    return b"".join(written_like({"format": kind}, columns))


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_files_at_the_same_time_fit_into_its_memory(
    start: Start, credit: UseCase, records: list[dict[str, Any]], kind: str
) -> None:
    container = start(*HARDENED, *NOBODY, *JOBS)
    url = ready(container)
    at_once, as_job = Settings().sync_rows, Settings().max_rows
    short, long = (table(credit, records, kind, rows) for rows in (at_once, as_job))

    def answered(accept: str) -> int:
        status, headers, content = upload(f"{url}/outputs_upload/credit", kind, short, accept)
        assert status == 200, content
        if accept == JSON:
            return len(json.loads(content)["result"])
        first, last = map(int, headers["Row-Numbers"].split("-"))
        return last - first + 1

    def done() -> tuple[str, int, Any]:
        status, headers, content = upload(f"{url}/jobs/credit", kind, long)
        assert status == 202, content
        job = finished(url, headers)
        return job["state"], job["rows_done"], job["error"]

    with Memory(container) as memory, ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(done) for _ in range(6)]
        answers = [pool.submit(answered, accept) for accept in [JSON, KINDS[kind]] * 3]
        assert [future.result() for future in answers] == [at_once] * 6
        assert [future.result() for future in jobs] == [("done", as_job, None)] * 6
    logger.info("%s: at most %d MB", kind, memory.most // 1000**2)
    assert nothing_was_killed(container)


def test_the_largest_bodies_at_the_same_time_fit_into_its_memory(start: Start, record: dict[str, Any]) -> None:
    """As many as are let in; the others are told to come again, and then all are answered."""
    container = start(*HARDENED, *NOBODY, *JOBS)
    url = ready(container)
    one, most = json.dumps(record).encode(), Settings().max_content_length
    list_ = b"[" + b",".join([one] * Settings().sync_rows) + b"]"
    bodies = {
        "/output/credit": one.ljust(most),
        "/outputs/credit": list_.ljust(most),
        "/jobs/credit": list_.ljust(most),
    }
    refused: Counter[int] = Counter()

    def status_of(path: str) -> int:
        request = urllib.request.Request(f"{url}{path}", bodies[path], {"Content-Type": JSON})
        return patiently(request, refused)[0]

    with Memory(container) as memory, ThreadPoolExecutor(18) as pool:
        statuses = Counter(pool.map(status_of, [*bodies] * 6))
    logger.info("at most %d MB, %d refused", memory.most // 1000**2, refused.total())
    assert statuses == {200: 12, 202: 6}
    assert nothing_was_killed(container)


def test_an_upload_of_100_000_rows_is_answered_as_a_job(
    start: Start, credit: UseCase, records: list[dict[str, Any]]
) -> None:
    container = start(*HARDENED, *NOBODY, *JOBS)
    url = ready(container)
    rows = Settings().max_rows
    content = table(credit, records, "csv", rows)
    status, _, problem = upload(f"{url}/outputs_upload/credit", "csv", content)
    assert status == 413
    assert "/jobs/" in json.loads(problem)["detail"]
    status, headers, _ = upload(f"{url}/jobs/credit", "csv", content)
    assert status == 202
    job = finished(url, headers)
    assert (job["state"], job["rows"], job["error"]) == ("done", rows, None)
    _, _, result = patiently(urllib.request.Request(f"{url}{job['results']['csv']}"))
    assert result.count(b"\n") == rows + 1


def test_hostile_bodies_four_at_a_time_are_refused_and_kill_nothing(start: Start) -> None:
    container = start(*HARDENED, *NOBODY)
    url = ready(container)
    head = b'--B\r\nContent-Disposition: form-data; name="fileupload"; filename="rows.xlsx"\r\n\r\n'
    files = [head + make() + b"\r\n--B--\r\n" for _, make in HOSTILE.values()]
    blocks = [b"[" + block * (Settings().max_content_length // len(block) - 1) + b"0]" for block in (b"{},", b'"ab",')]

    def status_of(path: str, body: bytes, kind: str) -> int:
        request = urllib.request.Request(f"{url}{path}", body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=5 * MINUTE) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    requests = [("/outputs_upload/credit", body, "multipart/form-data; boundary=B") for body in files]
    requests += [("/output/credit", body, "application/json") for body in blocks for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = set(pool.map(lambda request: status_of(*request), requests))
    assert statuses <= {400, 413, 415, 422, 503}
    assert docker("logs", container).stderr.count("Booting worker") == 1  # none was killed and replaced


@pytest.mark.parametrize(("cpus", "workers"), [("1", 1), ("2", 2)])
def test_there_are_as_many_workers_as_cpus_granted_and_one_for_jobs(start: Start, cpus: str, workers: int) -> None:
    if int(cpus) > (os.cpu_count() or 1):
        pytest.skip("this machine has too few CPUs")
    container = start(*HARDENED, *NOBODY, "--cpus", cpus)
    ready(container)
    children = docker("exec", container, "cat", "/proc/1/task/1/children").stdout.split()
    assert len(children) == workers + Settings().job_workers


def test_the_health_check_asks_whether_it_is_ready_on_whatever_port(start: Start) -> None:
    often = ["--health-interval", "1s", "--health-start-period", "0s", "--health-retries", "2"]
    fine = start(*HARDENED, *NOBODY, *often, "--env", "PORT=9090")
    broken = start(*HARDENED, *NOBODY, *often, "--env", "MODEL_REGISTRY=/nowhere")
    for container, expected in ((fine, "healthy"), (broken, "unhealthy")):
        wait_until(
            lambda one=container, word=expected: inspected(one, ".State.Health.Status") == word,
            MINUTE,
            f"{container} is not {expected}",
        )
    assert inspected(broken, ".State.Running")


@pytest.mark.parametrize("keep_alive", [False, True], ids=["new connections", "kept connections"])
def test_a_container_that_is_stopped_under_load_loses_no_request(start: Start, keep_alive: bool) -> None:
    container = start(*HARDENED, *NOBODY)
    url = ready(container)
    (example,) = answer(f"{url}/openapi.json")[1]["paths"]["/predict"]["post"]["requestBody"]["content"][
        "application/json"
    ]["examples"].values()
    # in the container's own network: a port that is published is the engine's, which answers for itself
    command = [
        *("docker", "run", "--rm", "--interactive", "--name", f"{NAME}-load", "--network", f"container:{container}"),
        *(IMAGE, "python", "-", "http://127.0.0.1:8080/predict", json.dumps(example["value"])),
        *("--clients", "16", "--seconds", "4", *(["--keep-alive"] if keep_alive else [])),
    ]
    with (ROOT / "tests" / "load.py").open("rb") as script:
        load = subprocess.Popen(command, stdin=script, stdout=subprocess.PIPE, text=True)
    try:
        assert load.stdout
        assert load.stdout.readline().strip() == UNDER_WAY
        began = time.time()
        docker("stop", "--time", "30", container)
        seconds = moment(container, "FinishedAt") - began
        out, _ = load.communicate(timeout=MINUTE)
    finally:
        run("docker", "rm", "--force", f"{NAME}-load")
        load.kill()
        load.wait()
    counts = json.loads(out)
    logger.info("stopped in %.1f s under load: %s", seconds, counts)
    assert set(counts) == {"answered", "refused"}, counts
    assert counts["answered"] > 100
    assert seconds < 5
    state = inspected(container, ".State")
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert inspected(container, ".RestartCount") == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("PORT=eighty", "PORT"),
        ("WEB_CONCURRENCY=0", "WEB_CONCURRENCY"),
        ("MODEL_REGISTRY=s3://", "MODEL_REGISTRY"),
        ("LOG_LEVEL=LOUD", "LOG_LEVEL"),
    ],
)
def test_a_wrong_setting_ends_the_container_with_one_line(image: str, setting: str, said: str) -> None:
    done = run("docker", "run", "--rm", *HARDENED, *NOBODY, "--env", setting, image)
    assert done.returncode not in (0, 125)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert said in line


def test_without_users_the_container_does_not_start(image: str) -> None:
    done = run("docker", "run", "--rm", *HARDENED, image)
    assert done.returncode not in (0, 125)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert "tabserve users add" in line


# compose.yaml

PROFILES = ("tests", "scale", "cluster")
COMPOSE = ("docker", "compose", "--project-name", NAME, *(word for name in PROFILES for word in ("--profile", name)))


def compose_environment(**variables: str) -> dict[str, str]:
    """The environment of compose.yaml, with images of our own and ports that are free."""
    parts = ("tests", "proxy", "database", "cluster", "bucket")
    ours = {"TABSERVE_IMAGE": IMAGE, **{f"TABSERVE_{name.upper()}_IMAGE": f"{NAME}:{name}" for name in parts}}
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {**inherited, **ours, "PORT": str(free_port()), "PROXY_PORT": str(free_port()), **variables}


@pytest.fixture
def environment(image: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables for compose.yaml; what was started with them is removed after the test."""
    users = tmp_path / "users.txt"
    write_users(users, ALICE)
    users.chmod(0o600)  # as `tabserve users add` leaves it
    owner = os.getuid() or 10002
    os.chown(users, owner, -1)
    name, password = ALICE
    variables = compose_environment(
        TABSERVE_UID=str(owner),
        TABSERVE_USERS_FILE=str(users),
        TABSERVE_USER=name,
        TABSERVE_PASSWORD=password,
        TABSERVE_TEST_RESULTS=str(tmp_path / "results"),
        TABSERVE_DATA=str(tmp_path / "data"),
        COMPOSE_PROJECT_NAME=NAME,
    )
    yield variables
    run(*COMPOSE, "down", "--volumes", "--timeout", "1", env=variables)


@pytest.mark.parametrize("profile", ["", *PROFILES, "monitoring", "decisions"])
def test_compose_takes_each_profile_by_itself(profile: str) -> None:
    docker("compose", "--profile", profile, "config", "--quiet", env=compose_environment())


def accept(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["docker", "compose", "--profile", "tests", "up", "--no-build", "--exit-code-from", "tests"]
    return run(*command, env=environment, within=10 * MINUTE)


def test_up_starts_the_service_alone_and_takes_the_users_file(environment: dict[str, str]) -> None:
    docker("compose", "up", "--no-build", "--detach", "--wait", env=environment, within=2 * MINUTE)
    assert docker("compose", "ps", "--services", env=environment).stdout.split() == ["api"]
    url = f"http://127.0.0.1:{environment['PORT']}"
    assert answer(f"{url}/ready")[0] == 200
    assert answer(f"{url}/predict", {})[0] == 401


def test_the_acceptance_tests_pass_against_the_service(tests_image: str, environment: dict[str, str]) -> None:
    done = accept(environment)
    log = (Path(environment["TABSERVE_TEST_RESULTS"]) / "log.txt").read_text()
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert re.search(r"^\d+ passed in ", log, re.MULTILINE) or re.search(r"=+ \d+ passed in ", log)


def test_a_service_that_is_wrong_fails_the_acceptance_tests(tests_image: str, environment: dict[str, str]) -> None:
    done = accept({**environment, "TABSERVE_PASSWORD": "not the password"})
    assert done.returncode == 1, done.stdout[-5000:] + done.stderr[-5000:]
    assert "401" in (Path(environment["TABSERVE_TEST_RESULTS"]) / "log.txt").read_text()


def test_a_service_that_does_not_start_fails_the_acceptance_tests(
    tests_image: str, environment: dict[str, str]
) -> None:
    Path(environment["TABSERVE_USERS_FILE"]).write_text("")
    done = accept(environment)
    assert done.returncode != 0
    assert "tabserve users add" in done.stdout + done.stderr


def test_an_upload_for_which_the_proxy_has_no_room_is_told_so(start: Start) -> None:
    docker("build", "--tag", PROXY, "deploy/compose", within=10 * MINUTE)
    small = [*HARDENED, "--tmpfs", "/tmp:size=1m"]
    url = address(start(*small, image=PROXY))
    wait_until(lambda: answer(f"{url}/")[0] == 503, MINUTE, "nginx does not start")  # there is no replica
    status, problem = answer(f"{url}/predict", "x" * 2_000_000)
    assert (status, problem["status"], problem["detail"]) == (503, 503, "Too many uploads at a time.")


def replicated(environment: dict[str, str]) -> str:
    """Start the replicas behind nginx; the address of these."""
    docker("compose", "--profile", "scale", "build", "proxy", "database", env=environment, within=10 * MINUTE)
    docker(*SCALE_UP, env=environment, within=3 * MINUTE)
    url = f"http://127.0.0.1:{environment['PROXY_PORT']}"
    wait_until(lambda: answer(f"{url}/ready")[0] == 200, 30, "nginx finds no replica")
    return url


SCALE_UP = ("compose", "up", "--no-build", "--detach", "--wait", "proxy")


def test_six_uploads_of_100_000_rows_are_jobs_that_every_replica_knows(
    environment: dict[str, str], credit: UseCase, records: list[dict[str, Any]]
) -> None:
    environment["AUTH_REQUIRED"] = "false"
    url = replicated(environment)
    content = table(credit, records, "csv", Settings().max_rows)
    with ThreadPoolExecutor(6) as pool:
        answers = [*pool.map(lambda _: upload(f"{url}/jobs/credit", "csv", content), range(6))]
    assert [status for status, _, _ in answers] == [202] * 6
    for _, headers, _ in answers:
        for _ in range(6):  # nginx asks the replicas in turn
            assert answer(f"{url}{headers['Location']}")[0] == 200
    jobs = [finished(url, headers) for _, headers, _ in answers]
    assert [job["state"] for job in jobs] == ["done"] * 6
    _, _, result = patiently(urllib.request.Request(f"{url}{jobs[0]['results']['csv']}"))
    assert result.count(b"\n") == Settings().max_rows + 1


def test_no_request_fails_while_replicas_are_killed_and_replaced(environment: dict[str, str]) -> None:
    url = replicated(environment)
    old = replicas(environment)
    assert len(old) == 3
    paths = answer(f"{url}/openapi.json")[1]["paths"]
    (example,) = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"].values()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TABSERVE_USER", ALICE[0])
        patch.setenv("TABSERVE_PASSWORD", ALICE[1])
        load = Load(f"{url}/predict", example["value"], clients=6)
    with load:
        time.sleep(3)
        docker("kill", old[0])
        time.sleep(8)
        after_kill = dict(load.counts)
        docker(*SCALE_UP, env=environment, within=3 * MINUTE)  # the third one is back
        done = run("deploy/compose/replace", env=environment, within=5 * MINUTE)
        assert done.returncode == 0, done.stdout + done.stderr
        time.sleep(2)
    logger.info("after the kill %s, in the end %s", after_kill, dict(load.counts))
    assert set(load.counts) == {"answered"}, load.counts
    assert load.counts["answered"] > after_kill["answered"] > 100
    new = replicas(environment)
    assert len(new) == 3
    assert not set(new) & set(old)


def replicas(environment: dict[str, str]) -> list[str]:
    return docker("compose", "--profile", "scale", "ps", "--quiet", "replica", env=environment).stdout.split()


def test_a_cluster_trains_into_its_bucket_and_both_workers_score_what_one_machine_does(
    environment: dict[str, str], credit: UseCase, records: list[dict[str, Any]]
) -> None:
    data = Path(environment["TABSERVE_DATA"])
    (data / "in").mkdir(parents=True)
    os.chown(data, int(environment["TABSERVE_UID"]), -1)
    names = [f"{number}.csv" for number in range(8)]
    for number, name in enumerate(names):
        (data / "in" / name).write_bytes(table(credit, records[number:], "csv", 20_000))
    (script,) = [block for block in blocks("sh", SCALING) if "docker compose run" in block]
    train, score = re.findall(r"^docker compose run --rm client .*$", script, re.MULTILINE)

    def documented(command: str, within: float) -> str:
        done = run(*command.split(), env=environment, within=within)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    documented(f"{train} --trials 2", 15 * MINUTE)  # builds the images, too
    there = json.loads(documented(score, 5 * MINUTE).splitlines()[-1])
    assert (there["rows"], there["failed"]) == (len(names) * 20_000, {})
    alone = score.replace(" scores ", " alone ").replace("dask:tcp://scheduler:8786", "threads")
    assert json.loads(documented(alone, 5 * MINUTE).splitlines()[-1])["model_id"] == there["model_id"]
    for name in names:
        assert (data / "scores" / name).read_bytes() == (data / "alone" / name).read_bytes()
    for worker in ("1", "2"):
        command = ("compose", "exec", "--no-TTY", "--index", worker, "worker", "find", "/tmp/model-cache")
        assert there["model_id"] in docker(*command, env=environment).stdout, f"worker {worker} scored nothing"
    logged = docker("compose", "--profile", "cluster", "logs", "scheduler", "worker", env=environment).stdout
    assert "/data" not in logged
    assert "Traceback" not in logged
