"""The dialect of a text file, recognised by the columns that it must have.

Nothing is guessed from statistics: a separator is the one that makes the header hold the known columns, an encoding the
one in which the bytes are text, and a decimal sign the one without which some number could not be read. What remains
open is refused, with the way out.
"""

import codecs
import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tabserve.columns.features import Integer, Number
from tabserve.columns.numerals import GROUPING_MARKS
from tabserve.errors import Fault, InvalidTableError, UnsupportedFileError
from tabserve.tables.header import Header, find_header, spelling
from tabserve.tables.limits import Row
from tabserve.tables.lines import NOT_UTF8, Lines, text_of
from tabserve.tables.plain_csv import SEPARATORS
from tabserve.tables.source import HEADER_ROWS

NOT_SURE = "cp1252"  # what a file that is not UTF-8 is taken for, though it could be in other encodings
DECIMALS = {".": "points", ",": "commas"}
_BLOCK = 1 << 16  # bytes
_LOOKED_AT = 1 << 18  # characters, in which header and separator are looked for
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_SEP = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
_LONGEST_NUMERAL = 64  # characters
_NUMERAL = re.compile(r"[0-9.,]*[0-9][0-9.,]*")
_GROUPED = re.compile(rf"(?<=[0-9])[{GROUPING_MARKS}](?=[0-9]{{3}}(?![0-9]))")  # between groups of three digits
_ONE_GROUP = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_GROUPS = {
    ".": re.compile(r"[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?"),
    ",": re.compile(r"[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?"),
}


_JSON_LIST = (
    "The file holds a JSON list: write JSON lines, one object on each line, without brackets and commas between."
)


@dataclass(frozen=True)
class Dialect:
    """How a text file is written.

    Parameters
    ----------
    encoding : str
        One of Python's; "utf-8-sig" and "utf-16" begin with a byte-order mark.
    separator : str
        What separates cells; empty in JSON lines.
    first_line : str
        A line such as ``sep=;`` above everything else, or nothing.
    skipped : int
        How many lines end with it.
    """

    encoding: str
    separator: str
    first_line: str = ""
    skipped: int = 0

    @property
    def read_as(self) -> dict[str, str]:
        """The dialect in the words of an answer."""
        if not self.separator:
            return {"format": "jsonl", "encoding": self.encoding}
        first_line = {"first_line": self.first_line} if self.first_line else {}
        return {"format": "csv", "separator": self.separator, "encoding": self.encoding, **first_line}


def find_dialect(stream: BinaryIO, place: str, known: Sequence[str], declared: Mapping[str, str]) -> Dialect:
    """Encoding and separator of a text file.

    Parameters
    ----------
    stream : binary file
        It must be able to seek.
    place : str
        What errors call the file.
    known : sequence of str
        The names of all columns that it may have.
    declared : mapping
        What is declared about the file: `separator` and `encoding` count here.

    Returns
    -------
    Dialect

    Raises
    ------
    InvalidTableError
        When several separators make the first row a header of as many known columns, or not the declared one.
    UnsupportedFileError
        When the file is no text, or not in the declared encoding.
    """
    encoding = find_encoding(stream, known, declared.get("encoding"))
    with text_of(stream, encoding) as text:
        lines = _first_lines(text)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        return Dialect(encoding, "")
    if first.lstrip("\ufeff \t\r\n").startswith(("[{", "[\n", "[\r")):
        raise UnsupportedFileError(_JSON_LIST)
    said = _SEP.fullmatch(first)
    if said is None:
        return Dialect(encoding, find_separator(place, lines, known, declared.get("separator")))
    skipped = lines.index(first) + 1
    separator = find_separator(place, lines[skipped:], known, declared.get("separator"), said[1])
    return Dialect(encoding, separator, first.strip("\r\n"), skipped)


def find_encoding(stream: BinaryIO, known: Iterable[str], declared: str | None = None) -> str:
    """The encoding of a file: by its byte-order mark, as declared, or the one in which all of it is text.

    Raises
    ------
    UnsupportedFileError
        When there is none.
    """
    stream.seek(0)
    beginning = stream.read(4096)
    marked = next((encoding for mark, encoding in _MARKS.items() if beginning.startswith(mark)), None)
    if beginning.startswith(codecs.BOM_UTF32_LE):
        raise UnsupportedFileError(NOT_UTF8)
    if declared:
        return _declared_encoding(declared, marked)
    if marked:
        return marked
    if b"\0" in beginning:
        return _without_mark(beginning, known)
    return "utf-8" if _is_utf8(stream) else NOT_SURE


def _declared_encoding(declared: str, marked: str | None) -> str:
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        raise UnsupportedFileError(f"The declared encoding {declared!r:.40} is not known.") from None
    if marked and not marked.startswith(name.removesuffix("-le").removesuffix("-be")):
        raise UnsupportedFileError(f"The file is {marked.upper()}, but declared as {name}: change one of them.")
    return marked or name


def _without_mark(beginning: bytes, known: Iterable[str]) -> str:
    """UTF-16 whose mark was lost, if a known column stands in the beginning."""
    for encoding in ("utf-16-le", "utf-16-be"):
        text = spelling(beginning.decode(encoding, "ignore"))
        if "\0" not in text and any(len(name) > 1 and spelling(name) in text for name in known):
            return encoding
    raise UnsupportedFileError(NOT_UTF8)


def _is_utf8(stream: BinaryIO) -> bool:
    stream.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while block := stream.read(_BLOCK):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _first_lines(text: Iterable[str]) -> list[str]:
    """The first lines, whole ones, as many as the header is looked for in."""
    lines: list[str] = []
    reader, left = Lines(text), _LOOKED_AT  # type: ignore[arg-type]
    for line in reader:
        reader.begin_row()
        lines.append(line)
        left -= len(line)
        if left < 0:
            break
    return lines


def find_separator(
    place: str, lines: Sequence[str], known: Sequence[str], declared: str | None = None, said: str | None = None
) -> str:
    """What separates the cells: the sign that makes one of the lines hold the most known columns.

    Parameters
    ----------
    place : str
        What errors call the file.
    lines : sequence of str
        The first lines.
    known : sequence of str
        The names of all columns.
    declared : str, optional
        The separator that the declaration names.
    said : str, optional
        The separator that the file itself names in its first line.

    Raises
    ------
    InvalidTableError
        When there are several, or when it is not the declared one.
    """
    found = {sign: header for sign in SEPARATORS if (header := find_header(_rows(lines, sign), known))}
    most = max((header.rank for header in found.values()), default=None)
    best = [sign for sign, header in found.items() if header.rank == most]
    for one, who in ((declared, "its dialect is declared with"), (said, "its first line says")):
        if one and best and one not in best:
            problem = (
                f"The columns are separated by {SEPARATORS[best[0]]}, but {who} {SEPARATORS.get(one, 'another sign')}"
            )
            raise InvalidTableError(place, [Fault(None, f"{problem}: change one of them.")])
    if declared or (said and (said in SEPARATORS or not best)):
        return declared or said or ","
    if not best:
        return max(SEPARATORS, key=lambda sign: sum(line.count(sign) for line in lines[:1]))
    return best[0] if len(best) == 1 else _by_width(place, lines, {sign: found[sign] for sign in best})


def _rows(lines: Iterable[str], separator: str) -> Iterator[Row]:
    """The first rows of some lines that are not blank, until one is malformed."""
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t")
    try:
        filled = ((0, cells, len(cells)) for cells in rows if any(map(str.strip, cells)))
        yield from itertools.islice(filled, HEADER_ROWS)
    except csv.Error:
        return


def _by_width(place: str, lines: Sequence[str], found: Mapping[str, Header]) -> str:
    """Of separators under which the header is the same, the one that gives the other rows its width."""
    if len({tuple(header.names) for header in found.values()}) == 1:
        fitting = [sign for sign, header in found.items() if _fits(lines, sign, header)]
        return [*fitting, ","][0]
    words = " or by ".join(SEPARATORS[sign] for sign in found)
    problem = f"The columns may be separated by {words}: declare the separator in the dialect, or save it with one"
    raise InvalidTableError(place, [Fault(None, f"{problem} that is in no name.")])


def _fits(lines: Sequence[str], separator: str, header: Header) -> bool:
    below = itertools.islice(_rows(lines, separator), header.above, None)
    return all(width <= len(header.names) for _, _, width in below)


class Decimals:
    """Finds the decimal sign by which numbers can be read.

    One number with a sign that cannot separate thousands decides ("59,56", "0.125", "1.234,5"); one that may be read
    both ways does not ("1.234").
    """

    def __init__(self) -> None:
        self._sure: Counter[str] = Counter()
        self._unsure: dict[str, str] = {}

    def see(self, feature: Number, cell: str) -> None:
        """Take a text cell of a column of numbers into account."""
        if len(cell) > _LONGEST_NUMERAL or not (numeral := _NUMERAL.search(_GROUPED.sub("", cell))):
            return
        number = numeral[0]
        signs = {sign for sign in DECIMALS if sign in number}
        if len(signs) == 2 or any(number.count(sign) > 1 for sign in signs):
            signs = {sign for sign, groups in _GROUPS.items() if groups.fullmatch(number)}
        elif _may_be_groups(number, cell[numeral.end() : numeral.end() + 1]):
            if not isinstance(feature, Integer) or number.endswith("000"):
                self._unsure.update(dict.fromkeys(signs, feature.name))
            return
        self._sure.update(sign for sign in signs if type(feature.from_cell(cell, sign)) is not str)

    def sign(self, separator: str) -> tuple[str | None, Fault | None]:
        """The sign, None when no number needs one, or the fault that several are possible.

        Parameters
        ----------
        separator : str
            What separates cells: where it is a comma, points are taken for decimal ones.
        """
        (first, count), (_, less) = [*self._sure.most_common(), ("", 0), ("", 0)][:2]
        if count > less:
            return first, None
        if count:
            return None, Fault(None, f"Some numbers have decimal points and others decimal commas{_WAY_OUT}")
        if separator == "," and [*self._unsure] == ["."]:
            return ".", None
        for sign, column in self._unsure.items():
            problem = f"In its numbers, {DECIMALS[sign]} may be decimal signs or separate thousands{_WAY_OUT}"
            return None, Fault(column, problem)
        return None, None


_WAY_OUT = ": declare `decimal` in the dialect, or write one number such that it is clear, as 1.50 or 1,50."


def _may_be_groups(number: str, following: str) -> bool:
    return following not in ("e", "E") and _ONE_GROUP.fullmatch(number) is not None
