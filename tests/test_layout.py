"""The shape of the project: what may import what, and what importing may not do."""

import ast
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tabserve.tasks.binary import Binary
from tabserve.tasks.classes import ClassTask
from tabserve.tasks.multiclass import Multiclass
from tabserve.tasks.regression import Regression
from tests.conftest import ROOT

CLI = ROOT / "src" / "cli"  # the command, which serves, too
SOURCES = sorted(path for path in (ROOT / "src").rglob("*.py") if CLI not in path.parents)
WEB = {"flask", "apiflask", "werkzeug", "marshmallow", "gunicorn", "tabserve.api", "application"}
HEAVY = {"pandas", "sklearn", "lightgbm", "scipy", "matplotlib"}


# From the top down: a module may import from its own layer and from lower ones. Of two matching names the longer counts
LAYERS = (
    ("cli", "__main__"),
    ("api",),
    ("train_pipeline",),
    ("report", "draft"),
    ("training",),
    ("monitoring",),
    ("jobs", "scoring", "decisions"),
    ("predictor", "resolver"),
    ("predict", "explain"),
    ("settings", "click_types"),
    ("declaration.discovery",),
    ("use_cases",),
    ("declaration",),
    ("registry",),
    ("tasks",),
    ("charts",),
    ("evaluation",),
    ("pipeline",),
    ("tuning",),
    ("models",),
    ("transformers",),
    ("search_space",),
    ("tables",),
    ("columns", "registry.model_id"),
    ("base",),
    ("executors",),
    ("database", "errors", "aliases", "log", "datasets", ""),
)
DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names}


def module_name(path: Path) -> str:
    """What a file of src or api is imported as, less the package."""
    folder = "api" if path.is_relative_to(ROOT / "api") else ""
    parts = path.relative_to(ROOT / (folder or "src")).with_suffix("").parts
    return ".".join(part for part in (folder, *parts) if part not in ("", "__init__"))


MODULES = {module_name(path): path for folder in ("src", "api") for path in sorted((ROOT / folder).rglob("*.py"))}


def depth_of(module: str) -> int:
    """How many layers lie above a module's."""
    while module not in DEPTH:
        module = module.rpartition(".")[0]
    return DEPTH[module]


def names_imported_by(path: Path) -> set[str]:
    """Everything that a file imports, anywhere in it, with the modules that it is taken from."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_by(path: Path) -> set[str]:
    """Top-level names of everything that a file imports."""
    return {top_level(name) for name in names_imported_by(path)}


def own_modules_imported_by(module: str) -> set[str]:
    """The project's modules that one of them imports, for its types alone too."""
    found = set()
    for name in names_imported_by(MODULES[module]):
        if name.startswith("tabserve."):
            inner = name.removeprefix("tabserve.")
            while inner not in MODULES:
                inner = inner.rpartition(".")[0]
            found.add(inner)
    return found - {module}


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


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_own_layer_and_from_those_below(module: str) -> None:
    depth = depth_of(module)
    assert {other for other in own_modules_imported_by(module) if depth_of(other) < depth} == set()


def test_every_module_has_a_layer_that_is_named() -> None:
    tops = {module.partition(".")[0] for module in MODULES}
    assert tops <= {name.partition(".")[0] for name in DEPTH}


def test_no_modules_import_each_other() -> None:
    graph = {module: own_modules_imported_by(module) for module in MODULES}
    assert list(TopologicalSorter(graph).static_order())  # or a CycleError, which names them


def test_nothing_asks_of_which_class_a_task_is() -> None:
    kinds = {"Task", *(kind.__name__ for kind in (ClassTask, Binary, Multiclass, Regression))}
    asked = {
        f"{module}: {name.id}"
        for module, path in MODULES.items()
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "isinstance"
        for name in ast.walk(call.args[1])
        if isinstance(name, ast.Name) and name.id in kinds
    }
    assert asked == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_in_src_imports_the_web_side(path: Path) -> None:
    assert not imported_by(path) & WEB


def test_the_check_of_imports_sees_them() -> None:
    assert imported_by(ROOT / "api" / "app.py") & WEB


def test_everything_in_src_can_be_imported_without_the_web_side_and_makes_no_file(tmp_path: Path) -> None:
    modules = [
        f"tabserve.{module}"
        for module in MODULES
        if module and not re.match(r"api|cli|__main__|datasets\.make_", module)
    ]
    assert len(modules) > 80
    loaded = modules_after(f"import {', '.join(modules)}", cwd=tmp_path)
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
