"""Raw tables: the cells of a file before anything is declared."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.tables import raw
from tabserve.tables.raw import RawColumn, raw_table

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
