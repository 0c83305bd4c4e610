"""Records that are kept as columns: the same as in a list, and encoded the same."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.arrays import cell_array
from tabserve.columns.boolean import Boolean
from tabserve.columns.features import Category, Feature, Integer, Number
from tabserve.errors import InvalidRecordsError
from tabserve.tables.kept import (
    CellColumn,
    CellRecords,
    Cells,
    ColumnRecords,
    ValueRecords,
    column_of,
    faulty_places,
    given_places,
    has_key,
    taken,
)
from tabserve.transformers import RecordEncoder
from tests.records import EVERY_KIND, EXTRAS, JSON, WITH_DEFAULTS, valid_values

AGE = Integer(name="age", low=0, high=120)
SHARE = Number(name="share", missing=True)
OWNER = Boolean(name="owner", words=("nein", "ja"))
FEATURES = (AGE, SHARE, OWNER)
VALUES = {"age": [35, 36, None, 300], "share": [0.5, None, 2, 1.5], "owner": [True, False, "x", True]}
RECORDS = [dict(zip(VALUES, row, strict=True)) for row in zip(*VALUES.values(), strict=True)]


def in_cells(*sizes: int) -> CellRecords:
    """The records as cells of texts, in batches of these sizes."""
    cells = {"age": ["35", " 36", "", "300"], "share": ["0,5", None, "2", "1,5"], "owner": ["ja", "nein", "x", "Ja"]}
    batches, begin = [], 0
    for size in sizes:
        rows = slice(begin, begin + size)
        arrays = [cell_array(column[rows]) for column in cells.values()]
        batches.append(pa.RecordBatch.from_arrays(arrays, list(cells)))
        begin += size
    return CellRecords(FEATURES, Cells(batches, ","))


KEPT = pytest.mark.parametrize("kept", [in_cells(4), in_cells(1, 2, 1), ValueRecords(VALUES, 4)])


@KEPT
def test_columns_are_a_sequence_of_records(kept: ColumnRecords) -> None:
    assert (len(kept), [*kept], kept[1], kept[-1]) == (4, RECORDS, RECORDS[1], RECORDS[-1])
    assert [*kept.column("share")] == VALUES["share"]
    with pytest.raises(IndexError):
        kept[4]


@given(data=st.data())
@KEPT
def test_some_of_them_are_those_of_a_list(kept: ColumnRecords, data: st.DataObject) -> None:
    places = sorted(data.draw(st.sets(st.integers(0, 3))))
    start, stop = data.draw(st.tuples(st.integers(-5, 5), st.integers(-5, 5) | st.none()))
    assert taken(kept, places) == [RECORDS[place] for place in places] == taken(RECORDS, places)
    assert kept[start:stop] == RECORDS[start:stop]
    assert isinstance(kept[start:stop], ColumnRecords)
    assert kept.column("age")[start:stop] == VALUES["age"][start:stop]


@KEPT
def test_what_they_have_under_a_key_is_known_without_records(kept: ColumnRecords) -> None:
    assert column_of(kept, "age") == column_of(RECORDS, "age") == VALUES["age"]
    assert column_of(kept, "colour") == [None] * 4
    assert has_key(kept, "age")
    assert not has_key(kept, "colour")


@KEPT
def test_rows_at_fault_are_those_of_the_records(kept: ColumnRecords) -> None:
    with pytest.raises(InvalidRecordsError) as caught:
        RecordEncoder(FEATURES).fit_transform(kept)
    assert caught.value.rows == [2, 3]
    good = taken(kept, [0, 1])
    matrix = RecordEncoder(FEATURES).fit_transform(RECORDS[:2])
    assert RecordEncoder(FEATURES).fit_transform(good).tobytes() == matrix.tobytes()


@pytest.mark.parametrize("feature", [AGE, SHARE])
def test_values_at_fault_are_found_by_distinct_cells(feature: Feature) -> None:
    values = VALUES[feature.name]
    column = in_cells(1, 3).column(feature.name)
    assert isinstance(column, CellColumn)
    assert faulty_places(column, feature) == faulty_places(values, feature)


def test_rows_without_a_column_keep_their_number() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["1", "2"])], ["default"])
    for kept in (CellRecords((), Cells([batch])), ValueRecords({"age": [1, 2]}, 2).without("age")):
        assert [*kept] == [{}, {}]
        assert len(kept[:1]) == 1
        assert RecordEncoder((SHARE,)).fit_transform(kept).shape == (2, 1)


@given(data=st.data())
@pytest.mark.parametrize("features", [EVERY_KIND, WITH_DEFAULTS])
def test_columns_of_values_mean_the_records_that_they_make(features: Sequence[Feature], data: st.DataObject) -> None:
    encoder = RecordEncoder(tuple(features), extras=EXTRAS).fit()
    rows = data.draw(st.integers(1, 4))
    given_ones = [one for one in (*features, *EXTRAS) if not one.optional or data.draw(st.booleans())]
    columns: dict[str, list[Any]] = {
        one.name: data.draw(
            st.lists(st.one_of(valid_values(one), valid_values(one), JSON), min_size=rows, max_size=rows)
        )
        for one in given_ones
    }
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    faulty = []
    for place, record in enumerate(records):
        try:
            encoder.transform([record])
        except InvalidRecordsError:
            faulty.append(place)
    matrix, found = encoder.transform_values(columns, rows)
    assert found.tolist() == faulty
    good = [place for place in range(rows) if place not in faulty]
    expected = encoder.transform([records[place] for place in good])
    assert matrix[good].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "cells", [["1", None, "3"], ["1", "?", "x"], [1, 2, 3], [1.5, float("nan"), "x"], [None] * 3, []], ids=str
)
@pytest.mark.parametrize("feature", [Number(name="a"), Category(name="a", values=("1", "x"))], ids=lambda one: one.kind)
def test_places_that_are_given_are_those_with_a_value(feature: Feature, cells: list[Any]) -> None:
    batches = [pa.RecordBatch.from_arrays([cell_array(some)], ["a"]) for some in (cells, cells[:2])]
    column = CellColumn(feature.with_markers(["?"]), Cells(batches))
    assert [*given_places(column)] == [*given_places([*column])]
    assert [*given_places([None, 0, "", False])] == [1, 2, 3]
