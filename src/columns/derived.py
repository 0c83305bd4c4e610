"""Derived columns: computed from the features of a record."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Mask, Matrix, Vector
from tabserve.columns.calendar import days_of, minutes_of, part_of_days, years_between
from tabserve.columns.dates import Datetime, Moment, date_of, time_of
from tabserve.columns.features import Category, Codes, Column, Feature, Number
from tabserve.columns.kinds import fits
from tabserve.errors import InvalidUseCaseError

_PARTS_OF_DATES = ("year", "quarter", "month", "week", "day", "weekday", "day_of_year")
_PARTS_OF_TIMES = ("hour", "minute")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True, kw_only=True)
class DerivedColumn(Column):
    """A column that clients do not send, because it is computed from features."""

    @abstractmethod
    def check(self, features: Mapping[str, Feature]) -> None:
        """Raise `InvalidUseCaseError` unless the column can be computed from these features, given by name."""

    @abstractmethod
    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        """A picklable function from an encoded row, in the features' order, to the column's number."""

    @abstractmethod
    def compute(self, matrix: Matrix, features: Sequence[Feature]) -> Codes:
        """The column's numbers for many rows: those that `computer` gives row by row.

        Parameters
        ----------
        matrix : ndarray, shape (n_rows, n_columns)
            Encoded rows, which begin with the features in their order.
        features : sequence of Feature

        Returns
        -------
        codes : ndarray of float64, shape (n_rows,)
            NaN for a row at fault.
        faulty : ndarray of bool, shape (n_rows,)
            Rows for which `computer` raises a ValueError.
        """

    def _sources(self, matrix: Matrix, features: Sequence[Feature]) -> list[Vector]:
        """The columns of a matrix that it comes from."""
        position = _positions(features)
        return [matrix[:, position[name]] for name in self.sources]

    def declaration(self) -> dict[str, Any]:
        """The column as plain data."""
        return {"kind": self.kind, **asdict(self)}

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

    kind = "quotient"

    numerator: str
    denominator: str

    @property
    def sources(self) -> tuple[str, ...]:
        return self.numerator, self.denominator

    def value_of(self, text: str) -> Any:
        return _number_of(text)

    def check(self, features: Mapping[str, Feature]) -> None:
        numerator, divisor = features.get(self.numerator), features.get(self.denominator)
        if not isinstance(numerator, Number) or not isinstance(divisor, Number) or divisor.low <= 0:
            raise InvalidUseCaseError(f"'{self.name}' must divide a number by a number that is above 0.")
        self._check_reasons(lambda value: fits(value, float))

    def _in_short(self, value: Any) -> str:
        return f"{value:.6g}"

    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        position = _positions(features)
        return partial(_divide, position[self.numerator], position[self.denominator])

    def compute(self, matrix: Matrix, features: Sequence[Feature]) -> Codes:
        numerators, denominators = self._sources(matrix, features)
        with np.errstate(all="ignore"):  # as Python divides
            return _sound(numerators / denominators)


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

    kind = "grouping"

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
        if not isinstance(category, Category) or sorted(grouped) != sorted(category.labels):
            raise InvalidUseCaseError(f"'{self.name}' must have each value of a category in exactly one group.")
        self._check_reasons(self.groups.__contains__)

    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        position = _positions(features)[self.category]
        return partial(_look_up, self._codes(features[position]), position)

    def compute(self, matrix: Matrix, features: Sequence[Feature]) -> Codes:
        (of_values,) = self._sources(matrix, features)
        codes = self._codes(features[_positions(features)[self.category]])
        groups = np.array([*(codes[code] for code in sorted(codes)), math.nan])  # by code; a missing one has none
        return _sound(groups[np.where(np.isnan(of_values), len(codes), of_values).astype(np.int64)])

    def _codes(self, category: Feature) -> dict[float, float]:
        """The group of each of the category's codes."""
        encode = category.encoder()
        groups = enumerate(self.groups.values())
        return {encode(value): float(code) for code, values in groups for value in values}


@dataclass(frozen=True, kw_only=True)
class DatePart(DerivedColumn):
    """A part of a date, such as its weekday.

    Parameters
    ----------
    date : str
        Name of a date, with or without a time.
    part : str
        One of year, quarter, month, week, day, weekday and day_of_year; of a time also hour and minute. Weekdays are
        encoded from 0 for Monday on, weeks as in ISO 8601.
    """

    kind = "date_part"

    date: str
    part: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.date,)

    @property
    def is_ordered(self) -> bool:
        return self.part == "year"  # the others begin again

    def value_of(self, text: str) -> Any:
        return _number_of(text)

    def check(self, features: Mapping[str, Feature]) -> None:
        feature = features.get(self.date)
        parts = [*_PARTS_OF_DATES, *(_PARTS_OF_TIMES if isinstance(feature, Datetime) else ())]
        if not isinstance(feature, Moment) or self.part not in parts:
            known = ", ".join([*_PARTS_OF_DATES, *_PARTS_OF_TIMES])
            raise InvalidUseCaseError(
                f"'{self.name}' must be a part of a date, or of a date with a time: one of {known}."
            )
        names = {"weekday": _WEEKDAYS, "month": _MONTHS}.get(self.part)
        self._check_reasons(names.__contains__ if names else lambda value: fits(value, float))

    def _decode(self, code: float) -> Any:
        if self.part == "weekday":
            return _WEEKDAYS[int(code)]
        return _MONTHS[int(code) - 1] if self.part == "month" else code

    def _in_short(self, value: Any) -> str:
        return value if isinstance(value, str) else f"{value:.0f}"

    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        return partial(_part, self.part, _positions(features)[self.date])

    def compute(self, matrix: Matrix, features: Sequence[Feature]) -> Codes:
        (codes,) = self._sources(matrix, features)
        if self.part in _PARTS_OF_TIMES:
            minutes = minutes_of(codes)
            numbers = minutes // 60 if self.part == "hour" else minutes % 60
            return _sound(np.where(np.isnan(codes), math.nan, numbers))
        days, are_dates = days_of(codes)
        return _where_dates(are_dates, part_of_days(self.part, days), codes)


@dataclass(frozen=True, kw_only=True)
class _Between(DerivedColumn):
    """The time between two dates.

    Parameters
    ----------
    start, end : str
        Names of two dates, with or without times; the result is negative when the end comes before the start.
    """

    start: str
    end: str

    @property
    def sources(self) -> tuple[str, ...]:
        return self.start, self.end

    def value_of(self, text: str) -> Any:
        return _number_of(text)

    def check(self, features: Mapping[str, Feature]) -> None:
        if not all(isinstance(features.get(name), Moment) for name in self.sources):
            raise InvalidUseCaseError(f"'{self.name}' must lie between two dates.")
        self._check_reasons(lambda value: fits(value, float))


@dataclass(frozen=True, kw_only=True)
class DaysBetween(_Between):
    """The days from one date to another; times count as parts of a day."""

    kind = "days_between"

    def _in_short(self, value: Any) -> str:
        return f"{value:.6g} days"

    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        position = _positions(features)
        return partial(_days_between, position[self.start], position[self.end])

    def compute(self, matrix: Matrix, features: Sequence[Feature]) -> Codes:
        start, end = self._sources(matrix, features)
        return _sound(end - start)


@dataclass(frozen=True, kw_only=True)
class YearsBetween(_Between):
    """The whole years from one date to another, such as a person's age at a date."""

    kind = "years_between"

    def _in_short(self, value: Any) -> str:
        return f"{value:.0f}"

    def computer(self, features: Sequence[Feature]) -> Callable[[Sequence[float]], float]:
        position = _positions(features)
        return partial(_years_between, position[self.start], position[self.end])

    def compute(self, matrix: Matrix, features: Sequence[Feature]) -> Codes:
        start, end = self._sources(matrix, features)
        (first, is_first), (last, is_last) = days_of(start), days_of(end)
        return _where_dates(is_first & is_last, years_between(first, last), start + end)


def _number_of(text: str) -> Any:
    """The number that a text stands for; the text itself when it is none."""
    try:
        return float(text)
    except ValueError:
        return text


def _positions(features: Sequence[Feature]) -> dict[str, int]:
    return {feature.name: position for position, feature in enumerate(features)}


def _sound(codes: Vector) -> Codes:
    """Codes of rows of which none is at fault."""
    return codes, np.zeros(len(codes), np.bool_)


def _where_dates(are_dates: Mask, numbers: npt.NDArray[np.int64], sources: Vector) -> Codes:
    """Numbers of dates: NaN where a source is missing, and at fault where one is no date that Python knows."""
    is_missing = np.isnan(sources)
    return np.where(are_dates & ~is_missing, numbers, math.nan), ~are_dates & ~is_missing


def _divide(numerator: int, denominator: int, row: Sequence[float]) -> float:
    return row[numerator] / float(row[denominator])  # whole numbers above 2**53 are rounded first, as in a matrix


def _look_up(codes: Mapping[float, float], position: int, row: Sequence[float]) -> float:
    return codes.get(row[position], math.nan)  # a missing category has no group


def _part(part: str, position: int, row: Sequence[float]) -> float:
    code = row[position]
    if math.isnan(code):
        return math.nan
    if part in _PARTS_OF_TIMES:
        minutes = time_of(code) // timedelta(minutes=1)
        return float(minutes // 60 if part == "hour" else minutes % 60)
    return float(_part_of_date(part, date_of(code)))


def _part_of_date(part: str, day: date) -> int:
    match part:
        case "quarter":
            return (day.month + 2) // 3
        case "week":
            return day.isocalendar().week
        case "weekday":
            return day.weekday()
        case "day_of_year":
            return day.timetuple().tm_yday
        case _:
            return int(getattr(day, part))  # year, month, day


def _days_between(start: int, end: int, row: Sequence[float]) -> float:
    return row[end] - row[start]


def _years_between(start: int, end: int, row: Sequence[float]) -> float:
    if math.isnan(row[start]) or math.isnan(row[end]):
        return math.nan
    first, last = date_of(row[start]), date_of(row[end])
    return float(last.year - first.year - ((last.month, last.day) < (first.month, first.day)))
