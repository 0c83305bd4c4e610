"""The package as others install it: built, in an environment of its own, and run from a folder of somebody else's."""

import os
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tabserve.registry.registry import Registry
from tests.conftest import ROOT, free_port, wait_until

pytestmark = pytest.mark.slow

UV = (sys.executable, "-m", "uv", "--offline", "--quiet")  # an environment of the tests need not have pip
PYTHON = ("--python", sys.executable)
# what the extra `train` brings
EXTRA = ("bayes_opt", "matplotlib", "rich", "tomlkit")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building leaves files beside the sources."""
    source = tmp_path_factory.mktemp("source")
    names = ["setup.py", "pyproject.toml", "src", "api", *map(str, ROOT.glob("requirements*.in"))]
    for name in names:
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    subprocess.run([*UV, "build", "--wheel", "--no-build-isolation", *PYTHON], cwd=source, check=True, timeout=300)
    (path,) = source.glob("dist/*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the wheel, and with this environment's libraries."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    paths = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True
    ).stdout.decode()
    (Path(paths.strip()) / "libraries.pth").write_text("\n".join(libraries()))
    subprocess.run([*UV, "pip", "install", "--no-deps", "--python", python, wheel], check=True, timeout=300)
    return folder / "bin"


def libraries() -> list[str]:
    """Where this environment's libraries are; the editable installation of this package is no path, and stays out."""
    return [sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that holds modules of somebody else's, with names of ours."""
    for name in ("src", "api", "application"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not this one')")
    return tmp_path


def outside() -> dict[str, str]:
    """The environment without the path on which these tests may find the package."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture
def run(installed: Path, elsewhere: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "tabserve", *arguments],
            cwd=elsewhere,
            env={**outside(), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_the_wheel_holds_one_package_with_all_its_files(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {
        f"{package}/{path.relative_to(ROOT / folder)}"
        for package, folder in (("tabserve", "src"), ("tabserve/api", "api"))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_it_is_the_installed_package_that_runs(installed: Path, elsewhere: Path) -> None:
    code = "import tabserve, tabserve.api; print(tabserve.__file__, tabserve.api.__file__)"
    command = [installed / "python", "-c", code]
    paths = subprocess.run(command, cwd=elsewhere, env=outside(), capture_output=True, text=True, check=True).stdout
    assert all(path.startswith(str(installed.parent)) for path in paths.split())


def test_the_command_lists_models_from_another_folder(run, trained: Registry) -> None:
    done = run("models", "list", MODEL_REGISTRY=str(trained.location))
    assert (done.returncode, done.stderr) == (0, "")
    assert trained.latest("credit") in done.stdout


def test_the_service_answers_from_another_folder(installed: Path, elsewhere: Path, trained: Registry) -> None:
    port, log = free_port(), elsewhere / "log.txt"
    settings = {"MODEL_REGISTRY": str(trained.location), "AUTH_REQUIRED": "false", "HOST": "127.0.0.1"}
    command = [installed / "tabserve", "serve", "--port", str(port), "--workers", "1"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=elsewhere, env={**outside(), **settings}, stdout=output, stderr=output)
    try:
        wait_until(lambda: "Listening at" in log.read_text() or server.poll() is not None, 60, "it does not start")
        for path in ("/ready", "/", "/openapi.json"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60).close()
    finally:
        server.terminate()
        server.wait(60)


def test_without_the_extra_training_names_it_in_one_line(run, elsewhere: Path) -> None:
    (elsewhere / "hidden").mkdir()
    (elsewhere / "hidden" / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({EXTRA!r}))\n"
    )
    done = run("train", "credit", PYTHONPATH=str(elsewhere / "hidden"))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: Libraries are missing (")
    assert line.endswith("pip install 'tabserve[train]'")
