"""deploy/bundle: what is in the zip for Elastic Beanstalk, that the same is made again, and what is refused."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import types
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tabserve import __version__
from tabserve.registry.registry import PINNED_LIBRARIES, Registry
from tests.artifacts import change_byte, copy_of, edit_manifest
from tests.conftest import ROOT

if shutil.which("git") is None:
    pytest.skip("git is not installed", allow_module_level=True)

WHEN = (2026, 3, 29, 1, 30, 14)  # of the commit in UTC: half an hour into a day that loses an hour in Europe
OWN_GIT = {  # git without the settings of this machine and user
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_DATE": "2026-03-29T01:30:14Z",
    "GIT_COMMITTER_DATE": "2026-03-29T01:30:14Z",
}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, env=OWN_GIT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one commit is this tree, as it is now."""
    folder = tmp_path_factory.mktemp("git") / "origin"
    git(folder.parent, "init", "--quiet", "--initial-branch=master", str(folder))
    git(folder, f"--git-dir={folder / '.git'}", f"--work-tree={ROOT}", "add", "--all")
    git(folder, "commit", "--quiet", "--message=This tree")
    git(folder, "reset", "--quiet", "--hard")
    return folder


@pytest.fixture
def repository(origin: Path, tmp_path: Path) -> Path:
    """A clone that a test may change."""
    git(tmp_path, "clone", "--quiet", str(origin), str(tmp_path / "repository"))
    return tmp_path / "repository"


@pytest.fixture(scope="module")
def models(trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with all that may lie beside them; not to be changed."""
    folder = tmp_path_factory.mktemp("bundle") / "models"
    shutil.copytree(trained.location, folder)
    registry = Registry(folder)
    registry.histories.promote(registry.list("credit")[0])
    copy_of(registry)
    registry.reject("credit-lightgbm_v1.0.0-1234567890.123456", b"a report")
    half = folder / "credit-lightgbm_v1.0.0-1234567890.654321"
    half.mkdir()
    (half / "model.pkl").write_bytes(b"half")
    (folder / ".hidden").write_text("hidden")
    return folder


def run(repository: Path, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the script as one without any package installed would."""
    command = [sys.executable, "-I", "-S", str(repository / "deploy" / "bundle"), *map(str, arguments)]
    return subprocess.run(command, **{"env": OWN_GIT, "capture_output": True, "text": True, **options})


def bundle(repository: Path, models: Path, output: Path, **options: Any) -> zipfile.ZipFile:
    done = run(repository, "--models", models, "--output", output, **options)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(output)


@pytest.fixture(scope="module")
def made(origin: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The bundle of this tree; not to be changed."""
    return bundle(origin, models, tmp_path_factory.mktemp("made") / "bundle.zip")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# what is in it


def test_it_holds_the_code_the_platforms_files_and_the_models(made: zipfile.ZipFile, models: Path) -> None:
    names = set(made.namelist())
    expected = {"Dockerfile", "application.py", "gunicorn.conf.py", "setup.py", "src/datasets/bikes.csv"}
    expected |= {"api/templates/page.html", "models/credit.history"}
    platform = ROOT / "deploy" / "elasticbeanstalk"
    expected |= {str(path.relative_to(platform)) for path in platform.rglob("*") if path.is_file()}
    for path in models.glob("*/manifest.json"):
        files = ("manifest.json", "model.pkl", "pipeline.pkl", "report.html")
        expected |= {f"models/{path.parent.name}/{name}" for name in files}
    assert expected <= names


def test_it_holds_nothing_else(made: zipfile.ZipFile) -> None:
    names = made.namelist()
    top = {name.split("/")[0] for name in names}
    assert not top & {"tests", "docs", "benchmarks", "deploy", "dist", "Makefile", "requirements-dev.txt"}
    assert {name for name in top if name.startswith(".")} <= {".ebextensions", ".platform"}
    assert not [name for name in names if "/." in name or "__pycache__" in name]
    assert not [name for name in names if name.endswith(("train.parquet", "test.parquet"))]
    assert not [name for name in names if "1234567890" in name or "rejected" in name]  # a report, half an artifact


def test_it_holds_the_hold_outs_when_it_is_asked_for_and_its_image_will_too(
    origin: Path, models: Path, tmp_path: Path
) -> None:
    done = run(origin, "--models", models, "--output", tmp_path / "bundle.zip", "--hold-out")
    assert done.returncode == 0, done.stderr
    made = zipfile.ZipFile(tmp_path / "bundle.zip")
    whole = [path.parent.name for path in models.glob("*/manifest.json")]
    assert {f"models/{name}/test.parquet" for name in whole} <= set(made.namelist())
    assert not [name for name in made.namelist() if name.endswith("train.parquet")]
    assert "ARG HOLD_OUT=true" in made.read("Dockerfile").decode().splitlines()


def test_models_without_their_hold_outs_are_bundled_unless_these_are_asked_for(
    origin: Path, models: Path, tmp_path: Path
) -> None:
    without = shutil.copytree(
        models, tmp_path / "models", ignore=shutil.ignore_patterns("test.parquet", "train.parquet")
    )
    assert run(origin, "--models", without, "--output", tmp_path / "bundle.zip").returncode == 0
    refused = run(origin, "--models", without, "--output", tmp_path / "bundle.zip", "--hold-out")
    assert refused.returncode == 1
    assert "is not what training wrote" in refused.stderr


def test_a_champion_travels_with_its_signature(origin: Path, registry: Registry, tmp_path: Path) -> None:
    signed = Registry(registry.location, "key")
    champion = copy_of(signed)
    signed.histories.promote(champion)
    made = bundle(origin, Path(registry.location), tmp_path / "bundle.zip")
    made.extractall(tmp_path / "unpacked")
    assert Registry(tmp_path / "unpacked" / "models", "key").histories.champion("credit") == champion


def test_names_are_such_that_any_unzip_puts_them_where_they_belong(made: zipfile.ZipFile) -> None:
    names = made.namelist()
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[\w.][\w.@-]*(/[\w.][\w.@-]*)*", name, re.ASCII) for name in names)
    assert not [name for name in names if ".." in name.split("/")]


def test_files_are_as_committed_and_dated_by_the_commit(made: zipfile.ZipFile, origin: Path) -> None:
    assert made.read("src/registry/registry.py") == (origin / "src" / "registry" / "registry.py").read_bytes()
    assert {entry.date_time for entry in made.infolist()} == {WHEN}


def test_programs_can_be_executed_and_nothing_else_can(repository: Path, models: Path, tmp_path: Path) -> None:
    hooks = repository / "deploy" / "elasticbeanstalk" / ".platform" / "hooks" / "postdeploy"
    hooks.mkdir(parents=True, exist_ok=True)
    for name, mode in (("run.sh", 0o755), ("read.txt", 0o644)):
        (hooks / name).write_text("#!/bin/sh\n")
        (hooks / name).chmod(mode)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=Hooks")
    made = bundle(repository, models, tmp_path / "bundle.zip")
    modes = {entry.filename: (entry.create_system, entry.external_attr >> 16) for entry in made.infolist()}
    assert modes[".platform/hooks/postdeploy/run.sh"] == (3, 0o100755)
    assert modes[".platform/hooks/postdeploy/read.txt"] == (3, 0o100644)
    assert set(modes.values()) == {(3, 0o100755), (3, 0o100644)}


def test_the_dockerfile_says_what_the_image_is_made_from(made: zipfile.ZipFile, origin: Path) -> None:
    before = (origin / "Dockerfile").read_text().splitlines()
    after = made.read("Dockerfile").decode().splitlines()
    changed = {new for old, new in zip(before, after, strict=True) if old != new}
    assert changed <= {f"ARG VERSION={__version__}", f"ARG COMMIT={git(origin, 'rev-parse', 'HEAD').strip()}"}
    assert f"ARG COMMIT={git(origin, 'rev-parse', 'HEAD').strip()}" in after


def used_by(dockerfile: str) -> list[str]:
    """What a Dockerfile takes from its build context: patterns of paths."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE)).splitlines()
    patterns = []
    for line in lines:
        if re.match(r"(COPY|ADD)\s", line) and "--from=" not in line:
            *sources, _ = (word for word in line.split()[1:] if not word.startswith("--"))
            patterns += sources
        for mount in re.findall(r"--mount=(\S+)", line):
            options = dict(option.partition("=")[::2] for option in mount.split(","))
            if options.get("type") == "bind" and "from" not in options:
                patterns.append(options.get("source", options.get("src", ".")))
    return [pattern.removeprefix("./").rstrip("/") for pattern in patterns]


def test_what_a_dockerfile_takes_from_its_context_is_found() -> None:
    text = """
        # COPY comment ./
        COPY --chown=1:1 api api
        COPY a.txt b*.txt \\
             ./
        COPY --from=build /x /y
        RUN --mount=type=bind,source=c.txt,target=c.txt --mount=type=cache,target=/root/.cache pip
    """
    assert used_by(re.sub("^ +", "", text, flags=re.MULTILINE)) == ["api", "a.txt", "b*.txt", "c.txt"]


def test_it_holds_all_that_its_dockerfile_takes(made: zipfile.ZipFile) -> None:
    patterns = used_by(made.read("Dockerfile").decode())
    assert patterns
    for pattern in patterns:
        assert [name for name in made.namelist() if fnmatch(name, pattern) or fnmatch(name, f"{pattern}/*")], pattern


def test_the_service_is_ready_when_it_runs_from_the_unpacked_bundle(made: zipfile.ZipFile, tmp_path: Path) -> None:
    made.extractall(tmp_path)
    (tmp_path / "package").mkdir()  # the folders as setup.py calls them
    (tmp_path / "package" / "tabserve").symlink_to(tmp_path / "src")
    (tmp_path / "src" / "api").symlink_to(tmp_path / "api")
    code = (
        "import tabserve; from tabserve.api.app import create_app; answer = create_app().test_client().get('/ready')\n"
        "print(tabserve.__file__, answer.status_code, answer.text)"
    )
    environment = {
        **os.environ,
        "AUTH_REQUIRED": "false",
        "PYTHONPATH": f"{tmp_path}/package",
        "MODEL_REGISTRY": "models",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"{tmp_path}/package/tabserve/__init__.py 200")


# the same again


def test_the_same_commit_and_models_give_the_same_bytes_wherever_it_is_made(
    made: zipfile.ZipFile, origin: Path, models: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[core]\nautocrlf = true\n[tar]\numask = 077\n[log]\nshowSignature = true\n")
    environment = {**OWN_GIT, "TZ": "Asia/Tokyo", "LC_ALL": "C", "GIT_CONFIG_GLOBAL": str(settings), "HOME": "/nowhere"}
    elsewhere = tmp_path / "another place"
    command = ["git", "clone", "--quiet", str(origin), str(elsewhere)]
    subprocess.run(command, env=environment, umask=0o077, check=True, cwd=tmp_path)
    copied = shutil.copytree(models, tmp_path / "copied models", copy_function=shutil.copyfile)  # other times and modes
    bundle(elsewhere, copied, tmp_path / "bundle.zip", env=environment, umask=0o077, cwd=tmp_path)
    assert made.filename
    assert digest(tmp_path / "bundle.zip") == digest(Path(made.filename))


def test_another_model_gives_another_digest(
    made: zipfile.ZipFile, origin: Path, registry: Registry, tmp_path: Path
) -> None:
    digests = set()
    for name in ("before", "promoted", "more"):
        digests.add(digest(Path(str(bundle(origin, Path(registry.location), tmp_path / f"{name}.zip").filename))))
        if name == "before":
            registry.histories.promote(registry.list("bikes")[-1], reason="a test")
        else:
            copy_of(registry)
    assert len(digests) == 3


def test_another_commit_gives_another_digest(
    made: zipfile.ZipFile, repository: Path, models: Path, tmp_path: Path
) -> None:
    git(repository, "commit", "--quiet", "--allow-empty", "--message=Nothing")
    assert digest(Path(str(bundle(repository, models, tmp_path / "bundle.zip").filename))) != digest(
        Path(str(made.filename))
    )


# what is said


def test_size_number_of_files_and_digest_are_said_and_true(origin: Path, models: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "bundle.zip"
    done = run(origin, "--models", models, "--output", output)
    n_files = len(zipfile.ZipFile(output).namelist())
    size = output.stat().st_size
    assert done.stdout == f"{output}: {n_files} files, {size} bytes, sha256 {digest(output)}\n"
    assert not done.stderr
    assert list(output.parent.iterdir()) == [output]


def test_by_default_it_is_made_from_models_and_named_by_version_and_commit(repository: Path, models: Path) -> None:
    shutil.copytree(models, repository / "models")
    for _ in range(2):  # neither models nor bundles are changes to the code
        done = run(repository, cwd="/")
        assert done.returncode == 0, done.stderr
    commit = git(repository, "rev-parse", "HEAD")[:12]
    assert [path.name for path in (repository / "dist").iterdir()] == [f"tabserve-{__version__}-{commit}.zip"]


def test_git_knows_that_the_script_is_a_program(origin: Path) -> None:
    assert git(origin, "ls-files", "--stage", "deploy/bundle").startswith("100755 ")


# what is refused


def assert_refused(done: subprocess.CompletedProcess[str], output: Path, *words: str) -> None:
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr.startswith("deploy/bundle: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not output.exists()


def test_changes_that_are_not_committed_are_refused_by_name(repository: Path, models: Path, tmp_path: Path) -> None:
    with (repository / "api" / "app.py").open("a") as file:
        file.write("\n")
    (repository / "src" / "use_cases" / "käse one.py").write_text("")
    git(repository, "rm", "--quiet", "LICENSE")
    git(repository, "mv", "setup.py", "moved.py")
    done = run(repository, "--models", models, "--output", tmp_path / "bundle.zip")
    names = ("api/app.py", "src/use_cases/käse one.py", "LICENSE", "setup.py", "moved.py")
    assert_refused(done, tmp_path / "bundle.zip", *names)


def test_a_use_case_without_a_model_is_refused_with_what_to_run(
    origin: Path, registry: Registry, tmp_path: Path
) -> None:
    for model_id in registry.list("bikes"):
        (Path(registry.location) / model_id / "manifest.json").unlink()
    done = run(origin, "--models", registry.location, "--output", tmp_path / "bundle.zip")
    command = "tabserve train bikes"
    assert_refused(done, tmp_path / "bundle.zip", "no model for bikes that", command, "tabserve models copy")
    done = run(origin, "--models", tmp_path / "nowhere", "--output", tmp_path / "bundle.zip")
    assert_refused(done, tmp_path / "bundle.zip", "no model for bikes, credit that")


def test_a_model_that_other_libraries_made_does_not_answer(origin: Path, registry: Registry, tmp_path: Path) -> None:
    folder, output = Path(registry.location), tmp_path / "bundle.zip"
    old = copy_of(registry)
    libraries = json.loads((folder / old / "manifest.json").read_text())["libraries"]
    edit_manifest(registry, old, libraries={**libraries, "lightgbm": "3.3.5"})
    done = run(origin, "--models", folder, "--output", output)
    assert done.returncode == 0, done.stderr  # there is another
    output.unlink()
    registry.histories.promote(old)
    done = run(origin, "--models", folder, "--output", output)
    assert_refused(done, output, "credit.history", "libraries of requirements.txt")
    (folder / "credit.history").unlink()
    for model_id in registry.list("credit"):
        edit_manifest(registry, model_id, libraries={**libraries, "scikit-learn": "1.0"})
    done = run(origin, "--models", folder, "--output", output)
    assert_refused(done, output, "no model for credit that was made with the libraries of requirements.txt")


def test_the_libraries_are_those_that_the_registry_checks() -> None:
    script = loaded(ROOT / "deploy" / "bundle")
    libraries = script["pinned_libraries"]((ROOT / "requirements.txt").read_text())
    assert set(libraries) == set(PINNED_LIBRARIES)
    assert all(re.fullmatch(r"[0-9.]+", version) for version in libraries.values())


def break_file(artifact: Path) -> None:
    change_byte(artifact / "model.pkl")


def remove_file(artifact: Path) -> None:
    (artifact / "pipeline.pkl").unlink()


def cut_manifest(artifact: Path) -> None:
    (artifact / "manifest.json").write_text("{")


def empty_manifest(artifact: Path) -> None:
    (artifact / "manifest.json").write_text("[]")


def rename(artifact: Path) -> None:
    artifact.rename(artifact.with_name("credit-lightgbm_v1.0.0-1234567890.123456"))


@pytest.mark.parametrize("damage", [break_file, remove_file, cut_manifest, empty_manifest, rename])
def test_a_model_that_is_not_whole_is_refused(damage: Any, origin: Path, registry: Registry, tmp_path: Path) -> None:
    damage(Path(registry.location) / registry.latest("credit"))
    done = run(origin, "--models", registry.location, "--output", tmp_path / "bundle.zip")
    assert_refused(done, tmp_path / "bundle.zip", "credit-lightgbm_v1.0.0-", "not what training wrote")


@pytest.mark.parametrize("name", ["credit.history", "credit.champion"])
@pytest.mark.parametrize("content", ["credit-lightgbm_v1.0.0-1234567890.123456", "bikes", "", "\xff"])
def test_a_champion_that_is_not_there_is_refused(
    name: str, content: str, origin: Path, registry: Registry, tmp_path: Path
) -> None:
    text = registry.latest("bikes") if content == "bikes" else content
    if name == "credit.history" and "-" in text:
        text = json.dumps({"champion": text}) + "\n"
    (Path(registry.location) / name).write_text(text, encoding="latin-1")
    done = run(origin, "--models", registry.location, "--output", tmp_path / "bundle.zip")
    assert_refused(done, tmp_path / "bundle.zip", name, "tabserve models promote")


def test_a_history_after_which_there_is_no_champion_travels(origin: Path, registry: Registry, tmp_path: Path) -> None:
    champion = copy_of(registry)
    registry.histories.promote(champion)
    registry.delete(champion)
    assert "models/credit.history" in bundle(origin, Path(registry.location), tmp_path / "bundle.zip").namelist()


def test_a_folder_that_cannot_be_written_to_is_refused(origin: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    output = tmp_path / "file" / "bundle.zip"
    assert_refused(run(origin, "--models", models, "--output", output), output, str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_folder_that_holds_no_repository_is_refused(models: Path, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "bundle", tmp_path / "deploy" / "bundle")
    output = tmp_path / "bundle.zip"
    assert_refused(run(tmp_path, "--models", models, "--output", output), output, "not a git repository")


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("Dockerfile", "FROM scratch\nARG VERSION=unknown\nARG COMMIT\n", "no line 'ARG COMMIT='"),
        ("deploy/elasticbeanstalk/setup.py", "", "would take the place of setup.py"),
    ],
)
def test_a_commit_that_makes_no_good_bundle_is_refused(
    path: str, text: str, word: str, repository: Path, models: Path, tmp_path: Path
) -> None:
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=Bad")
    done = run(repository, "--models", models, "--output", tmp_path / "bundle.zip")
    assert_refused(done, tmp_path / "bundle.zip", word)


def test_more_than_elastic_beanstalk_accepts_is_refused(origin: Path, models: Path, tmp_path: Path) -> None:
    script: Mapping[str, Any] = loaded(origin / "deploy" / "bundle", LIMIT=1_000_000)
    with pytest.raises(script["RefusedError"], match="accepts 1,000,000"):
        script["make"](models, tmp_path / "bundle.zip")
    assert not list(tmp_path.iterdir())


def test_the_limit_is_that_of_elastic_beanstalk() -> None:
    assert loaded(ROOT / "deploy" / "bundle")["LIMIT"] == 524_288_000


def loaded(path: Path, **changes: Any) -> dict[str, Any]:
    """The script's names, some of them changed, to test what would take half a gigabyte."""
    module = types.ModuleType("bundle")
    module.__file__ = str(path)
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    module.__dict__.update(changes)
    return module.__dict__
