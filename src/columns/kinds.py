"""Kinds: whether declared values have the types of their annotations, which a stray comma or quote changes."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from tabserve.errors import InvalidUseCaseError

_HALVES = re.compile("[\ud800-\udfff]")  # of characters, which no file and no answer can hold
_WORDS = {str: "a text", int: "a whole number", float: "a finite number", bool: "True or False"}


def check_kinds(declared: Any) -> None:
    """Refuse a declaration with a value that does not fit its field's annotation.

    Parameters
    ----------
    declared : dataclass
        Its annotations are classes, tuples and mappings.

    Raises
    ------
    InvalidUseCaseError
        With the first such field.
    """
    hints = get_type_hints(type(declared))
    for field in fields(declared):
        value = getattr(declared, field.name)
        if not fits(value, hints[field.name]):
            owner = getattr(declared, "name", None)
            of = f" of '{owner}'" if isinstance(owner, str) and field.name != "name" else ""
            kind = _in_words(hints[field.name])
            raise InvalidUseCaseError(
                f"{type(declared).__name__}: {field.name}{of} must be {kind}, not {value!r:.100}."
            )


def fits(value: Any, kind: Any) -> bool:
    """Whether a value fits an annotation.

    Parameters
    ----------
    value : object
    kind : type
        A float allows any number that is finite as a float; a tuple allows a list.

    Returns
    -------
    bool
    """
    of = get_args(kind)
    if isinstance(kind, UnionType):
        return any(fits(value, one) for one in of)
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple | list):
            return False
        kinds = of[:1] * len(value) if of[-1] is ... else of
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(fits(key, of[0]) and fits(item, of[1]) for key, item in value.items())
    if kind is str:
        return isinstance(value, str) and not _HALVES.search(value)
    if kind in (int, float):
        return _is_number(value) and (kind is float or isinstance(value, int))
    return kind is Any or isinstance(value, kind)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _in_words(kind: Any) -> str:
    of = get_args(kind)
    if isinstance(kind, UnionType):
        return " or ".join(_in_words(one) for one in of if one is not NoneType)
    if get_origin(kind) is tuple:
        size = "" if of[-1] is ... else f" of {len(of)}"
        return f"a tuple{size}, with a comma even after a single value, and each value {_in_words(of[0])}"
    if get_origin(kind) is Mapping:
        return "a mapping" if of[1] is Any else f"a mapping to {_in_words(of[1])}"
    return _WORDS.get(kind, f"a {kind.__name__}" if isinstance(kind, type) else "something else")
