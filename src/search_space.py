"""Search space: the ranges that a model's parameters are searched in."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tabserve.columns.kinds import fits
from tabserve.errors import InvalidUseCaseError


@dataclass(frozen=True)
class Dimension(ABC):
    """The range of one parameter.

    Parameters
    ----------
    low, high : float
        The smallest and the largest value.
    log : bool
        Whether to search on a logarithmic scale.

    Raises
    ------
    InvalidUseCaseError
        When a bound is not finite, `low` is above `high`, or `low` is not above 0 on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        is_range = fits([self.low, self.high], tuple[float, ...]) and self.low <= self.high
        if not is_range or (self.log and self.low <= 0):
            raise InvalidUseCaseError(
                f"{self} needs two finite bounds, the smaller one first, and above 0 on a logarithmic scale."
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """The range, on the scale that is searched."""
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)

    def value(self, position: float) -> Any:
        """The parameter at a position.

        Parameters
        ----------
        position : float
            On the scale that is searched, within `bounds`.

        Returns
        -------
        float, int or bool
            Depending on the kind of dimension.
        """
        return self._typed(math.exp(position) if self.log else position)

    @abstractmethod
    def _typed(self, value: float) -> Any: ...


class Real(Dimension):
    """A parameter that is a real number."""

    def _typed(self, value: float) -> float:
        return min(max(value, self.low), self.high)  # exp(log(x)) may differ from x by rounding


class Whole(Dimension):
    """A parameter that is a whole number."""

    def _typed(self, value: float) -> int:
        return round(value)


class Flag(Dimension):
    """A parameter that is true or false."""

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)

    def _typed(self, value: float) -> bool:
        return value >= 0.5
