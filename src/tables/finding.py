"""Where the table stands: the sheet and the row with the known columns, and what is wrong with them."""

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tabserve.columns.features import RESERVED_NAMES, Category, Feature
from tabserve.errors import MOST_WORDS, Fault, InvalidTableError, UnsupportedFileError, in_short
from tabserve.tables.dialect import NOT_SURE, find_separator
from tabserve.tables.header import Header, find_header
from tabserve.tables.limits import Row
from tabserve.tables.lines import NOT_UTF8
from tabserve.tables.plain_csv import SEPARATORS
from tabserve.tables.source import HEADER_ROWS, Sheet

RESERVED_PROBLEM = "The answer has a column of this name: rename yours, or send the original file."
_LONGEST_NAME = 32  # characters of an unknown name that an error shows
_WAY_OUT = "Leave them out, or declare them as `id` or `ignore`."


@dataclass(frozen=True)
class Found:
    """A table that was found.

    Parameters
    ----------
    sheet : Sheet
        Where it stands; its rows are those below the header.
    header : Header
    in_one_cell : bool
        Whether the first cell of a row holds all its values.
    """

    sheet: Sheet
    header: Header
    in_one_cell: bool = False

    def position(self, place: int) -> str:
        """A column that cannot be named: by its letters, or by its place in the cell."""
        return str(place) if self.in_one_cell else letters(place)


@dataclass(frozen=True)
class Known:
    """The columns that a table may have.

    Parameters
    ----------
    features : sequence of Feature
        Those that a record needs.
    target : Feature
    extras : sequence of Feature
        Those that a table may also have.
    """

    features: Sequence[Feature]
    target: Feature
    extras: Sequence[Feature] = ()

    @property
    def columns(self) -> tuple[Feature, ...]:
        """All of them."""
        return (*self.features, self.target, *self.extras)

    @property
    def names(self) -> list[str]:
        """The names of all of them."""
        return [column.name for column in self.columns]


def find_table(
    sheets: Iterable[Sheet], known: Known, dialect: Mapping[str, str], title: str | None = None, *, own: bool = False
) -> Found:
    """The sheet and the header of the table; its columns are known, there, and not repeated.

    Parameters
    ----------
    sheets : iterable of Sheet
        Where it may stand.
    known : Known
        The columns that it may have.
    dialect : mapping
        What is declared about text files, for tables whose rows are each in one cell.
    title : str, optional
        The sheet to take.
    own : bool
        Whether the file is the user's own, so that an error may show what stands where the header should be.

    Raises
    ------
    InvalidTableError
        When there is no such table, when there are several, or when its columns are not the known ones.
    """
    found = choose(sheets, known.names, dialect, title)
    rows = [*itertools.islice(found.sheet.rows, 1)]  # more would not come as columns
    is_whole = bool(rows) and rows[0][2] == len(found.header.names)
    if faults := _faults(found, known, own=own, is_whole=is_whole):
        raise InvalidTableError(found.sheet.place, faults)
    return replace(found, sheet=found.sheet.given_back(rows))


def choose(
    sheets: Iterable[Sheet], names: Sequence[str], dialect: Mapping[str, str], title: str | None = None
) -> Found:
    """The sheet and the header with the most known columns.

    Parameters
    ----------
    sheets : iterable of Sheet
        Where it may stand.
    names : sequence of str
        The known columns.
    dialect : mapping
        As for `find_table`.
    title : str, optional
        The sheet to take.

    Returns
    -------
    Found
        Where no row holds a known column, the first row of the first sheet is its header.

    Raises
    ------
    InvalidTableError
        When there is no such sheet, or several hold as many known columns.
    """
    looked = [_look(sheet, names, dialect) for sheet in sheets if title in (None, sheet.read_as.get("sheet"))]
    if title is not None and not looked:
        raise InvalidTableError("The file", [Fault(None, f"It has no sheet '{title[:64]}' that holds data.")])
    most = max((len(one.header.known) for one in looked), default=0)
    best = [one for one in looked if len(one.header.known) == most]
    if len(best) > 1 and most:
        titles = ", ".join(f"'{one.sheet.read_as.get('sheet', one.sheet.place)[:64]}'" for one in best[:MOST_WORDS])
        problem = f"Several sheets hold such a table, {titles}: name one with --sheet, or leave the others out."
        raise InvalidTableError(best[0].sheet.place, [Fault(None, problem)])
    return best[0]


def _look(sheet: Sheet, names: Sequence[str], dialect: Mapping[str, str]) -> Found:
    """The row of a sheet that is a header, or its first one, which then knows no column."""
    first = [*itertools.islice(sheet.rows, HEADER_ROWS)]
    header = find_header(first, names)
    packed = _unpacked(sheet, first, names, dialect)
    if packed and len(packed.header.known) > (len(header.known) if header else 0):
        return packed
    if header is None:
        row, cells, _ = first[0] if first else (1, (), 0)
        header = Header(row, list(map(str, cells)), [None] * len(cells), 1)
    return Found(sheet.given_back(first[header.above :]), header)


def _unpacked(sheet: Sheet, first: Sequence[Row], names: Sequence[str], dialect: Mapping[str, str]) -> Found | None:
    """The table of rows that are each one cell with separators in it, as some banks export them."""
    lines = [str(cells[0]) if width == 1 else "" for _, cells, width in first]
    if not any(lines):
        return None
    separator = find_separator(sheet.place, lines, names, dialect.get("separator"))
    split = ((row, _cells_of(line, separator), 1) for (row, _, _), line in zip(first, lines, strict=True))
    header = find_header(split, names)
    if header is None:
        return None
    below = itertools.chain(first[header.above - 1 :], sheet.rows)
    rows = _split(sheet.place, below, separator)
    row, cells, _ = next(rows)
    header = replace(find_header([(row, cells, len(cells))], names) or header, above=header.above)
    return Found(Sheet(sheet.place, rows, typed=False, read_as={**sheet.read_as, "separator": separator}), header, True)


def _cells_of(line: str, separator: str) -> Sequence[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []


def _split(place: str, rows: Iterable[Row], separator: str) -> Iterator[Row]:
    """The rows of such a table: the first cell holds all values, and the others are empty."""
    for number, cells, width in rows:
        if width > 1:
            raise InvalidTableError(place, [Fault(None, "Only the first column may hold values.", number)])
        try:
            values = next(csv.reader([str(cells[0])], strict=True, delimiter=separator, skipinitialspace=True))
        except csv.Error:
            problem = f"Not values joined by {SEPARATORS.get(separator, separator)}: "
            problem += "a quote is not closed, stands alone, or a line is broken."
            raise InvalidTableError(place, [Fault("first", problem, number, cells[0])]) from None
        yield number, values, len(values)


def _faults(found: Found, known: Known, *, own: bool, is_whole: bool) -> list[Fault]:
    """What is wrong with the columns: unknown ones first, in one fault.

    Without a header, or with a broken one, a record stands here. So an unknown column is named by its position, not by
    its text, when a column is missing, when the row below has another width, or when the text may be a value.
    """
    header, names = found.header, set(found.header.known)
    if not names:
        return [_no_header(found, known, own=own)]
    required = {feature.name for feature in known.features if not feature.optional}
    is_header = required <= names and 2 * len(names) >= len(header.names)
    is_header = is_header and (is_whole or names == set(known.names))
    reserved = RESERVED_NAMES.difference(known.names)
    unknown = [
        (place, name)
        for place, (name, column) in enumerate(zip(header.names, header.columns, strict=True), 1)
        if column is None and name not in reserved
    ]
    nameless = [found.position(place) for place, name in unknown if not name.strip()]
    words = [
        f"'{name[:_LONGEST_NAME]}'" if own or (is_header and _may_be_shown(name, known)) else found.position(place)
        for place, name in unknown
        if name.strip()
    ]
    faults = []
    if nameless:
        problem = f"{len(nameless)} column(s) have no name, {in_short(nameless)}: remove them, such as row numbers"
        faults.append(Fault(None, f"{problem}, or name and declare them.", header.row))
    if words:
        problem = f"{len(words)} unknown column(s), {in_short(list(dict.fromkeys(words)))}; the columns are: "
        faults.append(Fault(None, f"{problem}{in_short(known.names)}. {_WAY_OUT}", header.row))
    faults += [Fault(name, RESERVED_PROBLEM) for name in header.names if name in reserved]
    missing = [feature.name for feature in known.features if feature.name in required - names]
    faults += [Fault(name, "This column is missing.") for name in missing]
    counts = Counter(column for column in header.columns if column is not None)
    return faults + [Fault(name, "This column appears more than once.") for name, n in counts.items() if n > 1]


def _no_header(found: Found, known: Known, *, own: bool) -> Fault:
    """The fault that no row names a column. Only the owner of a file is shown what stands there."""
    if found.sheet.read_as.get("encoding") == NOT_SURE:  # which any bytes are
        raise UnsupportedFileError(NOT_UTF8)
    cells = [str(cell) for cell in found.header.names]
    separator = SEPARATORS.get(found.sheet.read_as.get("separator", ""))
    reads = f"reads {in_short([repr(cell[:_LONGEST_NAME]) for cell in cells])}" if own else f"has {len(cells)} cell(s)"
    between = f", separated by {separator}" if separator and len(cells) > 1 else ""
    problem = (
        f"None of the {len(known.names)} columns was found: this row must hold their names, and it {reads}{between}"
    )
    return Fault(None, f"{problem}; the columns are: {in_short(known.names)}.", found.header.row)


def _may_be_shown(name: str, known: Known) -> bool:
    """Whether a header's cell looks like a name, and is not a value of a record."""
    if not (name.isidentifier() and len(name) <= _LONGEST_NAME):
        return False
    spelled = name.casefold()
    return not any(
        spelled == value.casefold()
        for feature in known.columns
        if isinstance(feature, Category)
        for value in feature.values
    )


def letters(place: int) -> str:
    """A column as spreadsheets call it: A, B, ... Z, AA."""
    text = ""
    while place:
        place, letter = divmod(place - 1, 26)
        text = chr(ord("A") + letter) + text
    return text
