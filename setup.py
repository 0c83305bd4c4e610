"""Package metadata; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
FOLDERS = {"tabserve": "src", "tabserve.api": "api"}
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "src" / "__init__.py").read_text(), re.MULTILINE)
assert VERSION


def requirements(name: str) -> list[str]:
    """Return the packages that a requirements file names itself, not those of the files it includes."""
    return re.findall(r"^[a-z].*$", (ROOT / name).read_text(), re.MULTILINE)


setup(
    name="tabserve",
    version=VERSION[1],
    description="Train a model on a table and serve its predictions",
    license="MIT",
    python_requires=">=3.11",
    # The folders keep their names. What is imported is one package, which collides with nobody's own `src`.
    package_dir=FOLDERS,
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in (package, *(f"{package}.{inner}" for inner in find_packages(folder)))
    ],
    package_data={
        "tabserve.api": ["static/*", "templates/*"],
        "tabserve.charts": ["*.html"],
        "tabserve.datasets": ["*.xlsx", "*.csv", "*.md"],
        "tabserve.report": ["*.html"],
    },
    install_requires=requirements("requirements.in"),
    extras_require={
        extra: requirements(f"requirements-{extra}.in") for extra in ("train", "s3", "cluster", "trees", "tracing")
    },
    entry_points={"console_scripts": ["tabserve=tabserve.cli:main"]},
)
