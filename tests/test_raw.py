"""Raw tables: the cells of a file before anything is declared."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.errors import InvalidTableError, UnsupportedFileError
from tabserve.tables import raw
from tabserve.tables.raw import RawColumn, RawTable, raw_table, read_raw

CELLS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-3, 3, width=16), st.text(max_size=3))


def cells_of(column: RawColumn) -> list[Any]:
    return [column.cells[code] for code in column.codes]


@given(st.lists(st.tuples(CELLS, CELLS)))
def test_a_column_holds_the_cells_of_its_rows(rows: list[tuple[Any, Any]]) -> None:
    table = raw_table(["a", "b"], rows, typed=True, read_as={})
    for place, column in enumerate(table.columns):
        found, expected = cells_of(column), [row[place] for row in rows]
        assert [(type(cell), cell) for cell in found] == [(type(cell), cell) for cell in expected]
    assert (table.rows, table.step) == (len(rows), 1)


def test_short_rows_are_filled_up() -> None:
    table = raw_table(["a", "b"], [("1",), ("2", "3")], typed=False, read_as={})
    assert [cells_of(column) for column in table.columns] == [["1", "2"], [None, "3"]]


@pytest.mark.parametrize("limit", ["MOST_CELLS", "MOST_DIFFERENT"])
def test_of_a_large_table_rows_are_kept_at_equal_distances(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, limit, 50)
    monkeypatch.setattr(raw, "CHUNK", 7)
    table = raw_table(["a"], ((str(row),) for row in range(1000)), typed=False, read_as={})
    assert table.rows == 1000
    assert table.step == 32 if limit == "MOST_CELLS" else table.step >= 16
    assert cells_of(table.columns[0]) == [str(row) for row in range(0, 1000, table.step)]


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_text(text, encoding=encoding)
    return str(path)


def read(source: str, target: str = "y", **known: str) -> RawTable:
    return read_raw(source, target, known)


@pytest.mark.parametrize(("separator", "encoding"), [(",", "utf-8"), (";", "cp1252"), ("\t", "utf-16"), ("|", "utf-8")])
def test_a_text_file_is_read_in_its_dialect(tmp_path: Path, separator: str, encoding: str) -> None:
    lines = [["größe", "y"], ["1", "ä"], ["2", "b"]]
    text = "\n".join(map(separator.join, lines))
    table = read(write(tmp_path / "a.csv", text, encoding))
    assert [column.name for column in table.columns] == ["größe", "y"]
    assert [cells_of(column) for column in table.columns] == [["1", "2"], ["ä", "b"]]
    assert table.read_as["separator"] == separator


def test_titles_above_the_header_are_skipped(tmp_path: Path) -> None:
    table = read(write(tmp_path / "a.csv", "Loans of 2021,\n\nx, Y \n1,a\n"))
    assert [column.name for column in table.columns] == ["x", "Y"]
    assert table.rows == 1


def test_without_the_target_the_likely_names_are_given(tmp_path: Path) -> None:
    table = read(write(tmp_path / "a.csv", "Loans\na,b,c\n1,2,3\n"), "nothing")
    assert [column.name for column in table.columns] == ["a", "b", "c"]
    assert table.rows == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (",x,y\n1,2,3\n", "Column A has no name"),
        ("x,x,y\n1,2,3\n", "appears more than once"),
        ("x,y\n1,2,3\n", "The row has 3 cells and the header 2"),
    ],
)
def test_what_training_would_refuse_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidTableError, match=problem):
        read(write(tmp_path / "a.csv", text))


def test_a_file_that_is_not_there_is_said_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFileError, match=r"^The file a\.csv cannot be read: No such file or directory\.$"):
        read(str(tmp_path / "a.csv"))


def test_a_query_is_read(tmp_path: Path) -> None:
    path = tmp_path / "loans.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table loans (x integer, y text)")
        connection.executemany("insert into loans values (?, ?)", [(1, "a"), (None, "b")])
        connection.commit()
    table = read_raw(f"sqlite:///{path}", "y", {}, query="loans")
    assert [cells_of(column) for column in table.columns] == [[1, None], ["a", "b"]]
