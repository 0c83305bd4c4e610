"""The writer: tables as CSV, as one text, or in pieces that are like a file that was sent and safe to open."""

import codecs
import csv
import io
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from numbers import Real
from typing import Any

import orjson

from tabserve.aliases import Places, Record
from tabserve.tables.csv_lines import LINES, joined_lines, take_texts
from tabserve.tables.kept import parts_of
from tabserve.tables.parquet_writer import feather_pieces, parquet_pieces
from tabserve.tables.workbook_writer import xlsx_pieces

WITHOUT_ACCENT = "tabserve.without_accent"  # how characters are encoded that an encoding lacks
PIECE = 64 * 1024  # characters in a piece
_NUMBER = re.compile(r"-?[0-9]{1,40}([.,][0-9]{1,40})?")  # a text that is no more than a number
BLANKS = " \u00a0\u3000"
# what may begin a formula in a spreadsheet, even after blanks; the last four are full-width characters
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_csv(columns: Sequence[str], records: Iterable[Record]) -> str:
    """Records as CSV text, with empty cells for missing values.

    Parameters
    ----------
    columns : sequence of str
        The header, in this order.
    records : iterable of mapping
        All keys must be columns.

    Returns
    -------
    str
        Lines end in a line feed.

    Raises
    ------
    ValueError
        When a record has a key that is not a column.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def written_like(read_as: Mapping[str, str], columns: Mapping[str, Iterable[Any]]) -> Iterator[bytes]:
    """Columns as a file of the kind and in the dialect of one that was read.

    Parameters
    ----------
    read_as : mapping
        How that file was read: see `Table.read_as`. Without any, this is CSV with commas in UTF-8; for a workbook of
        any kind, this is XLSX.
    columns : mapping
        The n_rows values of each column, by its name; they are read lazily.

    Yields
    ------
    bytes
    """
    kind = read_as.get("format", "csv")
    if kind == "csv":
        return csv_pieces(columns, read_as)
    return _WRITERS.get(kind, xlsx_pieces)(columns)


def csv_pieces(columns: Mapping[str, Iterable[Any]], read_as: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """Columns as CSV in which a spreadsheet finds no formulas.

    Parameters
    ----------
    columns : mapping
        The n_rows values of each column, by its name; they are read lazily.
    read_as : mapping, optional
        The dialect: separator, decimal sign, encoding, and a first line that names the separator.

    Yields
    ------
    bytes
        Lines end in CR LF, so that cells with either character are quoted. A text that would be a formula gets an
        apostrophe in front. Where the encoding lacks a letter, the one without its accent stands, or a question mark.
    """
    dialect = read_as or {}
    parts = parts_of([*columns.values()])
    return _row_by_row(columns, dialect) if parts is None else _part_by_part([*columns], parts, dialect)


def _part_by_part(
    names: Sequence[str], parts: Iterable[Sequence[tuple[Sequence[Any], Places]]], dialect: Mapping[str, str]
) -> Iterator[bytes]:
    """The same for columns in parts, of which each distinct value is written once."""
    encoding, separator = dialect.get("encoding", "utf-8"), dialect.get("separator", ",")
    encode = codecs.getincrementalencoder(encoding)(WITHOUT_ACCENT).encode
    header = {key: value for key, value in dialect.items() if key != "encoding"}
    yield encode(b"".join(_row_by_row(dict.fromkeys(names, ()), header)).decode())
    for part in parts:
        texts = [_texts(values, dialect) for values, _ in part]
        longest = sum(max(map(len, of_column), default=0) for of_column in texts)
        step = max(LINES // (longest + 1), 1)
        for start in range(0, len(part[0][1]), step):
            places = [of_column[start : start + step] for _, of_column in part]
            content = joined_lines([*map(take_texts, texts, places)], separator)
            yield content if encoding == "utf-8" else encode(content.decode())
    yield encode("", True)


def _texts(values: Sequence[Any], dialect: Mapping[str, str]) -> list[str]:
    """Values as texts in cells, empty for None."""
    kinds = {*map(type, values)}
    cell = _cell_of(dialect)
    if kinds <= {int, float} and cell is _harmless:
        return [*map(str, values)]
    if kinds == {str}:
        safe = {text: cell(text) for text in {*values}}
        return [safe[text] for text in values]
    return ["" if value is None else str(cell(value)) for value in values]


def _row_by_row(columns: Mapping[str, Iterable[Any]], dialect: Mapping[str, str]) -> Iterator[bytes]:
    encode = codecs.getincrementalencoder(dialect.get("encoding", "utf-8"))(WITHOUT_ACCENT).encode
    text = io.StringIO(newline="")
    if "first_line" in dialect:
        text.write(dialect["first_line"] + "\r\n")
    writer = csv.writer(text, delimiter=dialect.get("separator", ","))
    cell = _cell_of(dialect)
    for row in itertools.chain([columns], zip(*columns.values(), strict=True)):
        writer.writerow(map(cell, row))
        if text.tell() > PIECE:
            yield encode(text.getvalue())
            text.seek(0)
            text.truncate()
    yield encode(text.getvalue(), True)


def _cell_of(dialect: Mapping[str, str]) -> Callable[[Any], Any]:
    """What makes a cell of a value."""
    return _with_comma if dialect.get("decimal") == "," else _harmless


def _json_lines(columns: Mapping[str, Iterable[Any]]) -> Iterator[bytes]:
    """One JSON object for each row, on a line of its own."""
    lines: list[bytes] = []
    size = 0
    for row in zip(*columns.values(), strict=True):
        record = dict(zip(columns, row, strict=True))
        lines.append(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
        size += len(lines[-1])
        if size > PIECE:
            yield b"".join(lines)
            lines, size = [], 0
    yield b"".join(lines)


_WRITERS = {"jsonl": _json_lines, "parquet": parquet_pieces, "feather": feather_pieces}


def _harmless(cell: Any) -> Any:
    if type(cell) is bool:
        return str(cell).lower()
    if isinstance(cell, date):
        return cell.isoformat()
    return f"'{cell}" if type(cell) is str and may_be_formula(cell) else cell


def may_be_formula(text: str) -> bool:
    """Whether a spreadsheet might take a text for a formula."""
    return text.lstrip(BLANKS).startswith(FORMULA) and not _NUMBER.fullmatch(text)


def _with_comma(cell: Any) -> Any:
    """The cell with a decimal comma, if it is a number."""
    if isinstance(cell, Real) and not isinstance(cell, int):
        return str(float(cell)).replace(".", ",")
    return _harmless(cell)


def _without_accent(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for the characters that an encoding lacks: their base letters, or question marks."""
    assert isinstance(error, UnicodeEncodeError)
    letters = (unicodedata.normalize("NFKD", letter)[0] for letter in error.object[error.start : error.end])
    return "".join(letter if letter.isascii() else "?" for letter in letters), error.end


codecs.register_error(WITHOUT_ACCENT, _without_accent)
