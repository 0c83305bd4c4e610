"""Derived columns: computed from the features of a record."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

from tabserve.columns.features import Category, Column, Feature, Number
from tabserve.columns.kinds import fits
from tabserve.errors import InvalidUseCaseError


@dataclass(frozen=True, kw_only=True)
class DerivedColumn(Column):
    """A column that clients do not send, because it is computed from features."""

    @abstractmethod
    def check(self, features: Mapping[str, Feature]) -> None:
        """Raise `InvalidUseCaseError` unless the column can be computed from these features, given by name."""

    @abstractmethod
    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        """A picklable function from an encoded row, in the features' order, to the column's number."""

    def declaration(self) -> dict[str, Any]:
        """The column as plain data."""
        return {"kind": type(self).__name__, **asdict(self)}

    def _check_reasons(self, is_value: Callable[[Any], bool]) -> None:
        if not all(map(is_value, self.reason_for)):
            raise InvalidUseCaseError(f"'{self.name}' has a reason for what is not among its values.")


@dataclass(frozen=True, kw_only=True)
class Quotient(DerivedColumn):
    """One feature divided by another.

    Parameters
    ----------
    numerator, denominator : str
        Names of two numbers; the denominator's lower bound must be above 0.
    """

    _DEFAULT_REASON: ClassVar[str] = "{label}: {value:.6g}"

    numerator: str
    denominator: str

    @property
    def sources(self) -> tuple[str, ...]:
        return self.numerator, self.denominator

    def value_of(self, text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text

    def check(self, features: Mapping[str, Feature]) -> None:
        numerator, divisor = features.get(self.numerator), features.get(self.denominator)
        if not isinstance(numerator, Number) or not isinstance(divisor, Number) or divisor.low <= 0:
            raise InvalidUseCaseError(f"'{self.name}' must divide a number by a number that is above 0.")
        self._check_reasons(lambda value: fits(value, float))

    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        position = _positions(features)
        return partial(_divide, position[self.numerator], position[self.denominator])


@dataclass(frozen=True, kw_only=True)
class Grouping(DerivedColumn):
    """The group that a category's value belongs to; it is encoded as the group's position.

    Parameters
    ----------
    category : str
        Name of a category.
    groups : mapping of str to tuple of str
        The values of each group; each value of the category is in exactly one group.
    """

    category: str
    groups: Mapping[str, tuple[str, ...]]

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.category,)

    def _decode(self, code: float) -> Any:
        return list(self.groups)[int(code)]

    def check(self, features: Mapping[str, Feature]) -> None:
        category = features.get(self.category)
        grouped = [value for values in self.groups.values() for value in values]
        if not isinstance(category, Category) or sorted(grouped) != sorted(category.values):
            raise InvalidUseCaseError(f"'{self.name}' must have each value of a category in exactly one group.")
        self._check_reasons(self.groups.__contains__)

    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        position = _positions(features)[self.category]
        encode = features[position].encoder()
        groups = enumerate(self.groups.values())
        codes = {encode(value): float(code) for code, values in groups for value in values}
        return partial(_look_up, codes, position)


def _positions(features: Sequence[Feature]) -> dict[str, int]:
    return {feature.name: position for position, feature in enumerate(features)}


def _divide(numerator: int, denominator: int, row: Sequence[float]) -> float:
    return row[numerator] / row[denominator]


def _look_up(codes: Mapping[float, float], position: int, row: Sequence[float]) -> float:
    return codes.get(row[position], math.nan)  # a missing category has no group
