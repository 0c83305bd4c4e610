"""The use cases: each module in this folder that has a `USE_CASE` declares one."""

import importlib
import pkgutil
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from src.errors import UnknownUseCaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from src.use_cases.declaration import UseCase


@cache
def all_use_cases() -> "Mapping[str, UseCase]":
    """Every use case by name, in alphabetical order."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found = (module.USE_CASE for module in modules if hasattr(module, "USE_CASE"))
    return MappingProxyType({use_case.name: use_case for use_case in found})


def get_use_case(name: str) -> "UseCase":
    """The use case of that name.

    Raises
    ------
    UnknownUseCaseError
        With the names there are.
    """
    try:
        return all_use_cases()[name]
    except KeyError:
        raise UnknownUseCaseError(list(all_use_cases())) from None
