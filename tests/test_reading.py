"""Reading: the rows of a file as batches of raw cells, and what ends them."""

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tabserve.columns.arrays import python_cells
from tabserve.columns.features import Category, Feature, Integer, Number
from tabserve.columns.texts import Text
from tabserve.errors import InvalidTableError, TooManyRowsError
from tabserve.tables import reading
from tabserve.tables.batch import ROWS, Batch, in_batches
from tabserve.tables.finding import Known, find_table
from tabserve.tables.limits import Deadline
from tabserve.tables.reader import open_batches
from tabserve.tables.reading import Reading
from tabserve.tables.source import HEADER_ROWS, Sheet

AGE = Integer(name="age", low=0, high=120)
INCOME = Number(name="income", missing=True)
REMARK = Text(name="remark", missing=True)
TARGET = Integer(name="default", low=1, high=2)
FEATURES = (AGE, INCOME, REMARK)


def values(content: str | bytes, features: tuple[Feature, ...] = FEATURES, **options: Any) -> list[tuple[Any, ...]]:
    """The row numbers of a file, and what its features read in the cells."""
    stream = io.BytesIO(content.encode() if isinstance(content, str) else content)
    with open_batches(stream, "loans.csv", features, TARGET, **options) as table:
        return [row for batch in table.batches for row in _rows(table, batch)]


def _rows(table: Reading, batch: Batch) -> Iterator[tuple[Any, ...]]:
    cells = (python_cells(batch.cells[feature.name]) for feature in table.features)
    read = ([one.from_cell(cell, table.decimal) for cell in of] for one, of in zip(table.features, cells, strict=True))
    return zip(batch.rows, *read, strict=True)


def refused(content: str | bytes, **options: Any) -> str:
    with pytest.raises(InvalidTableError) as caught:
        values(content, **options)
    return str(caught.value)


def lines(*rows: str, header: str = "age;income;remark") -> str:
    return "\n".join((header, *rows))


def test_cells_are_named_as_declared_and_stay_raw() -> None:
    with open_batches(io.BytesIO(b"title\n\nRemark,AGE\nx, 5"), "a.csv", FEATURES, TARGET, markers=["?"]) as table:
        (batch,) = table.batches
    assert (table.place, table.columns, [*batch.rows]) == ("a.csv", ["remark", "age"], [4])
    assert (batch.cells.column_names, batch.cells.to_pylist()) == (["remark", "age"], [{"remark": "x", "age": "5"}])
    assert table.read_as == {"format": "csv", "separator": ",", "encoding": "utf-8", "decimal": "."}
    assert all("?" in feature.markers for feature in table.features)


@pytest.mark.parametrize("before", [0, 3, HEADER_ROWS, ROWS - 5, ROWS + 5])
def test_one_number_tells_the_decimal_sign_of_all_that_come_with_it(before: int) -> None:
    rows = [*["7;;"] * before, "7;1.234,5;a.b", *["7;2.500;"] * 3]
    assert values(lines(*rows))[before:] == [
        (before + 2, 7, 1234.5, "a.b"),
        *((before + number, 7, 2500, None) for number in (3, 4, 5)),
    ]


def test_numbers_after_the_sample_do_not_change_the_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SAMPLE_ROWS", 2)
    assert values(lines("7;1.5;", "7;;", "7;2,5;"))[2] == (4, 7, "2,5", None)
    assert "Some numbers have decimal points" in refused(lines("7;1.5;", "7;2,5;", "7;;"))


def test_a_sign_of_which_nothing_tells_the_meaning_is_refused() -> None:
    assert "column 'income': In its numbers, points may be decimal signs" in refused(lines("7;1.234;"))
    assert values(lines("7;1.234;"), dialect={"decimal": ","}) == [(2, 7, 1234, None)]


@pytest.mark.parametrize("rows", [1, ROWS, ROWS + 1])
def test_rows_are_counted_over_all_batches(rows: int) -> None:
    content = lines(*["7;;"] * rows)
    assert len(values(content, max_rows=rows)) == rows
    with pytest.raises(TooManyRowsError):
        values(content, max_rows=rows - 1)


def test_errors_of_a_spreadsheet_are_found_in_every_batch() -> None:
    told = refused(lines(*["7;;a #1"] * ROWS, "7;; #REF! ", "7;;b", "7;;#REF!"))
    assert told.startswith("loans.csv: 2 fault(s)")
    assert f"rows {ROWS + 2}, {ROWS + 4}, column 'remark', such as '#REF!': The cell shows" in told
    assert "all 2 rows, column 'remark'" in refused(lines("7;;#REF!", "7;;#REF!"))


def test_an_encoding_that_nothing_confirms_is_refused_at_the_end() -> None:
    content = lines(*["7;;a"] * ROWS, "7;;Köln").encode("cp1252")
    assert "'remark': The file is not UTF-8" in refused(content)
    assert values(content, dialect={"encoding": "cp1252"})[-1] == (ROWS + 2, 7, None, "Köln")
    city = Category(name="city", values=("Köln", "Bonn"))
    confirmed = lines("Bonn;ü", "Köln;ä", header="city;remark").encode("cp1252")
    assert values(confirmed, (city, REMARK)) == [(2, "Bonn", "ü"), (3, "Köln", "ä")]


@pytest.mark.parametrize("rows", [1, HEADER_ROWS - 2, HEADER_ROWS, 3 * HEADER_ROWS])
def test_a_source_with_batches_of_its_own_gives_the_rows_that_were_not_looked_at(rows: int) -> None:
    numbered = [(0, ["age"], 1), *((number, [number], 1) for number in range(1, rows + 1))]
    given = iter(numbered)
    sheet = Sheet("a.csv", given, typed=True, read_as={})
    sheet = replace(sheet, rest=lambda width: in_batches("a.csv", given, width, typed=True))
    found = find_table([sheet], Known((AGE,), TARGET), {})
    batches = [*Reading(found, Known((AGE,), TARGET), (), {}, None, Deadline(None)).batches]
    assert [number for batch in batches for number in batch.rows] == [*range(1, rows + 1)]
    assert [cell for batch in batches for cell in batch.cells["age"].to_pylist()] == [*range(1, rows + 1)]
    assert all(batch.rows for batch in batches)
