"""Discovery: each module in `use_cases` that has a `USE_CASE` declares one."""

import importlib
import pkgutil
from functools import cache
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from tabserve import use_cases
from tabserve.errors import InvalidUseCaseError, TabserveError, UnknownUseCaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tabserve.declaration.use_case import UseCase


@cache
def all_use_cases() -> "Mapping[str, UseCase]":
    """Every use case by name, in alphabetical order."""
    found = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(use_cases.__path__)):
        use_case = getattr(_imported(module), "USE_CASE", None)
        if use_case and use_case.name != module:  # of two with the same name, one would hide the other
            raise InvalidUseCaseError(f"{module}.py declares the use case '{use_case.name}': give both the same name.")
        if use_case:
            found[module] = use_case
    return MappingProxyType(found)


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"{use_cases.__name__}.{module}")
    except TabserveError:
        raise
    except Exception as error:  # a user's file may raise anything
        raise InvalidUseCaseError(f"{module}.py cannot be imported: {type(error).__name__}: {error}") from error


def get_use_case(name: str) -> "UseCase":
    """The use case of that name.

    Raises
    ------
    UnknownUseCaseError
        With the names of all use cases.
    """
    try:
        return all_use_cases()[name]
    except KeyError:
        raise UnknownUseCaseError(list(all_use_cases())) from None
