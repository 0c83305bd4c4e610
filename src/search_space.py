"""Search space: the ranges that a model's parameters are searched in."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

from tabserve.columns.kinds import fits
from tabserve.errors import InvalidUseCaseError

AT_THE_EDGE = 0.01  # of a range: what is so near to its end stands there


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

    @property
    def width(self) -> float:
        """How wide the range is, on the scale that is searched."""
        return self.bounds[1] - self.bounds[0]

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

    def position(self, value: float) -> float:
        """Where a parameter stands on the scale that is searched; one outside of the range stands at its end."""
        inside = min(max(value, self.low), self.high)
        return math.log(inside) if self.log else inside

    def widened_at(self, value: float, least: float, most: float) -> Self:
        """The range, widened where a value stands at its edge.

        Parameters
        ----------
        value : float
            The parameter.
        least, most : float
            Limits of the widening.

        Returns
        -------
        Dimension
            Twice as far on a logarithmic scale, else by half of the range; the same for a value inside.
        """
        near = AT_THE_EDGE * self.width
        low, high = self.low, self.high
        further = (low / 2, high * 2) if self.log else (low - (high - low) / 2, high + (high - low) / 2)
        if self.position(value) <= self.bounds[0] + near:
            wider = max(least, self._typed_end(further[0]))
            low = min(low, wider) if wider > 0 or not self.log else low
        if self.position(value) >= self.bounds[1] - near:
            high = max(high, min(most, self._typed_end(further[1])))
        return replace(self, low=low, high=high)

    def _typed_end(self, value: float) -> float:
        return value

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

    def _typed_end(self, value: float) -> float:
        return round(value)


class Flag(Dimension):
    """A parameter that is true or false."""

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)

    def widened_at(self, value: float, least: float, most: float) -> Self:
        return self

    def _typed(self, value: float) -> bool:
        return value >= 0.5
