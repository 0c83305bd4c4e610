"""Discovery: each TOML file, and each Python file that has a `USE_CASE`, declares one.

A user's use case takes the place of one that ships and has the same name. A file that cannot be used takes down nothing
but its own use case.
"""

import importlib
import traceback
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tabserve import use_cases
from tabserve.errors import InvalidUseCaseError, UnknownUseCaseError

if TYPE_CHECKING:
    from tabserve.declaration.use_case import UseCase

SHIPPED = Path(use_cases.__file__).resolve().parent
ENDINGS = (".toml", ".py")


class _Found(NamedTuple):
    good: "Mapping[str, UseCase]"
    broken: Mapping[str, str]


def all_use_cases() -> "Mapping[str, UseCase]":
    """Every use case that can be used, by name, in alphabetical order."""
    return _find().good


def broken_use_cases() -> Mapping[str, str]:
    """What is wrong with each of the others, by name."""
    return _find().broken


def forget_use_cases() -> None:
    """Find the use cases again when they are asked for next."""
    _find.cache_clear()


def get_use_case(name: str) -> "UseCase":
    """The use case of that name.

    Raises
    ------
    InvalidUseCaseError
        When its file cannot be used.
    UnknownUseCaseError
        With the names of all use cases.
    """
    found = _find()
    if name in found.broken:
        raise InvalidUseCaseError(found.broken[name])
    if name not in found.good:
        raise UnknownUseCaseError(list(found.good))
    return found.good[name]


@cache
def _find() -> _Found:
    good: dict[str, UseCase] = {}
    broken: dict[str, str] = {}
    for name, files in sorted(_files().items()):
        try:
            declared = [use_case for file in files if (use_case := read_file(file))]
            if len(declared) > 1:
                names = " and ".join(file.name for file in files)
                raise InvalidUseCaseError(f"{names} declare the same use case: remove or rename one of them.")
        except InvalidUseCaseError as error:
            broken[name] = str(error)
        else:
            if declared:
                good[name] = declared[0]
    return _Found(MappingProxyType(good), MappingProxyType(broken))


def _files() -> dict[str, list[Path]]:
    """The files that may declare a use case, by its name: those of users, or else those that ship."""
    shipped: dict[str, list[Path]] = {}
    users: dict[str, list[Path]] = {}
    for folder in dict.fromkeys(Path(folder).resolve() for folder in use_cases.__path__):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in files:
            if file.suffix in ENDINGS and file.name[0] not in "._":
                (shipped if folder == SHIPPED else users).setdefault(file.stem, []).append(file)
    return {**shipped, **users}


def read_file(file: Path) -> "UseCase | None":
    """The use case that a file declares; None for a Python file without one.

    Raises
    ------
    InvalidUseCaseError
        With file, line and what would be right.
    """
    if file.suffix != ".py":
        from tabserve.declaration.toml import read_declaration

        return read_declaration(file)
    use_case = getattr(_imported(file), "USE_CASE", None)
    if use_case is None:
        return None
    if use_case.name != file.stem:  # of two with the same name, one would hide the other
        raise InvalidUseCaseError(f"{file.name} declares the use case '{use_case.name}': give both the same name.")
    folder = use_case.folder if file.parent == SHIPPED else file.parent
    found: UseCase = replace(use_case, file=file, folder=folder)
    return found


def _imported(file: Path) -> object:
    try:
        return importlib.import_module(f"{use_cases.__name__}.{file.stem}")
    except InvalidUseCaseError as error:
        raise InvalidUseCaseError(f"{_where(file, error)}: {error}") from error
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InvalidUseCaseError(f"{_where(file, error)} cannot be imported: {reason}") from error


def _where(file: Path, error: BaseException) -> str:
    """The file, and the line of it where an error came about."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{file.name}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file.name}, line {lines[-1]}" if lines else file.name
