"""Plain dates and times: those in an array of raw cells that can be read all at once, without an object for each.

Plain is what Arrow keeps as a date or as a time in UTC or without an offset, and a text such as 2024-03-31 or
2024-03-31T14:30:00. Whatever else a cell may hold is left to `Feature.from_cell`.
"""

import re
from collections.abc import Mapping, Sequence
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
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_OF_FIXED_WIDTH = re.compile("(%[YmdHMS]|[^%])+", re.ASCII)
_POWERS = np.array([1000, 100, 10, 1])


def plain_moments(array: "pa.Array", formats: Sequence[str], *, as_days: bool) -> tuple[Vector, Mask]:
    """The plain dates and times of an array.

    Parameters
    ----------
    array : pyarrow.Array
        n_cells raw cells.
    formats : sequence of str
        How texts may write them, as for `datetime.strptime`; plain are those that fill a format with leading zeros.
    as_days : bool
        Whether a time of a day other than midnight is not plain.

    Returns
    -------
    days : ndarray of float64, shape (n_cells,)
        Days since 1970, times as parts of a day, as `Datetime` encodes them; anything where there is no plain moment.
    is_plain : ndarray of bool, shape (n_cells,)
        Which cells hold a plain moment; an empty one does not.
    """

    def read(flat: "pa.Array") -> tuple[Vector, Mask]:
        days, seconds, microseconds, is_plain = _parts(flat, formats)
        is_plain &= given_in(flat) & is_in_range(days)
        if as_days:
            is_plain &= (seconds == 0) & (microseconds == 0)
        return days + (seconds + microseconds / 1e6) / 86_400, is_plain

    return read_flat(array, read)


def _parts(array: "pa.Array", formats: Sequence[str]) -> tuple[Whole, Whole, Whole, Mask]:
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
    if types.is_string(kind) or types.is_large_string(kind):
        return _of_texts(array, formats)
    return none, none, none, np.zeros(len(array), np.bool_)


def _of_texts(array: "pa.Array", formats: Sequence[str]) -> tuple[Whole, Whole, Whole, Mask]:
    bounds, text = stored_texts(array)
    letters = np.frombuffer(text, np.uint8)
    days, seconds = np.zeros((2, len(array)), np.int64)
    is_plain = np.zeros(len(array), np.bool_)
    for fields, marks, width in filter(None, map(_layout, formats)):
        places = np.flatnonzero((np.diff(bounds) == width) & ~is_plain)
        of_texts = letters[bounds[places][:, None] + np.arange(width)]
        days[places], seconds[places], is_plain[places] = _of_letters(of_texts, fields, marks)
    return days, seconds, np.zeros_like(days), is_plain


def _layout(format_: str) -> tuple[dict[str, slice], dict[int, int], int] | None:
    """Where the digits of each field are in a text of a format, which letters are between them, and how many it has."""
    if not (_OF_FIXED_WIDTH.fullmatch(format_) and format_.isascii()):
        return None
    fields, marks, place = {}, {}, 0
    for field, mark in re.findall("%(.)|(.)", format_, re.DOTALL):
        if mark:
            marks[place] = ord(mark)
        else:
            fields[field] = slice(place, place + _WIDTHS[field])
        place += _WIDTHS.get(field, 1)
    return fields, marks, place


def _of_letters(
    letters: npt.NDArray[np.uint8], fields: Mapping[str, slice], marks: Mapping[int, int]
) -> tuple[Whole, Whole, Mask]:
    """Days, seconds and whether they are any, of texts as letters, shape (n_texts, width)."""
    digits = letters - np.uint8(ord("0"))  # what is below "0" wraps around
    of_fields = {field: digits[:, place] for field, place in fields.items()}
    is_plain = np.ones(len(letters), np.bool_)
    for of_field in of_fields.values():
        is_plain &= np.all(of_field <= 9, axis=1)
    for place, mark in marks.items():
        is_plain &= letters[:, place] == mark
    absent = np.zeros(len(letters), np.int64)
    numbers = {field: of_field @ _POWERS[-of_field.shape[1] :] for field, of_field in of_fields.items()}
    year, month, day, hours, minutes, seconds = (numbers.get(field, absent) for field in _WIDTHS)
    is_plain &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= days_in_month(year, month))
    is_plain &= (hours <= 23) & (minutes <= 59) & (seconds <= 59)
    return day_of(year, month, day), hours * 3600 + minutes * 60 + seconds, is_plain
