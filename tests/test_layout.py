"""The shape of the project: what may import what, and what importing may not do."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CLI = ROOT / "src" / "cli"  # the command, which serves, too
SOURCES = sorted(path for path in (ROOT / "src").rglob("*.py") if CLI not in path.parents)
WEB = {"flask", "apiflask", "werkzeug", "marshmallow", "gunicorn", "tabserve.api", "application"}
HEAVY = {"pandas", "sklearn", "lightgbm", "scipy", "matplotlib"}


def imported_by(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {top_level(name) for name in names}


def top_level(name: str) -> str:
    """The name before the first dot; the service is one of its own."""
    return "tabserve.api" if f"{name}.".startswith("tabserve.api.") else name.partition(".")[0]


def loaded_after(code: str, cwd: Path = ROOT) -> set[str]:
    """Names of the modules that a fresh interpreter holds after some code."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AUTH_REQUIRED": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def modules_after(code: str, cwd: Path = ROOT) -> set[str]:
    """Top-level names of these modules."""
    return {top_level(name) for name in loaded_after(code, cwd)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_in_src_imports_the_web_side(path: Path) -> None:
    assert not imported_by(path) & WEB


def test_the_check_of_imports_sees_them() -> None:
    assert imported_by(ROOT / "api" / "app.py") & WEB


def test_everything_in_src_can_be_imported_without_the_web_side_and_makes_no_file(tmp_path: Path) -> None:
    loaded = modules_after(
        "import importlib, pkgutil, tabserve\n"
        "for module in pkgutil.walk_packages(tabserve.__path__, 'tabserve.'):\n"
        "    if '.make_' not in module.name and '.cli.' not in module.name:\n"
        "        importlib.import_module(module.name)",
        cwd=tmp_path,
    )
    assert "tabserve" in loaded
    assert not loaded & WEB
    assert not list(tmp_path.iterdir())


def test_no_module_in_src_or_api_has_the_name_of_one_of_the_standard_library() -> None:
    # as a script, src/train_pipeline.py has src itself on the path for a moment
    names = {path.stem for folder in ("src", "api") for path in (ROOT / folder).iterdir() if path.name[0] not in "_."}
    assert {"train_pipeline", "controller"} <= names
    assert not names & set(sys.stdlib_module_names)


def test_the_service_is_imported_without_the_libraries_of_training_and_makes_no_file(tmp_path: Path) -> None:
    commands = "tabserve.cli.models, tabserve.cli.users, tabserve.cli.serve, tabserve.cli.openapi"
    loaded = modules_after(f"import application, {commands}", cwd=tmp_path)
    assert {"tabserve", "flask"} <= loaded
    assert not loaded & HEAVY
    assert not list(tmp_path.iterdir())


def test_a_declaration_needs_nothing_of_the_registry_but_how_models_are_named() -> None:
    loaded = loaded_after("import tabserve.declaration.discovery, tabserve.declaration.use_case")
    assert {name for name in loaded if name.startswith("tabserve.registry.")} == {"tabserve.registry.model_id"}
