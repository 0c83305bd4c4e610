"""Dates and times. They are encoded as days since 1 January 1970, with times as parts of a day."""

import math
import re
from abc import abstractmethod
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tabserve.aliases import Mask, Vector
from tabserve.columns.arrays import with_distinct_texts
from tabserve.columns.calendar import EPOCH, MILLISECONDS
from tabserve.columns.features import Codes, Encoder, Feature, encode_optional
from tabserve.columns.moments import plain_moments
from tabserve.errors import InvalidUseCaseError

if TYPE_CHECKING:
    import pyarrow as pa

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
_DATETIME = re.compile(rf"{_DATE.pattern}[Tt ]{_TIME}", re.ASCII)
_MIDNIGHT = re.compile(rf"({_DATE.pattern})[Tt ]00:00(:00(\.0{{1,9}})?)?(Z|\+00:00)?", re.ASCII)
_OTHER_FORMAT = re.compile(r"[0-9]{1,4}[./ -][0-9A-Za-z]{1,9}[./ -][0-9]{1,4}.{0,20}", re.ASCII)
_FEWEST_DIGITS = 8  # of a plain date, which no marker with fewer can be
_ISO_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")
_SAMPLE = datetime(2013, 11, 25, 0, 0)


def date_of(code: float) -> date:
    """The date of an encoded date or time."""
    return date.fromordinal(math.floor(_milliseconds(code) / MILLISECONDS) + EPOCH)


def time_of(code: float) -> timedelta:
    """The time of an encoded time, since midnight and to the millisecond."""
    return timedelta(milliseconds=_milliseconds(code) % MILLISECONDS)


def _milliseconds(code: float) -> int:
    return round(code * MILLISECONDS)


@dataclass(frozen=True, kw_only=True)
class Moment(Feature):
    """A date, or a date with a time.

    Parameters
    ----------
    low, high : str
        The first and the last allowed value in ISO 8601; empty for none.
    format : str
        How cells of files write it, as for `datetime.strptime`: ``"%d.%m.%Y"``. ISO 8601 is always understood. Years of
        two digits (``%y``) are those from 1969 to 2068, or a century earlier where that is after `high`.

    Raises
    ------
    InvalidUseCaseError
        When a bound is not in ISO 8601, `low` is after `high`, or `format` does not hold a whole date.
    """

    _example: ClassVar[str]
    _noun: ClassVar[str]
    _is_day: ClassVar[bool] = False  # whether its values have no time

    low: str = ""
    high: str = ""
    format: str = ""

    def __post_init__(self) -> None:
        for bound in filter(None, (self.low, self.high)):
            try:
                self._days(bound)
            except (TypeError, ValueError):
                raise InvalidUseCaseError(
                    f"'{self.name}' needs bounds in ISO 8601, such as {self._example}, not {bound!r:.40}."
                ) from None
        if self._bounds[0] > self._bounds[1]:
            raise InvalidUseCaseError(f"'{self.name}' needs the earlier bound first.")
        super().__post_init__()
        if self.format and not self._is_format():
            raise InvalidUseCaseError(f"The format of '{self.name}' must hold day, month and year, as %d.%m.%Y does.")

    def _is_format(self) -> bool:
        if not re.search("%[yYcxGD]", self.format):  # Python warns of days without a year
            return False
        try:
            return datetime.strptime(_SAMPLE.strftime(self.format), self.format).date() == _SAMPLE.date()
        except ValueError:
            return False

    @property
    def allowed(self) -> str:
        first, last = self.low and f" from {self.low}", self.high and f" to {self.high}"
        return f"{self._noun}{first}{last}"

    @staticmethod
    @abstractmethod
    def _days(value: Any) -> float:
        """Days since 1970; a ValueError or TypeError for what is no text in ISO 8601."""

    @property
    def _bounds(self) -> tuple[float, float]:
        low = self._days(self.low) if self.low else -math.inf
        return low, self._days(self.high) if self.high else math.inf

    def encoder(self) -> Encoder:
        encode = partial(self._encode, *self._bounds)
        if not self.optional:
            return encode
        return partial(encode_optional, encode, math.nan if self.default is None else encode(self.default))

    @classmethod
    def _encode(cls, low: float, high: float, value: Any) -> float:
        days = cls._days(value)
        if low <= days <= high:
            return days
        raise ValueError

    def _problem(self, value: Any) -> str | None:
        try:
            days = self._days(value)
        except (TypeError, ValueError):
            return f"Must be {self.allowed}, as in {self._example}."
        low, high = self._bounds
        return None if low <= days <= high else f"Must be {self.allowed}."

    def _advice(self, value: Any) -> str:
        is_other = isinstance(value, str) and not self.format and _OTHER_FORMAT.fullmatch(value)
        return "If the file writes dates in another way, declare it, as format = '%d.%m.%Y'." if is_other else ""

    def _parse(self, text: str, decimal: str) -> Any:
        if self.format:
            try:
                return self._in_iso(self._in_its_century(datetime.strptime(text, self.format)))
            except ValueError:
                pass
        return self._from_iso(text)

    def _in_its_century(self, value: datetime) -> datetime:
        is_late = self.high and "%y" in self.format and value.date().isoformat() > self.high[:10]
        return value.replace(year=value.year - 100) if is_late else value

    def _from_cell(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return self._in_iso(value)
        return self._from_iso(value.isoformat()) if isinstance(value, date) else super()._from_cell(value)

    def encode_cells(self, array: "pa.Array", decimal: str = ".") -> Codes:
        array = with_distinct_texts(array)
        days, is_plain = self._plain_moments(array)
        low, high = self._bounds
        is_valid = (low <= days) & (days <= high)
        return self._encode_others(array, decimal, (np.where(is_valid, days, math.nan), ~is_valid), is_plain)

    def _plain_moments(self, array: "pa.Array") -> tuple[Vector, Mask]:
        """Dates and times that are the values of cells, and which cells hold one."""
        if any(sum(map(str.isdigit, marker)) >= _FEWEST_DIGITS for marker in self.markers):
            return np.zeros(len(array)), np.zeros(len(array), np.bool_)
        return plain_moments(array, (self.format,) if self.format else _ISO_FORMATS, as_days=self._is_day)

    @abstractmethod
    def _in_iso(self, value: datetime) -> str:
        """The value that a cell with this time stands for."""

    @abstractmethod
    def _from_iso(self, text: str) -> str:
        """The value that a text cell in ISO 8601 stands for."""

    def _remark(self) -> str:
        return f"{self.allowed[0].upper()}{self.allowed[1:]}." if self.low or self.high else ""


@dataclass(frozen=True, kw_only=True)
class Date(Moment):
    """A day: in JSON a text in ISO 8601, such as ``"2024-03-31"``."""

    kind = "date"
    _example = "2024-03-31"
    _noun = "a date"
    _is_day = True

    @staticmethod
    def _days(value: Any) -> float:
        if not _DATE.fullmatch(value):
            raise ValueError
        return float(date.fromisoformat(value).toordinal() - EPOCH)

    def _decode(self, code: float) -> Any:
        return date_of(code).isoformat()

    def _in_iso(self, value: datetime) -> str:
        return _MIDNIGHT.sub(r"\1", value.isoformat())

    def _from_iso(self, text: str) -> str:
        midnight = _MIDNIGHT.fullmatch(text)
        return midnight[1] if midnight else text

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date"}


@dataclass(frozen=True, kw_only=True)
class Datetime(Moment):
    """A date with a time: in JSON a text in ISO 8601, such as ``"2024-03-31T14:30:00"``.

    A time with an offset from UTC is converted to UTC, and one without is taken to be in UTC: so a column without
    offsets keeps its clock, and offsets never change the order of two times.
    """

    kind = "datetime"
    _example = "2024-03-31T14:30:00"
    _noun = "a date with a time"

    @staticmethod
    def _days(value: Any) -> float:
        if not _DATETIME.fullmatch(value):
            raise ValueError
        time = datetime.fromisoformat(value.upper())
        # not by subtraction of times in UTC, which overflows in the years 1 and 9999
        offset = time.utcoffset() or timedelta()
        since_midnight = timedelta(hours=time.hour, minutes=time.minute, seconds=time.second) - offset
        return time.toordinal() - EPOCH + (since_midnight.total_seconds() + time.microsecond / 1e6) / 86_400

    def _decode(self, code: float) -> Any:
        moment = datetime.fromordinal(date_of(code).toordinal()) + time_of(code)
        return moment.isoformat(" ", "milliseconds" if moment.microsecond else "auto").removesuffix(":00")

    def _in_iso(self, value: datetime) -> str:
        return value.isoformat()

    def _from_iso(self, text: str) -> str:
        return f"{text}T00:00:00" if _DATE.fullmatch(text) else text

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}
