"""Package metadata; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "src" / "__init__.py").read_text(), re.MULTILINE)
assert VERSION
REQUIREMENTS = [
    line for line in (ROOT / "requirements.in").read_text().splitlines() if line and not line.startswith("#")
]

setup(
    name="tabserve",
    version=VERSION[1],
    description="Train a model on a table and serve its predictions",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["api", "api.*", "src", "src.*"]),
    package_data={
        "api": ["static/*", "templates/*"],
        "src.datasets": ["*.xlsx", "*.csv", "*.md"],
        "src.report": ["*.html"],
    },
    install_requires=REQUIREMENTS,
    entry_points={
        "console_scripts": ["tabserve-train=src.train_pipeline:main"],
        "flask.commands": ["models=api.commands:models", "users=api.commands:users"],
    },
)
