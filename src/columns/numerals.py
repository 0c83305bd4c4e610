"""Numerals: the ways in which the cells of files write numbers."""

import re
from dataclasses import dataclass

LONGEST_NUMERAL = 100  # characters
_PLAIN = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_BLANKS = "\u0020\u00a0\u2009\u202f"  # blank, no-break space, thin space, narrow no-break space
_APOSTROPHES = "'\u2019"
GROUPING_MARKS = _BLANKS + _APOSTROPHES  # what may group digits in any notation, and is no decimal sign
_GROUPED = {  # by decimal sign: digits in groups of three, the sign between them the same
    ".": re.compile(
        rf"[+-]?[1-9][0-9]{{0,2}}([,{_BLANKS}{_APOSTROPHES}])[0-9]{{3}}(\1[0-9]{{3}}){{0,12}}(\.[0-9]{{0,40}})?"
    ),
    ",": re.compile(
        rf"[+-]?[1-9][0-9]{{0,2}}([.{_BLANKS}{_APOSTROPHES}])[0-9]{{3}}(\1[0-9]{{3}}){{0,12}}(,[0-9]{{0,40}})?"
    ),
}
_COMMA = re.compile(r"[+-]?[0-9]{0,40},[0-9]{1,40}", re.ASCII)
_WITH_UNIT = re.compile(
    r"[+-]?[0-9][0-9.,]{0,40}\s?[^\W\d_]{1,10}|[+-]?[€$£¥]\s?[0-9][0-9.,]{0,40}|[0-9.,]{1,40}\s?[€$£¥]"
)


@dataclass(frozen=True)
class Notation:
    """How the cells of a column write numbers.

    Parameters
    ----------
    decimal : str
        The decimal sign, a point or a comma.
    unit : str
        What may stand before or after the number; case does not matter.
    percent : bool
        Whether "5 %" is 0.05.
    thousands : bool
        Whether digits may be grouped by three. With a decimal comma they always may be.
    """

    decimal: str = "."
    unit: str = ""
    percent: bool = False
    thousands: bool = False

    def number(self, text: str) -> float | None:
        """The number that a text without blanks around it stands for; None when it is none."""
        if len(text) > LONGEST_NUMERAL:
            return None
        text = self._without_unit(text)
        if self.percent and text.endswith("%"):
            plain = self._plain(text[:-1].rstrip())
            # shifted as a text, since 0.07 is not 7 times 0.01
            return float(f"{plain}e-2") if plain and "e" not in plain.lower() else None
        plain = self._plain(text)
        if plain is None:
            return None
        return int(plain) if _WHOLE.fullmatch(plain) else float(plain)

    def _without_unit(self, text: str) -> str:
        if not self.unit:
            return text
        sign, rest = (text[0], text[1:].lstrip()) if text[:1] in ("+", "-") else ("", text)
        unit = self.unit.casefold()
        if rest.casefold().startswith(unit):
            rest = rest[len(self.unit) :].lstrip()
        elif rest.casefold().endswith(unit):
            rest = rest[: -len(self.unit)].rstrip()
        return sign + rest

    def _plain(self, text: str) -> str | None:
        """The number with a decimal point and nothing between its digits; None when it is none."""
        if (self.thousands or self.decimal == ",") and (grouped := _GROUPED[self.decimal].fullmatch(text)):
            text = text.replace(grouped[1], "")
        if self.decimal == ",":
            if "." in text:
                return None
            text = text.replace(",", ".")
        return text if _PLAIN.fullmatch(text) else None


def notation_advice(text: str, *, is_required: bool) -> str:
    """What to declare, or to write instead, for a text that is no number. It does not repeat the text."""
    text = text.strip()
    if len(text) <= LONGEST_NUMERAL:
        if text.endswith("%") and Notation(percent=True).number(text) is not None:
            return "For percentages, declare percent = true or write 0.05 for 5 %."
        if Notation(thousands=True).number(text) is not None:
            return "For digits in groups, declare thousands = true or write 1389 for 1,389."
        if _COMMA.fullmatch(text) or _GROUPED[","].fullmatch(text):
            return "For a decimal comma, declare decimal = ',' or write 59.56 for 59,56."
        if _WITH_UNIT.fullmatch(text):
            return "For a unit, declare it, as unit = 'kg', or write the number alone."
    missing = " and missing = true" if is_required else ""
    return f"If it means that the value is missing, declare that, as markers = ['?']{missing}."
