"""In which format the dates of a column are written."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

_DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%d. %B %Y", "%Y%m%d"),
)
_TIMES = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H:%M:%SZ", "%H:%M:%S.%fZ")
_BETWEEN = (" ", "T")
_YEARS = range(1800, 2201)  # others are codes or faults

Moments = npt.NDArray[np.datetime64]


def formats_of(texts: Sequence[str]) -> list[str]:
    """The formats that all texts of a column have.

    Parameters
    ----------
    texts : sequence of str
        All different texts, at least one.

    Returns
    -------
    list of str
        As for `datetime.strptime`; several when day and month cannot be told apart, none when they are not dates.
    """
    if not all(6 <= len(text) <= 35 and any(map(str.isdigit, text)) for text in texts):
        return []
    return [one for one in _candidates(texts[0]) if all(_moment(text, one) for text in texts)]


def moments_of(texts: Sequence[str], one: str) -> Moments:
    """The moments in texts that have a format."""
    return np.array([_moment(text, one) for text in texts], dtype="datetime64[s]")


def is_iso(one: str) -> bool:
    """Whether a format is ISO 8601, which needs no declaration."""
    return one.startswith("%Y-%m-%d") and "%I" not in one


def has_time(one: str) -> bool:
    """Whether a format holds a time of day."""
    return "%H" in one or "%I" in one


def _candidates(text: str) -> Iterator[str]:
    every = (*_DATES, *(f"{day}{mark}{time}" for day in _DATES for mark in _BETWEEN for time in _TIMES))
    for one in every:
        if _moment(text, one):
            yield one


def _moment(text: str, one: str) -> datetime | None:
    if one == "%Y%m%d" and len(text) != 8:
        return None
    if one.startswith("%Y-%m-%d") and ("%H" in one or one == "%Y-%m-%d"):
        return _iso(text.removesuffix("Z"), one.removesuffix("Z")) if text.endswith("Z") == one.endswith("Z") else None
    with suppress(ValueError):
        found = datetime.strptime(text, one)
        return found if found.year in _YEARS else None
    return None


def _iso(text: str, one: str) -> datetime | None:
    """As `strptime`, many times faster."""
    with suppress(ValueError):
        if one == "%Y-%m-%d":
            day = date.fromisoformat(text) if len(text) == 10 else None
            return datetime(day.year, day.month, day.day) if day and day.year in _YEARS else None
        found = datetime.fromisoformat(text)
        wanted = len("2020-01-01 ") + {"%H:%M": 5, "%H:%M:%S": 8}.get(one[9:], len(text) - 11)
        right = len(text) == wanted > 11 and text[10] == one[8] and ("." in text) == one.endswith("%f")
        return found if right and found.tzinfo is None and found.year in _YEARS else None
    return None
