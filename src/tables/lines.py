"""Text files, read line by line: never more than one row is in memory. CSV with any separator, and JSON lines."""

import csv
import io
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from tabserve.errors import Fault, FileLimitError, InvalidTableError, UnsupportedFileError
from tabserve.tables.limits import NOT_A_TABLE, Deadline, Row

NOT_UTF8 = f'{NOT_A_TABLE} Save a table as "CSV UTF-8" or as XLSX.'
MAX_COLUMNS = 16_384  # as many as Excel writes
MAX_ROW_TEXT = 1_000_000  # characters
MAX_BLANK_ROWS = 1_048_576
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@contextmanager
def text_of(stream: BinaryIO, encoding: str) -> Iterator[io.TextIOWrapper]:
    """The text of a file from its beginning; the stream stays open, and stays its owner's.

    Raises
    ------
    UnsupportedFileError
        When the bytes are no such text.
    """
    stream.seek(0)
    text = io.TextIOWrapper(stream, encoding, newline="")
    try:
        yield text
    except UnicodeError:
        raise UnsupportedFileError(NOT_UTF8) from None
    finally:
        text.detach()


def csv_rows(
    stream: BinaryIO, deadline: Deadline, encoding: str = "utf-8-sig", separator: str = ",", skipped: int = 0
) -> Generator[Row]:
    """The rows of a CSV file that are not blank.

    Parameters
    ----------
    stream : binary file
    deadline : Deadline
    encoding : str
        One of Python's.
    separator : str
        One character.
    skipped : int
        How many lines at the beginning are no rows.

    Yields
    ------
    Row
        With all cells, as texts. Its number is that of the line on which it begins.

    Raises
    ------
    UnsupportedFileError
        When the file has another encoding or is malformed.
    FileLimitError
        When it exceeds a limit.
    """
    with text_of(stream, encoding) as text:
        lines = Lines(text, separator)
        for _ in range(skipped):
            next(lines, None)
        blank, begin = 0, lines.begin_row()
        try:
            for cells in csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=separator != "\t"):
                deadline.check()
                if any(map(str.strip, cells)):
                    yield begin, cells, len(cells)
                elif (blank := blank + 1) > MAX_BLANK_ROWS:
                    raise FileLimitError(f"The file has more than {MAX_BLANK_ROWS:,} blank lines: remove them.")
                begin = lines.begin_row()
        except csv.Error as error:
            if "field limit" in str(error):
                limit = csv.field_size_limit()
                raise FileLimitError(f"A cell of the CSV file has more than {limit:,} characters.") from None
            between = SEPARATORS.get(separator, separator)
            problem = f"a quote is not closed or stands alone, or values are not separated by {between}"
            raise UnsupportedFileError(f"The file is not well-formed CSV: in row {begin} {problem}.") from None


class Lines:
    """The lines of a text, with a limit on each row; a row may have several lines.

    Parameters
    ----------
    text : text file
    separator : str
        What separates cells; without one, cells are not counted.
    """

    def __init__(self, text: io.TextIOBase, separator: str = "") -> None:
        self._text = text
        self._separator = separator
        self._number = 0
        self.begin_row()

    def begin_row(self) -> int:
        """Start counting for the next row; the line on which it begins."""
        self._characters = self._cells = 0
        return self._number + 1

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_ROW_TEXT + 1)
        if not line:
            raise StopIteration
        if "\0" in line:
            raise UnsupportedFileError(NOT_UTF8)
        self._number += 1
        self._characters += len(line)
        if self._characters > MAX_ROW_TEXT:
            raise FileLimitError(f"A row of the file has more than {MAX_ROW_TEXT:,} characters.")
        if self._separator:
            self._cells += line.count(self._separator)
            if self._cells >= MAX_COLUMNS:
                raise FileLimitError(f"A row of the file has more than {MAX_COLUMNS:,} cells.")
        return line


def json_rows(stream: BinaryIO, place: str, deadline: Deadline, encoding: str) -> Generator[Row]:
    """The rows of a file with one JSON object on each line: first the keys of all objects, then the values of each.

    Parameters
    ----------
    stream : binary file
        It is read twice, so that never more than one line is in memory.
    place : str
        What errors call the file.
    deadline : Deadline
    encoding : str
        One of Python's.

    Yields
    ------
    Row
        Its number is that of the line.

    Raises
    ------
    InvalidTableError
        When a line is no object, or one of lists and objects.
    FileLimitError
        When the file exceeds a limit.
    """
    keys: dict[str, int] = {}
    for _, record in _objects(stream, place, deadline, encoding):
        for key in record:
            keys.setdefault(key, len(keys))
        if len(keys) > MAX_COLUMNS:
            raise FileLimitError(f"The file has more than {MAX_COLUMNS:,} keys.")
    yield 1, list(keys), len(keys)
    for number, record in _objects(stream, place, deadline, encoding):
        yield number, [record.get(key) for key in keys], len(keys)


def _objects(stream: BinaryIO, place: str, deadline: Deadline, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with text_of(stream, encoding) as text:
        lines, blank = Lines(text), 0
        for number, line in enumerate(lines, 1):
            deadline.check()
            lines.begin_row()
            if line.strip():
                yield number, _object(place, number, line)
            elif (blank := blank + 1) > MAX_BLANK_ROWS:
                raise FileLimitError(f"The file has more than {MAX_BLANK_ROWS:,} blank lines: remove them.")


def _object(place: str, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        record = None
    if type(record) is not dict:
        raise InvalidTableError(place, [Fault(None, "Must be one JSON object, without repeated keys.", number)])
    if any(type(value) in (dict, list) for value in record.values()):
        raise InvalidTableError(place, [Fault(None, "Values must be texts, numbers, true, false or null.", number)])
    return record


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError
    return record
