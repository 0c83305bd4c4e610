"""How the numbers of a column are written: decimal sign, thousands, percent, unit."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tabserve.aliases import Vector

_KNOWN = (
    "km m cm mm mi miles ft in inch kg g mg lb lbs oz t l ml h hr hrs hours min mins s sec ms days day years "
    "yrs months weeks kWh "
    "MWh kW MW W V A hp bhp PS kmpl mpg kmph mph km/h m/s km/kg km/l cc CC GB MB TB sqft m² m³ bar hPa rpm Nm ppm "
    "EUR USD GBP CHF JPY € $ £ ¥ ₹ % ‰ ° °C °F"
)
_AFTER = "|".join(map(re.escape, sorted(_KNOWN.split(), key=len, reverse=True)))
_SPACES = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE} "
_BODY = rf"[+-]?(?:\d+(?:[.,'\N{{RIGHT SINGLE QUOTATION MARK}}{_SPACES}]\d+)*|[.,]\d+)(?:[eE][+-]?\d{{1,3}})?"
_NUMBER = re.compile(  # a unit that is not known must stand apart: 12a is a code
    rf"(?P<before>(?:EUR|USD|GBP|CHF|[$€£¥₹])\s?)?(?P<body>{_BODY})(?P<after>\s?(?:{_AFTER})|\s[^\W\d_]{{1,12}})?"
)
_POINT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COMMA = re.compile(r"[+-]?(?:\d+,?\d*|,\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_THOUSANDS = {
    ".": re.compile(rf"[+-]?\d{{1,3}}(?:[,'{_SPACES}]\d{{3}})+(?:\.\d+)?"),
    ",": re.compile(rf"[+-]?\d{{1,3}}(?:[.'{_SPACES}]\d{{3}})+(?:,\d+)?"),
}
ENOUGH = 2_000  # texts of a column that the decimal sign is told by
_EITHER = re.compile(r"[+-]?\d{1,3}[.,]\d{3}")  # 1,389: thousands to some, a fraction to others


@dataclass(frozen=True)
class Style:
    """How all numbers of a column are written.

    Parameters
    ----------
    decimal : str
        The sign before the fraction.
    thousands : bool
        Whether thousands are set apart in some of them.
    unit : str
        What stands before or after each of them, such as € or km; % counts as a unit here, and 5 % is 0.05.
    """

    decimal: str = "."
    thousands: bool = False
    unit: str = ""

    def value(self, text: str) -> float:
        """The number in a text that is written so."""
        digits = text.replace(self.unit, "").strip() if self.unit else text
        if self.thousands:
            digits = re.sub(f"[^0-9eE+{re.escape(self.decimal)}-]", "", digits)
        return float(digits.replace(self.decimal, ".")) / (100 if "%" in text else 1)


def style_of(texts: Sequence[str], decimal: str) -> Style | None:
    """How texts are written as numbers.

    Parameters
    ----------
    texts : sequence of str
        All different texts of a column, at least one.
    decimal : str
        The decimal sign of the file.

    Returns
    -------
    Style or None
        None when they are not all numbers, or are written in more ways than one.
    """
    plain = _POINT if decimal == "." else _COMMA
    if all(map(plain.fullmatch, texts)):
        return Style(decimal)
    parts = [_NUMBER.fullmatch(text) for text in texts]
    units = {(part["before"] or part["after"] or "").strip() for part in parts if part} - {""}
    if None in parts or len(units) > 1 or any(part and part["before"] and part["after"] for part in parts):
        return None
    bodies = [part["body"] for part in parts if part]
    grouped = [not plain.fullmatch(body) for body in bodies]
    if not all(
        _THOUSANDS[decimal].fullmatch(body) for body, is_grouped in zip(bodies, grouped, strict=True) if is_grouped
    ):
        return None
    return Style(decimal, any(grouped), next(iter(units), ""))


def values_of(texts: Sequence[str], style: Style) -> Vector:
    """The numbers in texts that are written so."""
    return np.array([style.value(text) for text in texts], dtype=np.float64)


def decimal_of(columns: Iterable[Sequence[str]]) -> tuple[str, bool]:
    """The decimal sign of a file's columns.

    Parameters
    ----------
    columns : iterable of sequence of str
        The different texts of each column.

    Returns
    -------
    decimal : str
        A point unless more columns can only be read with a comma.
    is_sure : bool
        False when each sign is possible and changes what the numbers are.
    """
    points = commas = either = 0
    for texts in columns:
        signed = [text for text in texts if "." in text or "," in text][:ENOUGH]
        if not signed:
            continue
        with_point, with_comma = (style_of(signed, sign) for sign in ".,")
        if with_point and with_comma:
            either += all(map(_EITHER.fullmatch, signed))
        points += bool(with_point) and not with_comma
        commas += bool(with_comma) and not with_point
    return ("," if commas > points else "."), not (either and points == commas)
