"""A use case of three classes, and its models. Fixtures: import them where they are used."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tabserve.use_cases
from tabserve.declaration.discovery import forget_use_cases, get_use_case
from tabserve.declaration.use_case import UseCase
from tabserve.registry.registry import Registry
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan

FIXTURES = Path(__file__).parent / "fixtures"
DATA = FIXTURES / "wine.csv"


@pytest.fixture(scope="module", name="declared")
def wine_is_declared() -> Iterator[None]:
    """The use case of the fixtures is found like one that is shipped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabserve.use_cases, "__path__", [*tabserve.use_cases.__path__, str(FIXTURES)])
        forget_use_cases()
        yield
    forget_use_cases()
    sys.modules.pop("tabserve.use_cases.wine", None)


@pytest.fixture(scope="module", name="wine")
def wine_use_case(declared: None) -> UseCase:
    return get_use_case("wine")


@pytest.fixture(scope="module", name="wines")
def registry_of_wines(wine: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with the two models of a training of two trials; not to be changed."""
    registry = Registry(tmp_path_factory.mktemp("wines"))
    run_training(wine, registry, DATA, Plan(trials=2, jobs=2))
    return registry
