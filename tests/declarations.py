"""Comparing declarations: estimators are equal when their parameters are."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from tabserve.base import Estimator


def comparable(thing: Any) -> Any:
    """A declaration, or a part of one, as something whose equality says whether two declare the same."""
    if isinstance(thing, Estimator):
        return type(thing), comparable(thing.get_params())
    if is_dataclass(thing):
        return type(thing), {field.name: comparable(getattr(thing, field.name)) for field in fields(thing)}
    if isinstance(thing, Mapping):
        return {key: comparable(value) for key, value in thing.items()}
    if isinstance(thing, tuple):
        return tuple(map(comparable, thing))
    return thing
