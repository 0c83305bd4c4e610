"""Provenance: what a manifest says a model was made from."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import joblib
import pytest

import tabserve
from tabserve.declaration.plain import to_plain
from tabserve.training.provenance import commit, declaration_version
from tests.conftest import ROOT


def test_a_manifest_says_what_the_model_is_and_how_it_was_made(artifact, credit, trained):
    text = (trained.location / artifact.model_id / "manifest.json").read_text()
    manifest = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    assert manifest["protocol"] == 5
    assert manifest["model_id"] == artifact.model_id
    assert re.fullmatch(r"credit-lightgbm_v\d+\.\d+\.\d+-\d+\.\d{6}", manifest["model_id"])
    assert (manifest["use_case"], manifest["algorithm"], manifest["seed"]) == ("credit", "lightgbm", 42)
    assert manifest["version"] == tabserve.__version__
    assert manifest["python"] == sys.version.split()[0]
    assert manifest["threads"] == joblib.cpu_count()
    created = datetime.fromisoformat(manifest["created"])
    assert created.utcoffset() == timedelta(0)
    assert abs(created.timestamp() - float(artifact.model_id.rpartition("-")[2])) < 0.001
    assert created < datetime.now(UTC)
    assert manifest["data"] == {
        "sha256": hashlib.sha256(credit.path.read_bytes()).hexdigest(),
        "rows": 1000,
        "dropped": 0,
    }
    assert manifest["libraries"].keys() >= {"bayesian-optimization", "joblib", "lightgbm", "numpy", "scikit-learn"}
    assert manifest["libraries"] == {name: version(name) for name in manifest["libraries"]}
    assert manifest["declaration"] == to_plain(credit)
    assert re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", manifest["declaration_version"])


def test_a_manifest_names_the_commit_where_there_is_a_repository(artifact):
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no git checkout, or git is not installed")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", artifact.manifest.commit)


def test_outside_a_repository_the_commit_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no git
    monkeypatch.setenv("COMMIT", "0123abc")
    assert commit() == "0123abc"
    monkeypatch.delenv("COMMIT")
    assert commit() is None


def test_a_declarations_version_is_its_files_digest_or_the_commit_that_last_changed_it(credit, tmp_path):
    file = tmp_path / "credit.toml"
    file.write_text("as declared")
    digest = hashlib.sha256(b"as declared").hexdigest()
    declared = replace(credit, file=file)
    assert declaration_version(declared) == digest

    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert declaration_version(declared) == digest  # not committed yet
    git("add", ".")
    git("commit", "-qm", "First")
    first = git("rev-parse", "HEAD")
    (tmp_path / "other.txt").touch()
    git("add", ".")
    git("commit", "-qm", "Another file")
    assert declaration_version(declared) == first
    file.write_text("changed")
    assert declaration_version(declared) == hashlib.sha256(b"changed").hexdigest()


def test_what_a_program_declares_has_a_digest_of_its_own(credit):
    one, other = (declaration_version(replace(credit, file=None, title=title)) for title in ("One", "Other"))
    assert re.fullmatch("[0-9a-f]{64}", one)
    assert one != other
