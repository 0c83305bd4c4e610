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

FieldProblems: TypeAlias = dict[str, list[str]]


def field_problems(columns: Sequence[Feature], record: Record) -> FieldProblems:
    """What is wrong with a record.

    Parameters
    ----------
    columns : sequence of Feature
        All columns that the record may hold.
    record : mapping
        With any keys and values.

    Returns
    -------
    dict of list of str
        Sentences by field, those of `columns` first; long names are truncated.
    """
    known = {column.name: problem for column in columns if (problem := _problem(column, record))}
    names = {column.name for column in columns}
    unknown = nsmallest(MOST_FIELDS, (name for name in record if name not in names), key=str)
    named = [*known.items(), *((name, UNKNOWN) for name in unknown)][:MOST_FIELDS]
    return {printable(name): [problem] for name, problem in named}


def _problem(column: Feature, record: Record) -> str | None:
    if column.name in record:
        return column.problem(record[column.name])
    return None if column.optional else MISSING


def row_problems(columns: Sequence[Feature], records: Mapping[int, Record], count: int) -> dict[str, Any]:
    """What is wrong with rows.

    Parameters
    ----------
    columns : sequence of Feature
        All columns that a record may hold.
    records : mapping
        The invalid records to list, by row number.
    count : int
        How many rows are invalid.

    Returns
    -------
    dict
        `rows`, the problems by row and field, and `count`.
    """
    return {"rows": {str(row): field_problems(columns, record) for row, record in records.items()}, "count": count}


def printable(name: object) -> str:
    """A name that a client sent, truncated, and as text that every client can read."""
    return str(name)[:LONGEST_NAME].encode("utf-8", "replace").decode()
