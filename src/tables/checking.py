"""What is wrong with records, by field and by row. The sentences come from the columns and repeat no values."""

from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import Any, TypeAlias

from tabserve.aliases import Record
from tabserve.columns.features import Feature

LONGEST_NAME = 64  # characters of an unknown field's name that an answer repeats
MOST_FIELDS = 50  # fields of one record that an answer lists
MOST_ROWS = 100  # rows of a table that an answer lists
MISSING = "Missing data for required field."
UNKNOWN = "Unknown field."

# what the reader of workbooks gives for cells that hold no value: no column accepts these texts but one of free texts
ODD_CELLS = {
    "#FORMULA!": "The formula has no value in the file: open it in Excel or LibreOffice, and save it again.",
    "#MERGED!": "The cell is merged with the one above: unmerge it, and fill in each row.",
} | {
    error: f"The cell shows the error {error}: replace it with a value, or empty it."
    for error in ("#N/A", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NAME?", "#NULL!", "#GETTING_DATA", "#SPILL!")
}

FieldProblems: TypeAlias = dict[str, list[str]]


def field_problems(columns: Sequence[Feature], record: Record, extras: Sequence[Feature] = ()) -> FieldProblems:
    """What is wrong with a record.

    Parameters
    ----------
    columns : sequence of Feature
        The columns that the record must hold, unless they are optional.
    record : mapping
        With any keys and values.
    extras : sequence of Feature
        What it may hold, too.

    Returns
    -------
    dict of list of str
        Sentences by field, those of `columns` first; long names are truncated.
    """
    known = {column.name: problem for column in columns if (problem := _problem(column, record))}
    known |= {
        extra.name: problem
        for extra in extras
        if extra.name in record and (problem := extra.problem(record[extra.name]))
    }
    names = {column.name for column in (*columns, *extras)}
    unknown = nsmallest(MOST_FIELDS, (name for name in record if name not in names), key=str)
    named = [*known.items(), *((name, UNKNOWN) for name in unknown)][:MOST_FIELDS]
    return {printable(name): [problem] for name, problem in named}


def _problem(column: Feature, record: Record) -> str | None:
    if column.name in record:
        return _or_odd(column.problem(record[column.name]), record[column.name])
    return None if column.optional else MISSING


def cell_problem(column: Feature, value: Any) -> str | None:
    """What is wrong with the value of a file's cell, which may be one with an error or with a formula."""
    return _or_odd(column.cell_problem(value), value)


def _or_odd(problem: str | None, value: Any) -> str | None:
    return ODD_CELLS.get(value, problem) if problem and type(value) is str else problem


def row_problems(
    columns: Sequence[Feature], records: Mapping[int, Record], count: int, extras: Sequence[Feature] = ()
) -> dict[str, Any]:
    """What is wrong with rows.

    Parameters
    ----------
    columns : sequence of Feature
        The columns that a record must hold, unless they are optional.
    records : mapping
        The invalid records to list, by row number.
    count : int
        How many rows are invalid.
    extras : sequence of Feature
        What a record may hold, too.

    Returns
    -------
    dict
        `rows`, the problems by row and field, and `count`.
    """
    rows = {str(row): field_problems(columns, record, extras) for row, record in records.items()}
    return {"rows": rows, "count": count}


def printable(name: object) -> str:
    """A name that a client sent, truncated, and as text that every client can read."""
    return str(name)[:LONGEST_NAME].encode("utf-8", "replace").decode()
