"""The columnar way from raw cells to the matrix means the same, to the last bit, as the way by records."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.columns.arrays import cell_array, python_cells
from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id, Ignored
from tabserve.columns.catalogue import FEATURE_KINDS
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.derived import DatePart, DaysBetween, DerivedColumn, Grouping, Quotient, YearsBetween
from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.columns.texts import Text
from tabserve.errors import InvalidRecordsError
from tabserve.pipeline import Pipeline
from tabserve.transformers import MinMax, RecordEncoder
from tests.records import EVERY_KIND, EXTRAS, JSON

MARKERS = st.sampled_from(
    [(), (), ("?",), ("-999",), ("NA", "-1", "0", "5."), ("9,5", "1.5", "1e3"), ("-",), ("2024-02-29", "29.02.2024")]
)
Ways = list[dict[str, Any]]
NUMBERS: Ways = [
    *({}, {"low": -1, "high": 99.5}, {"low": 0.5, "high": 2**53}, {"high": 2**53 + 1}),
    *({"unit": "kg"}, {"unit": "-1"}, {"unit": "€", "thousands": True}),
    *({"percent": True}, {"thousands": True}, {"percent": True, "thousands": True, "unit": "-"}),
]
WHOLE: Ways = [{}, {"low": 0, "high": 9}, {"low": -(2**53) - 1, "high": 2**60}, {"thousands": True}]
CODES = ("01234", "02138", "90210")
CATEGORIES: Ways = [
    *({"values": ("red", "2", "é")}, {"values": ("True", "-0.5"), "other": "else"}, {"other": "else"}),
    *({"values": CODES}, {"values": CODES, "other": "02138"}),
]
DATES: Ways = [
    *({}, {"low": "2000-01-01", "high": "2024-12-31"}, {"format": "%d.%m.%Y"}),
    *({"format": "%d/%m/%y", "high": "2024-12-31"}, {"format": "%Y%m%d"}, {"format": "%Y-%d-%m"}),
]
WAYS: dict[str, tuple[Ways, Any]] = {  # in which a kind may be declared, and a default
    "category": (CATEGORIES, None),
    "ordered": ([{"values": ("1", "2", "10")}, {"values": ("low", "high"), "other": "high"}], None),
    "number": (NUMBERS, 5),
    "integer": (WHOLE, 3),
    "cyclic": ([{"low": 0, "high": 24}, {"low": 1, "high": 12, "unit": "h"}, {"low": -2.5, "high": 7.5}], 7),
    "boolean": ([{}, {"words": ("nein", "ja")}, {"words": ("1", "2")}], True),
    "date": (DATES, "2024-02-29"),
    "datetime": (
        [{}, {"low": "2000-01-01T00:00:00"}, {"format": "%d.%m.%Y %H:%M"}],
        "2024-02-29T12:30:00",
    ),
    "text": ([{"buckets": 3}, {"longest": 5, "buckets": 4}], "Doe"),
    "id": ([{}], None),
    "ignore": ([{}], None),
}
NASTY_TEXT = (
    "|  |\u00a0|?| ? |-999|-999.0|NA|5.|5|5.0|05|+5|-5|-0|-0.0|0|0.0|.5|-.5|+.5|.|-|+|--5|5-|1.2.3|1-2|1e3|1E3|1e-3|"
    "1e999|1e400|-1e400|1e30|1e31|inf|-inf|nan|NaN|NULL|None|Infinity|0x10|1_000|٣|٢٠٢٤-٠٣-٣١|9,5|9,50|,5|5,|1,5|1.5|"
    "1,234|1.234|1,234.5|1.234,5|1 234|1'234|1\u00a0234,5|12,34|5%|5 %|12,5 %|0.07%|12 kg|12kg|12KG|kg|-1|-1 5|€ 5|"
    "9007199254740992|9007199254740993|-9007199254740993|9007199254740992.0|9007199254740993.0|18446744073709551616|"
    "0.1|0.30000000000000004|5e-324|1.7976931348623157e308|123456789012345678|3.141592653589793238462643383279|"
    " 7|7 |\t7\n|7\u2003|\u200b7|red|Red|red |2|2.0|2,0|2.000|é|e\u0301|True|TRUE|true|else|1234|1234.0|01234|2138|"
    "ja|JA|nein|yes|no|t|f|y|n|1|10|10.0|low|high|2024-02-29|2024-02-30|2024-13-01|1999-12-31|20240229|0000-01-01|"
    "0001-01-01|9999-12-31|2024-02-29 00:00:00|2024-02-29T00:00:00.000|2024-02-29T12:30:00|2024-02-29 12:30|"
    "2024-02-29T12:30:00.5Z|2024-02-29T24:00|2024-02-29T23:59:60|0001-01-01T00:00:00+14:00|29.02.2024|1.1.2024|"
    "29/02/24|31/12/68|29.02.2024 12:30|Mr. Doe|Doe|a\x00b|🚲|x x x"
)
NASTY = [
    *NASTY_TEXT.split("|"),
    *("9" * 40, "9" * 41, "0." + "1" * 38, "0." + "1" * 41, "0" * 50, "9" * 101),
    *("x" * 201, "x" * 1001),
]
TYPED: list[Any] = [
    *(True, False, 0, 1, 2, -1, 3, 5, 7, 10, 24, -999, 1234, 90210, 2**53 + 1, -(2**53) - 1, 2**62, 10**100, -0.0),
    *(0.5, 1.5, -0.5, 2.0, -999.0, 1e30, 1e31, 1e300, float("nan"), float("inf"), 2.0**53, 5e-324, 0.1),
    *(Decimal("1.50"), Decimal("-0"), Decimal(8), Decimal("1E+40"), date(2024, 2, 29), date(1, 1, 1)),
    *(datetime(2024, 2, 29), datetime(2024, 2, 29, 12, 30, 0, 1), datetime(1960, 1, 1, 23, 59, 59, 999999)),
    *(datetime(2024, 2, 29, 12, tzinfo=UTC), "\ud800", None),
]
PLAIN = st.from_regex(r"\A[+-]?[0-9]{0,5}[.,]?[0-9]{0,3}(e[+-]?[0-9])?\Z")
TEXTS = st.sampled_from(NASTY) | st.text(max_size=6) | PLAIN | st.floats().map(repr) | st.integers().map(str)
DAYS = st.dates().map(date.isoformat) | st.datetimes().map(lambda moment: moment.isoformat(" "))
ONE_KIND = [TEXTS, PLAIN, st.integers(-20, 20).map(str), DAYS, st.integers(), st.floats(), st.booleans(), st.dates()]
COLUMNS = [*ONE_KIND, st.datetimes(), st.sampled_from(TYPED), st.sampled_from(TYPED) | TEXTS | DAYS]


@st.composite
def features(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(FEATURE_KINDS)) -> Feature:
    kind = draw(st.sampled_from(kinds))
    ways, default = WAYS[kind]
    feature = FEATURE_KINDS[kind](name="x", **draw(st.sampled_from(ways))).with_markers(draw(MARKERS))
    if isinstance(feature, Category):
        default = feature.labels[-1]
    missing = [{"missing": True}, {"missing": False}]
    if default is not None and feature.problem(default) is None:
        missing.append({"missing": False, "default": default})
    return replace(feature, **draw(st.sampled_from(missing)))


def as_type(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array as another type that holds its cells, where there is one."""
    try:
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return array


OTHER_TYPES = [
    *(pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())),
    *(pa.int8(), pa.uint64(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(38, 3)),
    *(pa.timestamp("s"), pa.timestamp("us", "Europe/Berlin"), pa.date64(), pa.dictionary(pa.int32(), pa.float64())),
]


@st.composite
def columns(draw: st.DrawFn, size: int | None = None) -> pa.Array:
    """An array of any type, maybe a slice or a dictionary."""
    start, end = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    wanted = {"max_size": 12} if size is None else {"min_size": start + size + end, "max_size": start + size + end}
    cells = draw(st.lists(draw(st.sampled_from(COLUMNS)) | st.none(), **wanted))
    array = as_type(cell_array(cells), draw(st.sampled_from([*OTHER_TYPES, pa.string(), pa.string()])))
    if not pa.types.is_union(array.type) and draw(st.booleans()):
        array = array.dictionary_encode()
    return array.slice(start, max(0, len(array) - start - end) if size is None else size)


def codes_by_value(feature: Feature, values: list[Any]) -> tuple[np.ndarray, list[bool]]:
    """The codes that the encoder gives one by one, and which values it refuses."""
    encode, codes = feature.encoder(), []
    for value in values:
        try:
            codes.append(encode(value))
        except (AttributeError, KeyError, TypeError, ValueError):
            codes.append(None)
    return np.array([np.nan if code is None else code for code in codes], float), [code is None for code in codes]


def assert_same(codes: np.ndarray, expected: np.ndarray) -> None:
    """To the last bit: -0.0 is not 0.0."""
    assert codes.dtype == np.float64
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(np.signbit(codes) & ~np.isnan(codes), np.signbit(expected) & ~np.isnan(expected))


def test_every_kind_is_declared_here() -> None:
    assert set(WAYS) == set(FEATURE_KINDS)


def assert_means_the_same(feature: Feature, array: pa.Array, decimal: str) -> None:
    """Cells are encoded and typed as one by one."""
    values = [feature.from_cell(cell, decimal) for cell in python_cells(array)]
    expected, refused = codes_by_value(feature, values)
    codes, faulty = feature.encode_cells(array, decimal)
    assert faulty.tolist() == refused
    assert_same(codes, expected)
    typed = feature.typed_cells(array, decimal)
    assert [(type(value), repr(value)) for value in typed] == [(type(value), repr(value)) for value in values]
    assert python_cells(feature.typed_array(array, decimal)) == values


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(features(), columns(), st.sampled_from(".,"))
def test_cells_are_encoded_and_typed_as_one_by_one(feature: Feature, array: pa.Array, decimal: str) -> None:
    assert_means_the_same(feature, array, decimal)


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_special_cells_are_encoded_and_typed_as_one_by_one(kind: str, decimal: str) -> None:
    for way in WAYS[kind][0]:
        for markers in ((), ("-999", "?", "5.", "-"), ("9,5", "1.5", "1e3", "2024-02-29", "29.02.2024")):
            feature = FEATURE_KINDS[kind](name="x", **way).with_markers(markers)
            for cells in (NASTY, [*NASTY, *TYPED]):
                assert_means_the_same(feature, cell_array(cells), decimal)


@settings(deadline=None)
@given(st.sampled_from([*EVERY_KIND, *EXTRAS]), st.lists(JSON, max_size=8))
def test_json_values_are_encoded_as_one_by_one(feature: Feature, values: list[Any]) -> None:
    expected, refused = codes_by_value(feature, values)
    codes, faulty = feature.encode_values(values)
    assert faulty.tolist() == refused
    assert_same(codes, expected)


# whole rows

FEATURES: tuple[Feature, ...] = (
    Category(name="colour", values=("red", "2", "é"), other="red"),
    OrderedCategory(name="size", values=("low", "high"), missing=True),
    Number(name="amount", low=-(2**60), high=2**60, markers=("-999",), missing=True),
    Number(name="months", low=1e-300, high=1e300, default=7.0),
    Integer(name="count", low=1, high=2**60, missing=True),
    CyclicInteger(name="hour", low=0, high=24, missing=True),
    Boolean(name="flag", default=False),
    Date(name="born", missing=True),
    Datetime(name="seen", missing=True),
    Text(name="remark", longest=9, buckets=5, default="none"),
    Text(name="title", longest=9, buckets=3, missing=True),
)
DERIVED: tuple[DerivedColumn, ...] = (
    Quotient(name="rate", numerator="amount", denominator="months"),
    Quotient(name="share", numerator="amount", denominator="count"),
    Grouping(name="group", category="size", groups={"small": ("low",), "large": ("high",)}),
    Grouping(name="tone", category="colour", groups={"warm": ("red",), "other": ("2", "é")}),
    *(DatePart(name=part, date="born", part=part) for part in ("year", "quarter", "month", "week", "weekday")),
    *(DatePart(name=part, date="seen", part=part) for part in ("day", "day_of_year", "hour", "minute")),
    DaysBetween(name="days", start="born", end="seen"),
    YearsBetween(name="age", start="born", end="seen"),
)
EXAMPLES: dict[str, list[Any]] = {  # valid cells
    "colour": ["red", "2", 2, "é", "blue"],
    "size": ["low", " high ", None],
    "amount": ["1.5", "-999", 2**53 + 1, 0.1, "12345678901234567", "-0", -7],
    "months": ["3", 1e-300, 2**53 + 1, "0.7", 11, None],
    "count": ["3", 2**53 + 1, 3.0, "9007199254740993", 7, None],
    "hour": ["0", "24", 23],
    "flag": ["yes", "FALSE", True, 0],
    "born": ["2024-02-29", date(1980, 2, 29), "1969-12-31", "0001-01-01", datetime(2000, 12, 31), None],
    "seen": ["2024-02-28T23:59:59.999999", "9999-12-31T23:59", datetime(2024, 12, 30, 12, 7), "1961-02-03", None],
    "remark": ["Mr. Doe", "a b a", None],
    "title": ["Mr. Doe", 1984, None],
    "id": ["0012", 12, None],
    "note": [None, "anything"],
    "weight": ["3", 9],
    "day": ["2024-02-29", None],
}


VALID = {name: cell_array([*cells[:1] * 4]) for name, cells in EXAMPLES.items()}


@st.composite
def tables(draw: st.DrawFn) -> pa.RecordBatch:
    """Rows of mostly valid cells, in which columns may be absent."""
    size = draw(st.integers(0, 5))
    arrays = {}
    for name, examples in EXAMPLES.items():
        if draw(st.sampled_from([True] * 9 + [False])):
            valid = st.lists(st.sampled_from(examples), min_size=size, max_size=size).map(cell_array)
            arrays[name] = draw(st.one_of(*[valid] * 9, columns(size)))
    arrays["target"] = cell_array(["no feature"] * size)
    return pa.RecordBatch.from_pydict(arrays)


@settings(deadline=None)
@given(tables(), st.sampled_from(".,"))
def test_a_table_is_encoded_as_its_records(cells: pa.RecordBatch, decimal: str) -> None:
    assert_encoded_as_records(cells, decimal)


def assert_encoded_as_records(cells: pa.RecordBatch, decimal: str = ".") -> None:
    encoder = RecordEncoder(FEATURES, DERIVED, EXTRAS).fit()
    matrix, faulty = encoder.transform_cells(cells, decimal)
    known = {feature.name: feature for feature in (*FEATURES, *EXTRAS)}
    typed = {name: known[name].typed_cells(cells[name], decimal) for name in cells.schema.names if name in known}
    refused = []
    for row in range(cells.num_rows):
        record = {name: values[row] for name, values in typed.items()}
        try:
            assert_same(matrix[row], encoder.transform([record])[0])
        except InvalidRecordsError:
            refused.append(row)
            assert np.isnan(matrix[row]).all()
    assert faulty.tolist() == refused
    assert matrix.shape == (cells.num_rows, len(encoder.matrix_columns))


MOMENTS = st.sampled_from(
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00", "0001-01-01T00:00", "1969-12-31T23:59:59.9999"]
)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(
    st.lists(st.none() | st.dates().map(date.isoformat), min_size=4, max_size=4),
    st.lists(st.none() | MOMENTS | st.datetimes().map(datetime.isoformat), min_size=4, max_size=4),
)
def test_parts_of_dates_are_those_of_the_calendar(days: list[Any], moments: list[Any]) -> None:
    assert_encoded_as_records(pa.RecordBatch.from_pydict({**VALID, "born": pa.array(days), "seen": pa.array(moments)}))


def test_an_absent_column_is_empty_and_at_fault_where_it_is_needed() -> None:
    encoder = RecordEncoder(
        (Integer(name="needed"), Integer(name="known", default=7), Integer(name="open", missing=True))
    )
    matrix, faulty = encoder.fit().transform_cells(pa.RecordBatch.from_pydict({"needed": ["1", None]}))
    np.testing.assert_equal(matrix, [[1.0, 7.0, np.nan], [np.nan] * 3])
    assert faulty.tolist() == [1]
    assert encoder.transform_cells(pa.RecordBatch.from_pydict({"open": ["1"] * 3}))[1].tolist() == [0, 1, 2]


def test_a_pipeline_marks_faulty_rows_after_all_its_parts() -> None:
    pipeline = Pipeline(RecordEncoder((Integer(name="x", missing=True),)), (MinMax(),)).fit([{"x": 0}, {"x": 4}])
    matrix, faulty = pipeline.transform_cells(pa.RecordBatch.from_pydict({"x": ["1", "a", None, "4"]}))
    np.testing.assert_equal(matrix, [[0.25], [np.nan], [0.0], [1.0]])
    assert faulty.tolist() == [1]


def test_a_quotient_of_large_whole_numbers_is_that_of_their_floats() -> None:
    features = (Integer(name="a", low=0), Integer(name="b", low=1))
    encoder = RecordEncoder(features, (Quotient(name="q", numerator="a", denominator="b"),)).fit()
    cells = pa.RecordBatch.from_pydict({"a": [2**54 + 3], "b": [2**53 + 1]})
    by_record = encoder.transform([{"a": 2**54 + 3, "b": 2**53 + 1}])
    np.testing.assert_array_equal(encoder.transform_cells(cells)[0], by_record)
    assert by_record[0, 2] == float(2**54 + 3) / float(2**53 + 1)


def test_ids_keep_their_kind_and_others_are_read() -> None:
    assert Id(name="x").typed_array(cell_array([1, 2, None])).type == pa.int64()
    assert Id(name="x").typed_array(cell_array(["1", "2"])).to_pylist() == ["1", "2"]
    assert Number(name="x").typed_array(cell_array(["1", "2.5", ""])).type == pa.float64()
    assert Boolean(name="x").typed_array(cell_array(["yes", "no"])).type == pa.bool_()
    assert Ignored(name="x").typed_array(cell_array(["yes", "no"])).to_pylist() == ["yes", "no"]


@given(
    feature=st.sampled_from([Number, Integer, CyclicInteger]).flatmap(
        lambda kind: st.sampled_from(
            [
                kind(name="one", low=-3, high=9),
                kind(name="one", low=-3, high=9, missing=True),
                kind(name="one", low=-3, high=9, default=9),
                kind(name="one", low=0, high=2**53),
            ]
        )
    ),
    values=st.lists(st.floats(-12, 12) | st.integers(-4, 10).map(float) | st.just(float("nan")))
    | st.lists(st.integers(-4, 10) | st.integers(2**53 - 2, 2**53 + 2) | st.just(-(2**63))),
)
def test_an_array_of_numbers_is_encoded_as_a_list(feature: Feature, values: list[Any]) -> None:
    array = np.array(values, np.int64 if values and type(values[0]) is int else np.float64)
    expected, faulty = feature.encode_values([None if value != value else value for value in values])
    codes, is_at_fault = feature.encode_values(array)
    np.testing.assert_array_equal(is_at_fault, faulty)
    np.testing.assert_array_equal(codes.view(np.int64), expected.view(np.int64))
