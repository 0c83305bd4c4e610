"""Profiles: what the cells of a column are, before its kind is inferred."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.tables.raw import Codes, RawColumn

Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """The cells of a column as texts.

    Parameters
    ----------
    name : str
        The column's name.
    texts : tuple of str
        The different texts, trimmed and without those that stand for missing, in order of appearance.
    codes : ndarray, shape (n_rows,)
        The place of each row's text among them; -1 for a missing one.
    types : mapping of int
        How many rows have a cell of a type: "text", "number", "boolean", "date" or "datetime".
    markers : mapping of int
        In how many rows stands which text that means missing.
    padded : bool
        Whether a text had blanks around it.
    """

    name: str
    texts: tuple[str, ...]
    codes: Codes
    types: dict[str, int]
    markers: dict[str, int] = field(default_factory=dict)
    padded: bool = False

    @cached_property
    def counts(self) -> Counts:
        """How many rows have each text."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.codes)

    @cached_property
    def missing(self) -> int:
        """How many rows have no value."""
        return int(np.sum(self.codes < 0))

    @property
    def filled(self) -> int:
        """How many rows have a value."""
        return self.rows - self.missing

    @property
    def by_frequency(self) -> list[tuple[str, int]]:
        """The texts with their numbers of rows, the most frequent first."""
        order = np.argsort(-self.counts, kind="stable")
        return [(self.texts[place], int(self.counts[place])) for place in order]

    def without(self, markers: Collection[str]) -> "Profile":
        """The same with some of the texts held for missing."""
        counts = dict(zip(self.texts, map(int, self.counts), strict=True))
        taken = {text: counts[text] for text in markers if text in counts}
        kept = [None if text in taken else text for text in self.texts]
        texts, codes = _renumbered(kept, self.codes)
        return Profile(self.name, texts, codes, self.types, self.markers | taken, self.padded)


def profile_of(column: RawColumn) -> Profile:
    """The profile of a column; blank cells are missing."""
    counts = np.bincount(column.codes, minlength=len(column.cells))
    types: Counter[str] = Counter()
    for cell, count in zip(column.cells, counts.tolist(), strict=True):
        if cell is not None:
            types[_type_of(cell)] += count
    texts = [_text_of(cell).strip() or None for cell in column.cells]
    padded = any(isinstance(cell, str) and cell.strip() and cell != cell.strip() for cell in column.cells)
    different, codes = _renumbered(texts, column.codes)
    return Profile(column.name, different, codes, dict(types), padded=padded)


def _renumbered(texts: Sequence[str | None], codes: Codes) -> tuple[tuple[str, ...], Codes]:
    """Different texts, and codes by their places; None for what is missing."""
    places = {text: place for place, text in enumerate(dict.fromkeys(text for text in texts if text is not None))}
    new = np.array([*(-1 if text is None else places[text] for text in texts), -1], np.int32)  # -1 stays -1
    return tuple(places), new[codes]


def _type_of(cell: Any) -> str:
    for kind, name in ((bool, "boolean"), (int | float, "number"), (datetime, "datetime"), (date, "date")):
        if isinstance(cell, kind):
            return name
    return "text"


def _text_of(cell: Any) -> str:
    """A cell as a CSV file would hold it, with a decimal point."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime):
        midnight = cell.time() == time()
        return cell.date().isoformat() if midnight else cell.replace(tzinfo=None).isoformat(" ")
    return str(cell)
