"""Tables: row numbers, and what is wrong with values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.features import Integer
from tabserve.errors import InvalidTableError
from tabserve.tables.table import Table, row_ranges

AGE = Integer(name="age", description="", low=0, high=120)
COUNT = Integer(name="count", description="", low=1, high=9)


def test_records_of_a_list_are_counted_from_zero() -> None:
    assert list(Table.of([{"age": 1}, {"age": 2}]).rows) == [0, 1]


def test_each_value_is_checked_the_outcomes_too_where_they_matter() -> None:
    table = Table("ages.csv", ["age", "count"], [{"age": 1}, {"age": -1}], [0, 1], [2, 5])
    with pytest.raises(InvalidTableError) as caught:
        table.check([AGE], COUNT)
    assert str(caught.value).splitlines()[1:] == [
        "  row 2, column 'count': 0: Must be between 1 and 9.",
        "  row 5, column 'age': -1: Must be between 0 and 120.",
    ]
    with pytest.raises(InvalidTableError, match=r"ages.csv: 1 fault"):
        table.check([AGE], None)


@given(numbers=st.sets(st.integers(0, 3000)).map(sorted), longest=st.integers(12, 2000))
def test_row_numbers_are_ranges_and_never_too_long(numbers: list[int], longest: int) -> None:
    text = row_ranges(numbers, longest)
    ranges = [part.split("-") for part in text.split(",") if part]
    told = [number for first, *last in ranges for number in range(int(first), int((last or [first])[0]) + 1)]
    assert told == numbers[: len(told)]
    assert len(text) <= longest
    assert len(told) == len(numbers) or len(text) > longest - 12
    assert all(int(first) < int(last[0]) for first, *last in ranges if last)
