"""Text files, read line by line or in pieces of lines: CSV with any separator, and JSON lines."""

import csv
import io
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from tabserve.errors import Fault, FileLimitError, InvalidTableError, UnsupportedFileError
from tabserve.tables.batch import Batch, batch_of, next_rows
from tabserve.tables.limits import NOT_A_TABLE, Deadline, Row
from tabserve.tables.plain_csv import MAX_COLUMNS, MAX_ROW_TEXT, SEPARATORS, plain_cells

NOT_UTF8 = f'{NOT_A_TABLE} Save a table as "CSV UTF-8" or as XLSX.'
MAX_BLANK_ROWS = 1_048_576
PIECE = 1 << 20  # bytes or characters of text that are looked at together
_PLACES = 1 << 63  # beyond it, a position in a text is more than the place of a byte


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


@contextmanager
def open_csv(
    stream: BinaryIO, deadline: Deadline, encoding: str = "utf-8-sig", separator: str = ",", skipped: int = 0
) -> Iterator["CsvText"]:
    """Start reading a CSV file.

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
    """
    with text_of(stream, encoding) as text:
        yield CsvText(text, deadline, separator, skipped)


class CsvText:
    """The rows of a CSV file that are not blank, one by one and then as batches.

    A piece of text that is plain is read by pyarrow; every other one row by row, which is slow and always right.

    Parameters
    ----------
    text : text file
    deadline, separator, skipped
        As for `open_csv`.
    """

    def __init__(self, text: io.TextIOWrapper, deadline: Deadline, separator: str, skipped: int) -> None:
        self._text = text
        self._deadline = deadline
        self._separator = separator
        self._skipped = skipped
        self._lines = Lines(text, separator)
        self._blank = 0

    def rows(self) -> Iterator[Row]:
        """The rows that were not read yet.

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
        lines, separator = self._lines, self._separator
        self._skip()
        begin = lines.begin_row()
        try:
            for cells in csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=separator != "\t"):
                self._deadline.check()
                if any(map(str.strip, cells)):
                    yield begin, cells, len(cells)
                else:
                    self._count_blank()
                begin = lines.begin_row()
        except UnicodeError:
            raise UnsupportedFileError(NOT_UTF8) from None
        except csv.Error as error:
            raise _malformed(error, begin, separator) from None

    def _skip(self) -> None:
        for _ in range(self._skipped):
            next(self._lines, None)
        self._skipped = 0

    def _count_blank(self) -> None:
        self._blank += 1
        if self._blank > MAX_BLANK_ROWS:
            raise FileLimitError(f"The file has more than {MAX_BLANK_ROWS:,} blank lines: remove them.")

    def batches(self, place: str, width: int) -> Iterator[Batch]:
        """The rows that were not read yet, as batches; see `in_batches`, which makes the same of `rows`."""
        self._skip()
        while True:
            self._deadline.check()
            begin = self._text.tell()
            cells = plain_cells(self._piece(begin), self._separator, width)
            if cells is not None:
                yield Batch(self._lines.skip(cells.num_rows), cells)
                continue
            self._text.seek(begin)
            rows = next_rows(self.rows())
            if not rows:
                return
            yield batch_of(place, rows, self.rows(), width, typed=False)

    def _piece(self, begin: int) -> bytes:
        """The next lines in UTF-8, or nothing where the text is broken.

        UTF-8 itself is not decoded for this. Where the text has a position in the file without a state of its decoder,
        that is the place of a byte.
        """
        if self._text.encoding not in ("utf-8", "utf-8-sig") or begin >= _PLACES:
            try:
                return (self._text.read(PIECE) + self._text.readline(MAX_ROW_TEXT + 1)).encode()
            except UnicodeError:
                return b""
        stream = cast(BinaryIO, self._text.buffer)
        stream.seek(begin)
        piece = stream.read(PIECE) + stream.readline(MAX_ROW_TEXT + 1)
        self._text.seek(begin + len(piece))
        return piece


def _malformed(error: csv.Error, row: int, separator: str) -> FileLimitError | UnsupportedFileError:
    if "field limit" in str(error):
        return FileLimitError(f"A cell of the CSV file has more than {csv.field_size_limit():,} characters.")
    between = SEPARATORS.get(separator, separator)
    problem = f"a quote is not closed or stands alone, or values are not separated by {between}"
    return UnsupportedFileError(f"The file is not well-formed CSV: in row {row} {problem}.")


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

    def skip(self, count: int) -> range:
        """Count lines that were read elsewhere; their numbers."""
        self._number += count
        return range(self._number - count + 1, self._number + 1)

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
