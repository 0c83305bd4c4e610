"""CSV files, read line by line: never more than one row is in memory."""

import csv
import io
from collections.abc import Generator
from typing import BinaryIO

from tabserve.errors import FileLimitError, UnsupportedFileError
from tabserve.tables.limits import NOT_A_TABLE, Deadline, Row

NOT_UTF8 = f'{NOT_A_TABLE} Save a table as "CSV UTF-8" or as XLSX.'
MAX_COLUMNS = 16_384  # as many as Excel writes
MAX_ROW_TEXT = 1_000_000  # characters
MAX_BLANK_ROWS = 1_048_576


def csv_rows(stream: BinaryIO, deadline: Deadline) -> Generator[Row]:
    """The rows of a CSV file that are not blank.

    Parameters
    ----------
    stream : binary file
    deadline : Deadline

    Yields
    ------
    Row
        With all cells, as texts.

    Raises
    ------
    UnsupportedFileError
        When the file is not UTF-8 or is malformed.
    FileLimitError
        When it exceeds a limit.
    """
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    try:
        lines = _Lines(text)
        number = blank = 0
        for number, cells in enumerate(csv.reader(lines, strict=True), 1):
            deadline.check()
            lines.begin_row()
            if any(cells):
                yield number, cells, len(cells)
            elif (blank := blank + 1) > MAX_BLANK_ROWS:
                raise FileLimitError(f"The CSV file has more than {MAX_BLANK_ROWS:,} blank lines: remove them.")
    except UnicodeDecodeError:
        raise UnsupportedFileError(NOT_UTF8) from None
    except csv.Error as error:
        if "field limit" in str(error):
            limit = csv.field_size_limit()
            raise FileLimitError(f"A cell of the CSV file has more than {limit:,} characters.") from None
        problem = "a quote is not closed or stands alone, or values are not separated by commas"
        raise UnsupportedFileError(f"The file is not well-formed CSV: in row {number + 1} {problem}.") from None
    finally:
        text.detach()  # its owner closes the stream


class _Lines:
    """The lines of a text, with a limit on each row; a row may have several lines."""

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text
        self.begin_row()

    def begin_row(self) -> None:
        """Start counting for the next row."""
        self._characters = self._cells = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_ROW_TEXT + 1)
        if not line:
            raise StopIteration
        if "\0" in line:
            raise UnsupportedFileError(NOT_UTF8)
        self._characters += len(line)
        self._cells += line.count(",")
        if self._characters > MAX_ROW_TEXT:
            raise FileLimitError(f"A row of the CSV file has more than {MAX_ROW_TEXT:,} characters.")
        if self._cells >= MAX_COLUMNS:
            raise FileLimitError(f"A row of the CSV file has more than {MAX_COLUMNS:,} cells.")
        return line
