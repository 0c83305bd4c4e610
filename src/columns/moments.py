"""Plain dates and times: those in an array of raw cells that can be read all at once, without an object for each.

Plain is what Arrow keeps as a date or as a time in UTC or without an offset, and a text such as 2024-03-31 or
2024-03-31T14:30:00. Whatever else a cell may hold is left to `Feature.from_cell`.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Mask, Vector
from tabserve.columns.arrays import given_in, read_flat, stored
from tabserve.columns.calendar import Whole, day_of, days_in_month, is_in_range
from tabserve.columns.plain import stored_texts

if TYPE_CHECKING:
    import pyarrow as pa

_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MICROSECONDS = 10**6
_LENGTHS = (10, 19)  # of a date, and of one with a time
_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_MARKS = {4: b"-", 7: b"-", 10: b"T ", 13: b":", 16: b":"}
_ENDS = [4, 6, 8, 10, 12]  # of year, month, day, hours and minutes among the digits
_POWERS = np.array([1000, 100, 10, 1])


def plain_moments(array: "pa.Array", *, as_days: bool, with_texts: bool) -> tuple[Vector, Mask]:
    """The plain dates and times of an array.

    Parameters
    ----------
    array : pyarrow.Array
        n_cells raw cells.
    as_days : bool
        Whether a time of a day other than midnight is not plain.
    with_texts : bool
        Whether texts may be read here.

    Returns
    -------
    days : ndarray of float64, shape (n_cells,)
        Days since 1970, times as parts of a day, as `Datetime` encodes them; anything where there is no plain moment.
    is_plain : ndarray of bool, shape (n_cells,)
        Which cells hold a plain moment; an empty one does not.
    """

    def read(flat: "pa.Array") -> tuple[Vector, Mask]:
        days, seconds, microseconds, is_plain = _parts(flat, with_texts=with_texts)
        is_plain &= given_in(flat) & is_in_range(days)
        if as_days:
            is_plain &= (seconds == 0) & (microseconds == 0)
        return days + (seconds + microseconds / 1e6) / 86_400, is_plain

    return read_flat(array, read)


def _parts(array: "pa.Array", *, with_texts: bool) -> tuple[Whole, Whole, Whole, Mask]:
    """Days since 1970, seconds since midnight, microseconds of the second; and where there are any."""
    import pyarrow as pa

    kind, types = array.type, pa.types
    none = np.zeros(len(array), np.int64)
    if types.is_date32(kind):
        return stored(array.view(pa.int32())).astype(np.int64), none, none, np.ones(len(array), np.bool_)
    if types.is_timestamp(kind) and kind.tz in (None, "UTC"):
        a_second = _A_SECOND[kind.unit]
        seconds, rest = np.divmod(stored(array.view(pa.int64())), a_second)
        return *np.divmod(seconds, 86_400), rest * _MICROSECONDS // a_second, np.ones(len(array), np.bool_)
    if with_texts and (types.is_string(kind) or types.is_large_string(kind)):
        return _of_texts(array)
    return none, none, none, np.zeros(len(array), np.bool_)


def _of_texts(array: "pa.Array") -> tuple[Whole, Whole, Whole, Mask]:
    bounds, text = stored_texts(array)
    lengths = np.diff(bounds)
    days, seconds = np.zeros((2, len(array)), np.int64)
    is_plain = np.zeros(len(array), np.bool_)
    for length in _LENGTHS:
        places = np.flatnonzero(lengths == length)
        letters = np.frombuffer(text, np.uint8)[bounds[places][:, None] + np.arange(length)]
        days[places], seconds[places], is_plain[places] = _of_letters(letters)
    return days, seconds, np.zeros_like(days), is_plain


def _of_letters(letters: npt.NDArray[np.uint8]) -> tuple[Whole, Whole, Mask]:
    """Days, seconds and whether they are any, of texts as letters, shape (n_texts, 10) or (n_texts, 19)."""
    digits = letters[:, [place for place in _DIGITS if place < letters.shape[1]]] - np.uint8(ord("0"))
    parts = [part @ _POWERS[-part.shape[1] :] for part in np.split(digits, _ENDS, axis=1) if part.shape[1]]
    year, month, day, *time = parts
    is_plain: Mask = np.all(digits <= 9, axis=1)  # what is below "0" wraps around
    for place, marks in _MARKS.items():
        if place < letters.shape[1]:
            is_plain &= np.isin(letters[:, place], np.frombuffer(marks, np.uint8))
    is_plain &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= days_in_month(year, month))
    hours, minutes, seconds = time or np.zeros((3, len(letters)), np.int64)
    is_plain &= (hours <= 23) & (minutes <= 59) & (seconds <= 59)
    return day_of(year, month, day), hours * 3600 + minutes * 60 + seconds, is_plain
