"""The child process that reads an XLSX file: the file on standard input, its rows as lines of JSON on standard output.

`tabserve.tables.xlsx` runs this script for every file, so it must start fast: it imports nothing else of this project,
and openpyxl only for workbooks with dates. Two things bound what a hostile file can consume: the limits below, and the
kernel's limits for everything that they do not foresee.

The first line names the sheets that hold data. If there is only one, a line for each of its rows follows: the row's
number, its cells up to the width of the first row, and the position of its last filled cell. Dates are texts. The last
line is `{"end": true}` or `{"limit": "..."}`; a file that is not a workbook ends in an exception.
"""

import ctypes
import functools
import json
import os
import posixpath
import re
import resource
import signal
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError, iterparse
from xml.parsers import expat

OUT_OF_MEMORY = 3  # the exit status
MAX_PARTS = 10_000  # files in the archive
MAX_SHEETS = 1_000
MAX_ELEMENTS = 300_000  # in the workbook or its styles; Excel allows 65,490 styles, each with a few elements
MAX_ROWS = 1_048_576  # as many as Excel writes; empty ones count
MAX_COLUMNS = 16_384  # as many as Excel writes
MAX_CELL_TEXT = 32_767  # characters; as many as Excel writes
MAX_ROW_BYTES = 2_000_000  # of XML; until a row ends, its elements stay in memory and are searched repeatedly
MAX_STRINGS = MAX_ROWS  # distinct texts: the bank's export has one in each row
MAX_FORMATS = 10_000  # of numbers
MAX_FORMAT = 255  # characters; as many as Excel writes
NO_VALUE = "#FORMULA!"  # for a formula without a value in the file: no column accepts it, not even as missing
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_EXPAT_LIMITS = (1, 43)  # XML_ERROR_NO_MEMORY, XML_ERROR_AMPLIFICATION_LIMIT_BREACH

_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_ESCAPE = re.compile(r"_x((?![dD][89a-fA-F])[0-9a-fA-F]{4})_")  # surrogates stay as they are
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class LimitError(Exception):
    """The file exceeds a limit; the message ends the sentence "The XLSX file ..."."""


def main() -> None:
    """Read standard input within the limits in the arguments."""
    memory, seconds, unpacked, parent = map(int, sys.argv[1:])
    _confine(memory, seconds, parent)
    try:
        for line in _lines(unpacked):
            sys.stdout.buffer.write(_encode(line).encode("utf-8", "surrogatepass") + b"\n")
        sys.stdout.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except ParseError as error:
        if error.code in _EXPAT_LIMITS:
            os._exit(OUT_OF_MEMORY)
        raise


def _confine(memory: int, seconds: int, parent: int) -> None:
    """End with the parent, before it when memory is short, and at these limits; seconds are CPU time."""
    with suppress(OSError, AttributeError):  # without Linux, the limits below still hold
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text("1000")
    if os.getppid() != parent:
        os._exit(1)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)
    if seconds:
        _limit(resource.RLIMIT_CPU, seconds)


def _limit(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:  # a lower limit cannot be raised, and is good enough
        with suppress(ValueError):  # macOS has no memory limit
            resource.setrlimit(kind, (limit, limit))


def _lines(unpacked: int) -> Iterator[dict[str, Any] | list[Any]]:
    try:
        with zipfile.ZipFile(sys.stdin.buffer) as archive:
            yield from _Workbook(archive, unpacked).lines()
        yield {"end": True}
    except LimitError as limit:
        yield {"limit": str(limit)}


class _Workbook:
    """The content of a workbook: its sheets, its texts, and which styles are dates."""

    def __init__(self, archive: zipfile.ZipFile, unpacked: int) -> None:
        entries = archive.infolist()
        _at_most(len(entries), MAX_PARTS, "parts")
        if sum(entry.file_size for entry in entries) > unpacked:
            raise LimitError(f"unpacks to more than {unpacked // 10**6:,} MB")
        self._archive, self._unpacked = archive, unpacked
        self._characters = 0
        self._parts = {entry.filename.lower(): entry for entry in entries}  # Excel ignores case, too
        path = dict(self._relations("").values()).get("officeDocument", "xl/workbook.xml")
        book = self._tree(path)
        relations = self._relations(path)
        sheets = [
            (element.get("name", ""), *relations[_attribute(element, "id")])
            for element in book.iter()
            if _name(element) == "sheet"
        ]
        _at_most(len(sheets), MAX_SHEETS, "sheets")
        self.sheets = [(title, path) for title, kind, path in sheets if kind == "worksheet"]  # the others are charts
        if len({path for _, path in self.sheets}) < len(self.sheets):
            raise LimitError("names a sheet more than once")
        paths = dict(relations.values())
        self._strings = list(self._texts(paths["sharedStrings"])) if "sharedStrings" in paths else []
        self._dates = _date_styles(self._tree(paths["styles"])) if "styles" in paths else {}
        self._from_1904 = any(element.get("date1904") in ("1", "true") for element in book)

    def lines(self) -> Iterator[dict[str, Any] | list[Any]]:
        filled = [(title, path) for title, path in self.sheets if next(self._rows(path), None)]
        yield {"sheets": [title[:64] for title, _ in filled]}
        if len(filled) != 1:
            return
        width = 0
        for number, cells in self._rows(filled[0][1]):
            last = max(cells)
            width = width or last
            yield [number, [cells.get(column) for column in range(1, min(last, width) + 1)], last]

    def _rows(self, path: str) -> Iterator[tuple[int, dict[int, Any]]]:
        """The rows that are not blank: row numbers, and filled cells by column, both counted from 1."""
        number = 0
        for count, row in enumerate(self._elements(path, "row", within="sheetData"), 1):
            _at_most(count, MAX_ROWS, "rows in a sheet")
            before, number = number, int(_number(row.get("r", str(number + 1))))
            if not before < number <= MAX_ROWS:
                raise ValueError("The row is not below the one before it, or in no spreadsheet.")
            if cells := self._cells(row, str(number)):
                yield number, cells

    def _cells(self, row: Element, number: str) -> dict[int, Any]:
        cells: dict[int, Any] = {}
        column = characters = 0
        for cell in row:
            reference = cell.get("r")
            before, column = column, _column(reference.removesuffix(number)) if reference else column + 1
            if column <= before:
                raise ValueError("The cell is not to the right of the one before it.")
            _at_most(column, MAX_COLUMNS, "columns")
            value = self._value(cell) if len(cell) else None
            if value is None or value == "":
                continue
            if type(value) is str:
                _at_most(len(value), MAX_CELL_TEXT, "characters in a cell")
                characters += len(value)
                _at_most(characters, MAX_ROW_BYTES, "characters in a row")
            cells[column] = value
        self._characters += characters
        _at_most(self._characters, self._unpacked, "characters in its cells")
        return cells

    def _value(self, cell: Element) -> Any:
        kind = cell.get("t", "n")
        text, is_formula = None, False
        for child in cell:
            name = child.tag[-3:]
            if name[1:] == "}v":
                text = child.text or ""
            elif name[1:] == "}f":
                is_formula = True
            elif name == "}is" and kind == "inlineStr":
                return _text(child)
        if not text:  # only texts may be empty
            return NO_VALUE if is_formula and not (kind == "str" and text == "") else None
        if kind == "n":
            return self._number(text, cell.get("s", "0"))
        if kind == "s":
            return self._strings[_index(text)]
        if kind == "b":
            return _BOOLEANS.get(text.strip(), text)
        return _unescaped(text) if kind == "str" else text

    def _number(self, text: str, style: str) -> Any:
        """The number or date in a text, or the text itself; a problem with it is found later, as in other cells."""
        try:
            number = _number(text)
        except ValueError:
            return text
        is_span = self._dates.get(style)
        return number if is_span is None else _date(number, from_1904=self._from_1904, is_span=is_span)

    def _texts(self, path: str) -> Iterator[str]:
        for count, element in enumerate(self._elements(path, "si"), 1):
            _at_most(count, MAX_STRINGS, "texts")
            yield _text(element)

    def _relations(self, part: str) -> dict[str | None, tuple[str, str]]:
        """The kind and path of each part that a part refers to, by id; the part "" is the archive."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path.lower() not in self._parts:
            return {}
        return {
            element.get("Id"): (
                posixpath.basename(element.get("Type", "")),
                posixpath.normpath(posixpath.join("/", folder, element.get("Target", "")))[1:].lower(),
            )
            for element in self._tree(path)
        }

    def _open(self, path: str) -> IO[bytes]:
        return self._archive.open(self._parts[path.lower()])

    def _tree(self, path: str) -> Element:
        with self._open(path) as part:
            source = _Source(part)
            events = iterparse(source, ("start",))  # noqa: S314 - the kernel limits everything else
            for count, _ in enumerate(events, 1):
                source.unused = 0
                _at_most(count, MAX_ELEMENTS, "XML elements in its workbook or styles")
            root: Element = events.root  # type: ignore[attr-defined]  # documented, but missing from the types
            return root

    def _elements(self, path: str, name: str, within: str = "") -> Iterator[Element]:
        """The elements of that name, each cleared after use; parsing stops at the end of `within`."""
        ending, last = "}" + name, "}" + within
        with self._open(path) as part:
            source = _Source(part)
            for _, element in iterparse(source):  # noqa: S314 - as above
                if element.tag.endswith(ending):
                    yield element
                    element.clear()
                    source.unused = 0
                elif element.tag.endswith(last):
                    break
            _drain(part)


class _Source:
    """A part that is being parsed. It must not have a DOCTYPE, because a short one can expand enormously."""

    def __init__(self, part: IO[bytes]) -> None:
        self._part = part
        self._prolog: expat.XMLParserType | None = expat.ParserCreate()  # for the part before the first element
        self._prolog.StartDoctypeDeclHandler = _refuse_doctype
        self._prolog.StartElementHandler = self._end_prolog
        self.unused = 0  # bytes read since an element was used

    def read(self, size: int = 1 << 16) -> bytes:
        self.unused += size
        _at_most(self.unused, MAX_ROW_BYTES, "bytes in a row")
        content = self._part.read(size)
        if self._prolog:
            self._prolog.Parse(content, not content)  # a long comment may be held back until the end
        return content

    def _end_prolog(self, *_: object) -> None:
        if self._prolog:
            self._prolog.StartElementHandler = None
            self._prolog = None


def _refuse_doctype(*_: object) -> None:
    raise LimitError("has a DOCTYPE")


def _drain(part: IO[bytes]) -> None:
    """Read to the end, where zipfile compares the checksum."""
    while part.read(1 << 16):
        pass


def _at_most(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise LimitError(f"has more than {limit:,} {what}")


def _name(element: Element) -> str:
    """The element's name without its namespace, which may be the usual or the strict one."""
    return element.tag.rpartition("}")[2]


def _attribute(element: Element, name: str) -> str | None:
    """An attribute that has a namespace."""
    return next((value for key, value in element.attrib.items() if key.endswith("}" + name)), None)


def _text(element: Element) -> str:
    """The text of a string, whose parts may be formatted; phonetic hints are left out."""
    text = ""
    for child in element:
        if child.tag[-2:] == "}t":
            text += child.text or ""
        elif child.tag[-2:] == "}r":
            text += "".join(part.text or "" for part in child if part.tag[-2:] == "}t")
    return _unescaped(text)


def _unescaped(text: str) -> str:
    """The text with escapes such as `_x000D_` resolved: characters that XML lacks, and underscores before escapes."""
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError("No number.")
    return float(text) if "." in text or "e" in text or "E" in text else int(text)


def _index(text: str) -> int:
    if not (text.isascii() and text.strip().isdigit()):
        raise ValueError("No index.")
    return int(text)


@functools.lru_cache(maxsize=MAX_COLUMNS)
def _column(letters: str) -> int:
    """The number of a column: 1 for A, 27 for AA."""
    number = 0
    for letter in letters:
        number = 26 * number + "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(letter.upper()) + 1
        _at_most(number, MAX_COLUMNS, "columns")
    return number


def _date_styles(styles: Element) -> dict[str, bool]:
    """The styles, by the names that cells use, that turn a number into a date, and whether into a span of time."""
    formats = [element.get("numFmtId", "0") for group in styles if _name(group) == "cellXfs" for element in group]
    if not set(formats) - {"0"}:
        return {}
    numbers = _openpyxl("styles.numbers")
    codes: dict[str | None, Any] = {str(number): code for number, code in numbers.BUILTIN_FORMATS.items()}
    codes |= {
        element.get("numFmtId"): code if len(code := element.get("formatCode", "")) <= MAX_FORMAT else ""
        for element in styles.iter()
        if _name(element) == "numFmt"
    }
    _at_most(len(codes), MAX_FORMATS, "number formats")
    spans = {
        one: numbers.is_timedelta_format(codes[one]) for one in set(formats) if numbers.is_date_format(codes.get(one))
    }
    return {str(place): spans[one] for place, one in enumerate(formats) if one in spans}


def _date(number: float, *, from_1904: bool, is_span: bool) -> str:
    dates = _openpyxl("utils.datetime")
    try:
        return str(dates.from_excel(number, dates.MAC_EPOCH if from_1904 else dates.WINDOWS_EPOCH, is_span))
    except (OverflowError, ValueError):
        return "#VALUE!"


@functools.cache
def _openpyxl(module: str) -> Any:
    sys.modules.update(dict.fromkeys(["numpy", "lxml", "pandas"]))  # type: ignore[arg-type]  # or it would import them
    import importlib

    return importlib.import_module(f"openpyxl.{module}")


if __name__ == "__main__":
    main()
