"""Small tables for the tests of drafting."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabserve.draft.drafting import Draft, draft
from tabserve.draft.infer import infer
from tabserve.draft.profile import profile_of
from tabserve.draft.proposal import Proposal
from tabserve.tables.raw import RawTable, raw_table

ROWS = 300


def table_of(columns: Mapping[str, Sequence[Any]], *, typed: bool = False) -> RawTable:
    rows = zip(*columns.values(), strict=True)
    return raw_table(list(columns), rows, typed=typed, read_as={"format": "csv", "separator": ","})


def drafted(columns: Mapping[str, Sequence[Any]], target: str = "y", *, typed: bool = False) -> Draft:
    return draft(table_of(columns, typed=typed), target, "loans", {"source": "loans.csv"})


def proposed(name: str, cells: Sequence[Any], *, decimal: str = ".") -> Proposal:
    typed = not all(isinstance(cell, str) for cell in cells)
    (column,) = table_of({name: cells}, typed=typed).columns
    return infer(profile_of(column), decimal)


def repeated(values: Sequence[Any], rows: int = ROWS) -> list[Any]:
    """So many cells that go through the values."""
    return [values[row % len(values)] for row in range(rows)]


def target(rows: int = ROWS) -> list[str]:
    """Yes and no, in an order that no other column of these tests has."""
    return ["yes" if (row * 7919 + row // 13) % 10 < 3 else "no" for row in range(rows)]
