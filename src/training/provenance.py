"""Provenance: what a model is called and what it was made from, for its manifest."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tabserve import __version__
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.plain import to_plain
from tabserve.declaration.use_case import UseCase
from tabserve.registry.manifest import Source, Split
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import PINNED_LIBRARIES

RECORDED_LIBRARIES = (*PINNED_LIBRARIES, "bayesian-optimization", "joblib", "numpy", "pandas", "scipy")


def provenance(
    use_case: UseCase, algorithm: Algorithm, created: int, source: Source, seed: int, split: Split
) -> dict[str, Any]:
    """What a model is called and what it was made from.

    Parameters
    ----------
    use_case : UseCase
        What was trained.
    algorithm : Algorithm
        How.
    created : int
        Unix time in microseconds.
    source : Source
        The data.
    seed : int
        Of the training.
    split : Split
        What decided which rows were held out.

    Returns
    -------
    dict
        Arguments of `Manifest`.
    """
    seconds, microseconds = divmod(created, 10**6)  # not a float: it would make two ids of one moment equal
    return {
        "model_id": str(ModelId(use_case.name, algorithm.name, __version__, f"{seconds}.{microseconds:06}")),
        "use_case": use_case.name,
        "algorithm": algorithm.name,
        "version": __version__,
        "commit": commit(),
        "created": datetime.fromtimestamp(created / 10**6, UTC).isoformat(),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "data": source,
        "seed": seed,
        "split": split,
        "declaration": to_plain(use_case),
        "declaration_version": declaration_version(use_case),
    }


def commit() -> str | None:
    """The code's git commit, marked when files were changed since; outside a repository, the environment's COMMIT."""
    described = _git(Path(__file__).parent, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    return os.environ.get("COMMIT") if described is None else described  # an image has no git, but was told


def declaration_version(use_case: UseCase) -> str:
    """The commit that last changed the declaration's file; if there is none or it was changed since, its SHA-256."""
    file = use_case.file
    if file is None:  # declared by a program
        return hashlib.sha256(json.dumps(to_plain(use_case), sort_keys=True).encode()).hexdigest()
    committed = None
    if _git(file.parent, "status", "--porcelain", "--", file.name) == "":
        committed = _git(file.parent, "log", "-1", "--format=%H", "--", file.name)
    return committed or hashlib.sha256(file.read_bytes()).hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says in a folder; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a model depends on."""
    return {name: version(name) for name in RECORDED_LIBRARIES}
