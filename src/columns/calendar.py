"""The parts of many encoded dates and times at once, as `date` and `timedelta` give them for one."""

from datetime import date

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Mask, Vector

EPOCH = date(1970, 1, 1).toordinal()
MILLISECONDS = 86_400_000  # of a day; a float64 of days holds them exactly enough in any year
_FIRST, _LAST = date.min.toordinal() - EPOCH, date.max.toordinal() - EPOCH

Whole = npt.NDArray[np.int64]


def days_of(codes: Vector) -> tuple[Whole, Mask]:
    """Days since 1970 of n encoded dates or times, and which of them are in the years 1 to 9999; NaN is 1970."""
    days = _milliseconds(codes) // MILLISECONDS
    return days, is_in_range(days)


def is_in_range(days: Whole) -> Mask:
    """Which of n days since 1970 are in the years 1 to 9999, which are those that Python knows."""
    return (days >= _FIRST) & (days <= _LAST)


def day_of(years: Whole, months: Whole, days: Whole) -> Whole:
    """Days since 1970 of n dates."""
    return _first_day((years - 1970) * 12 + months - 1, "M") + days - 1


def days_in_month(years: Whole, months: Whole) -> Whole:
    """How many days each of n months has."""
    return day_of(years, months + 1, np.ones_like(years)) - day_of(years, months, np.ones_like(years))


def minutes_of(codes: Vector) -> Whole:
    """Whole minutes since midnight of n encoded times."""
    return _milliseconds(codes) % MILLISECONDS // 60_000


def part_of_days(part: str, days: Whole) -> Whole:
    """A part of n dates.

    Parameters
    ----------
    part : str
        One of year, quarter, month, week, day, weekday and day_of_year.
    days : ndarray of int, shape (n,)
        Days since 1970.

    Returns
    -------
    ndarray of int, shape (n,)
        Weekdays from 0 for Monday on, weeks as in ISO 8601.
    """
    match part:
        case "year":
            return _years(days) + 1970
        case "quarter":
            return _months(days) % 12 // 3 + 1
        case "month":
            return _months(days) % 12 + 1
        case "week":  # that of its Thursday, which is always in the week's year
            return (part_of_days("day_of_year", days - part_of_days("weekday", days) + 3) - 1) // 7 + 1
        case "weekday":
            return (days + 3) % 7  # 1 January 1970 was a Thursday
        case "day_of_year":
            return days - _first_day(_years(days), "Y") + 1
        case _:
            return days - _first_day(_months(days), "M") + 1


def years_between(first: Whole, last: Whole) -> Whole:
    """Whole years from n dates to n others, all in days since 1970; negative ones too."""
    (first_day, last_day) = (_months(days) % 12 * 31 + part_of_days("day", days) for days in (first, last))
    return _years(last) - _years(first) - (last_day < first_day)


def _milliseconds(codes: Vector) -> Whole:
    return np.rint(np.nan_to_num(codes) * MILLISECONDS).astype(np.int64)


def _years(days: Whole) -> Whole:
    return days.astype("M8[D]").astype("M8[Y]").astype(np.int64)


def _months(days: Whole) -> Whole:
    return days.astype("M8[D]").astype("M8[M]").astype(np.int64)


def _first_day(numbers: Whole, unit: str) -> Whole:
    """The first days of years or months since 1970."""
    return numbers.astype(f"M8[{unit}]").astype("M8[D]").astype(np.int64)
