"""The header of a table: the row whose cells are the known columns."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tabserve.tables.limits import Row
from tabserve.tables.workbook_child import MERGED

LONGEST_NAME = 200  # characters of a cell that is compared in other spelling


@dataclass(frozen=True)
class Header:
    """The row with the names of the columns.

    Parameters
    ----------
    row : int
        Its number.
    names : list of str
        Its cells, without the empty ones at the end.
    columns : list of str or None
        The known column that each cell names; None for an unknown one.
    above : int
        How many rows that are not blank end with it: title rows, then the header.
    """

    row: int
    names: Sequence[str]
    columns: Sequence[str | None]
    above: int

    @property
    def known(self) -> set[str]:
        """The known columns in it."""
        return {column for column in self.columns if column is not None}

    @property
    def rank(self) -> tuple[int, int]:
        """How well it fits: more known columns are better, then fewer unknown ones."""
        return len(self.known), -len(self.names)


def find_header(rows: Iterable[Row], known: Iterable[str]) -> Header | None:
    """The row that holds the most known columns, the first of several; titles may stand above it.

    A header may also stand in several rows, when cells are merged: then a cell of the lowest row counts, and where it
    is empty or merged with the one above it, that one.

    Parameters
    ----------
    rows : iterable of Row
        The first rows that are not blank.
    known : iterable of str
        The names of the columns.

    Returns
    -------
    Header or None
        None when no row holds any.
    """
    spellings = Spellings(known)
    best: Header | None = None
    upper: Sequence[str] = ()
    for above, (row, cells, _) in enumerate(rows, 1):
        names = _texts(cells)
        is_merged = MERGED in names
        if is_merged:
            names = _filled(names, upper, MERGED)
        for candidate in (names, _filled(names, upper, "")) if "" in names or len(upper) > len(names) else (names,):
            header = Header(row, candidate, spellings.columns(candidate), above)
            is_lower = is_merged and best is not None and (best.above, best.known) == (above - 1, header.known)
            if is_lower or len(header.known) > (len(best.known) if best else 0):
                best = header
        upper = names
    return best


def _texts(cells: Sequence[object]) -> list[str]:
    """The cells as texts, without the empty ones at the end."""
    names = ["" if cell is None else str(cell) for cell in cells]
    while names and not names[-1].strip():
        names.pop()
    return names


def _filled(lower: Sequence[str], upper: Sequence[str], gap: str) -> list[str]:
    """The names of a row; where they are a gap, those above it."""
    both = zip_longest(lower, upper, fillvalue="")
    return [above if below.strip() == gap else below for below, above in both]


class Spellings:
    """Known columns by their names, exact or as people write them: padded, in other case.

    Parameters
    ----------
    known : iterable of str
        The names.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._exact = frozenset(known)
        spelled = Counter(map(spelling, self._exact))
        self._other: Mapping[str, str] = {spelling(name): name for name in self._exact if spelled[spelling(name)] == 1}

    def columns(self, names: Sequence[str]) -> list[str | None]:
        """The known column that each of some names means, exactly or, if no name does so exactly, in other spelling."""
        exact = self._exact.intersection(names)
        return [name if name in exact else self._by_spelling(name, exact) for name in names]

    def _by_spelling(self, name: str, taken: frozenset[str]) -> str | None:
        column = self._other.get(spelling(name)) if len(name) <= LONGEST_NAME else None
        return None if column in taken else column


def spelling(name: str) -> str:
    """A name without what people write differently: case, blanks, how an accent is composed."""
    return " ".join(unicodedata.normalize("NFC", name.strip("\ufeff")).casefold().split())
