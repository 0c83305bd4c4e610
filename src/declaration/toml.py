"""TOML: declarations as files that people read, compare and edit."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from tabserve.declaration.plain import from_plain
from tabserve.declaration.reading import Place
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidUseCaseError

TABLES = ("columns", "derived", "groups", "gates", "algorithms", "baseline", "example")
LONG = ("limits",)  # lists with a line for each value
LARGEST_FILE = 10_000_000  # bytes
_AT = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_LONG_WORD = re.compile(r"(\S{60})\S{20,}")
_BLANK_BELOW_A_NOTE = re.compile(r"^(#.*\n)\n(?=\[)", re.MULTILINE)
# What tomllib says, and what a person needs to know
_ADVICE = {
    "Cannot overwrite a value": "this name was given above: each may stand here once.",
    "Duplicate inline table key": "this line gives a key twice: each may stand here once.",
    "Invalid date": "there is no such date or time.",
    "Escaped": "a backslash in a text is written as two, or the text stands in single quotation marks.",
    "Cannot redefine": "this table was begun above: move these lines there.",
    "Found invalid": "a line break is missing, or a character is not allowed here.",
    "Cannot declare": "this table was begun above: move these lines there.",
    "Cannot mutate": "this table was begun above: move these lines there.",
    "Expected '='": "a line is: name = value. A name with blanks or signs stands in quotation marks.",
    "Invalid initial character for a key part": "a line is: name = value. A name with blanks or signs stands in "
    "quotation marks.",
    "Invalid statement": "a line is: name = value. A name with blanks or signs stands in quotation marks.",
    "Invalid value": "this value is not TOML: a text stands in quotation marks, a number has a decimal point, and true "
    "and false are in lower case.",
    "Unclosed": "a bracket or brace is not closed, or a comma is missing between values.",
    "Unterminated": "a quotation mark is missing at the end of a text.",
    "Illegal character": "a text begins and ends on one line, with a quotation mark at both ends.",
    "Expected newline": "something follows the value: each line has one value, and a comment begins with #.",
    "Unescaped": "a backslash in a text is written as two, or the text stands in single quotation marks.",
    "Invalid hex": "a backslash in a text is written as two, or the text stands in single quotation marks.",
    "Expected ']'": "the name of a table stands in brackets: [columns].",
}


def read_declaration(path: Path) -> UseCase:
    """The use case in a TOML file; it has the file's name.

    Parameters
    ----------
    path : Path

    Returns
    -------
    UseCase

    Raises
    ------
    InvalidUseCaseError
        With file, line and what would be right.
    """
    text = _text_of(path)
    plain = _parsed(path, text)
    try:
        return from_plain(plain, path.stem, path.parent, path)
    except InvalidUseCaseError as error:
        sentence = re.sub(rf"^{re.escape(path.stem)}[:,] ", "", str(error))
        raise _fault(path, line_of(text, error.place), sentence) from None


def line_of(text: str, place: Place) -> int:
    """The line where something is declared, or what it is a part of.

    Parameters
    ----------
    text : str
        Valid TOML.
    place : tuple of str
        The keys that lead to it.

    Returns
    -------
    int
        Counted from 1.
    """
    most, found = 0, 1
    for line, keys in _statements(text):
        depth = _depth(keys, place)
        if depth > most:
            most, found = depth, line
    return found


def _statements(text: str) -> Iterator[tuple[int, Any]]:
    """The first line of each statement, and what it says as nested tables."""
    table: Place = ()
    statement, begin = "", 1
    for line, content in enumerate(text.split("\n"), start=1):
        statement += f"{content}\n"
        if content.rstrip().endswith(",") and "#" not in content:  # it goes on in the next line
            continue
        try:
            keys: Any = tomllib.loads(statement)
        except ValueError:  # so does this
            continue
        if statement.lstrip().startswith("["):
            table, inside = _header(keys), {}
        else:
            inside = keys
        yield begin, _nested(table, inside)
        statement, begin = "", line + 1


def _header(keys: Any) -> Place:
    """The keys of a table's header."""
    if isinstance(keys, list):
        return _header(keys[0])
    return next(((key, *_header(inner)) for key, inner in keys.items()), ())


def _nested(place: Place, keys: Any) -> Any:
    return {place[0]: _nested(place[1:], keys)} if place else keys


def _depth(keys: Any, place: Place) -> int:
    """How many of the keys that lead to a place are there."""
    if not place or not isinstance(keys, Mapping) or place[0] not in keys:
        return 0
    return 1 + _depth(keys[place[0]], place[1:])


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidUseCaseError(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(content) > LARGEST_FILE:
        raise InvalidUseCaseError(f"{path.name} is too large for a declaration: it may have {LARGEST_FILE:,} bytes.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _fault(path, line, "this is not UTF-8: save the file as UTF-8.") from None


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = _without_dates(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        found = _AT.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        raise _fault(path, line, _advice(str(error))) from None
    except RecursionError:
        raise _fault(path, 1, "brackets are nested too deeply.") from None
    except ValueError:
        raise _fault(path, 1, "a number has too many digits.") from None
    return plain


def _advice(message: str) -> str:
    for beginning, advice in _ADVICE.items():
        if message.startswith(beginning):
            return advice
    return f"this is not TOML: {_AT.sub('', message)}."


def _without_dates(value: Any) -> Any:
    """Dates become texts, as in JSON."""
    if isinstance(value, dict):
        return {key: _without_dates(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_without_dates, value))
    return value.isoformat() if isinstance(value, date | datetime | time) else value


def _fault(path: Path, line: int, sentence: str) -> InvalidUseCaseError:
    short = _LONG_WORD.sub(r"\1…", sentence)  # whatever somebody typed there
    return InvalidUseCaseError(f"{path.name}, line {line}: {short}")


def write_declaration(plain: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> str:
    """A declaration as the text of a TOML file, with one line for each column.

    Parameters
    ----------
    plain : mapping
        As `from_plain` takes it.
    notes : mapping of str, optional
        Comments above keys, tables and columns, by their names joined with points, such as `columns.age`; the one of
        the empty name stands at the top.

    Returns
    -------
    str
        It reads back as the same plain data.
    """
    import tomlkit  # of the extra `train`, which services do without

    notes = notes or {}
    document = tomlkit.document()
    _add_note(document, notes.get("", ""))
    tables = {key: value for key, value in plain.items() if key in TABLES and isinstance(value, Mapping)}
    for key, value in plain.items():
        if key not in tables:
            _add(document, (key,), value, notes)
    for key, value in tables.items():
        document.add(tomlkit.nl())
        _add_note(document, notes.get(key, ""))
        document.add(tomlkit.key([key]), _table((key,), value, notes))
    return _BLANK_BELOW_A_NOTE.sub(r"\1", tomlkit.dumps(document))


def _table(place: Place, rows: Mapping[str, Any], notes: Mapping[str, str]) -> Any:
    """A table with a line for each key; an algorithm is a table of its own, and so is its search space."""
    import tomlkit

    table = tomlkit.table()
    for key, value in rows.items():
        inner = (*place, key)
        if place == ("algorithms",) or (key == "search" and value and place[0] in ("algorithms", "baseline")):
            _add_note(table, notes.get(".".join(inner), ""))
            table.add(tomlkit.key([key]), _table(inner, value, notes))
        else:
            _add(table, inner, value, notes)
    return table


def _add(table: Any, place: Place, value: Any, notes: Mapping[str, str]) -> None:
    import tomlkit

    _add_note(table, notes.get(".".join(place), ""))
    table.add(tomlkit.key([place[-1]]), _inline(value, is_long=place[-1] in LONG))


def _add_note(table: Any, note: str) -> None:
    import tomlkit

    for line in note.splitlines():
        table.add(tomlkit.comment(line))


def _inline(value: Any, *, is_long: bool = False) -> Any:
    """A value in one line; a list of sentences has one for each."""
    import tomlkit

    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for key, item in value.items():
            table.add(tomlkit.key([key]), _inline(item))
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array().multiline(is_long and len(value) > 1)
        for item in value:
            array.append(_inline(item))
        return array
    return tomlkit.item(value)
