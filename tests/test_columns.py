"""Every kind of column keeps the same promises."""

import datetime
import json
import math
import pickle
from dataclasses import replace
from decimal import Decimal
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id, Ignored
from tabserve.columns.catalogue import DERIVED_KINDS, FEATURE_KINDS
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.derived import DatePart, DaysBetween, DerivedColumn, Grouping, Quotient, YearsBetween
from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.columns.texts import Text
from tabserve.errors import InvalidUseCaseError

MANY = tuple(f"carrier {number}" for number in range(5000))
EXAMPLES: dict[str, tuple[Feature, Any, str]] = {  # a valid value, and a cell that holds it
    "category": (Category(name="x", values=("red", "2")), "2", " 2.0 "),
    "category with other": (Category(name="x", values=("red", "green"), other="another"), "blue", "blue"),
    "category to learn": (Category(name="x", other="another"), "blue", "blue"),
    "category of many": (Category(name="x", values=MANY), "carrier 7", "carrier 7"),
    "ordered": (OrderedCategory(name="x", values=("low", "high")), "low", "low"),
    "number": (Number(name="x", low=-1, high=1e6, unit="kg", thousands=True), 1389.5, "1,389.5 kg"),
    "integer": (Integer(name="x", low=0, high=9), 3, "3"),
    "cyclic": (CyclicInteger(name="x", low=0, high=24), 24, "24"),
    "boolean": (Boolean(name="x", words=("nein", "ja")), True, "JA"),
    "date": (Date(name="x", low="2000-01-01", format="%d.%m.%Y"), "2024-03-31", "31.03.2024"),
    "datetime": (Datetime(name="x"), "2024-03-31T14:30:00", "2024-03-31T14:30:00"),
    "text": (Text(name="x", longest=20), "Mr. Doe", "Mr. Doe"),
    "id": (Id(name="x"), "0012", "0012"),
    "ignore": (Ignored(name="x"), "anything", "anything"),
}
FEATURES = [
    variant
    for feature, value, _ in EXAMPLES.values()
    for variant in (
        replace(feature, missing=False),
        replace(feature, missing=True),
        replace(feature, missing=False, default=value),
    )
]
SPECIAL: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    1.0,
    3,
    3.5,
    10**400,
    math.nan,
    math.inf,
    -math.inf,
    "",
    " ",
    "\ud800",
    "x" * 201,
    "x" * 2000,
    " red",
    "red\n",
    "2024-02-30",
    "2024-02-29",
    "1999-12-31",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-12:00",
    "2024-03-31T14:30:00Z",
    "2024-03-31 14:30",
    "20240331",
    "2024-W13-7",
    "٢٠٢٤-٠٣-٣١",
    b"red",
    ["red"],
    {},
    np.float64(1),
    np.bool_(True),
    np.str_("red"),
    datetime.date(2024, 3, 31),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
moments = st.datetimes(timezones=st.none() | st.timezones()).map(datetime.datetime.isoformat)
values = (
    st.sampled_from(SPECIAL)
    | json_values
    | st.dates().map(datetime.date.isoformat)
    | moments
    | st.sampled_from([value for _, value, _ in EXAMPLES.values()])
)
features = st.sampled_from(FEATURES)


def accepts(feature: Feature, value: Any) -> bool:
    """Whether the encoder takes a value."""
    try:
        code = feature.encoder()(value)
    except (KeyError, TypeError, ValueError):
        return False
    assert isinstance(code, int | float)
    return True


def test_every_kind_has_a_name_of_its_own_and_an_example_here() -> None:
    assert {type(feature) for feature, _, _ in EXAMPLES.values()} == set(FEATURE_KINDS.values())
    assert all(kind.kind == name for name, kind in {**FEATURE_KINDS, **DERIVED_KINDS}.items())
    assert len({**FEATURE_KINDS, **DERIVED_KINDS}) == len(FEATURE_KINDS) + len(DERIVED_KINDS)


@settings(max_examples=5 * settings().max_examples, deadline=None)
@given(feature=features, value=values)
def test_a_value_has_no_problem_exactly_when_the_encoder_takes_it(feature: Feature, value: Any) -> None:
    assert accepts(feature, value) == (feature.problem(value) is None)
    assert (feature.cell_problem(value) is None) == (feature.problem(value) is None)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: f"{feature.kind}-{feature.missing}")
def test_special_values_are_judged_alike(feature: Feature) -> None:
    for value in SPECIAL:
        assert accepts(feature, value) == (feature.problem(value) is None), value


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(feature=features, value=json_values | moments | st.dates().map(datetime.date.isoformat))
def test_the_schema_refuses_no_valid_value_and_says_the_kind(feature: Feature, value: Any) -> None:
    schema = json.loads(json.dumps(feature.json_schema()))
    Draft202012Validator.check_schema(schema)
    if feature.problem(value) is None and value == value:
        assert Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(("feature", "value", "cell"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_cell_becomes_the_value_that_json_would_hold(feature: Feature, value: Any, cell: str) -> None:
    for parsed in (feature.parse(cell), feature.parse(f"\t{cell} "), feature.from_cell(cell)):
        assert (parsed, type(parsed)) == (value, type(value))
    assert feature.problem(value) is None
    assert Draft202012Validator(feature.json_schema()).is_valid(value)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: f"{feature.kind}-{feature.missing}")
def test_blank_cells_and_markers_are_missing(feature: Feature) -> None:
    marked = feature.with_markers(("?", "-999"))
    for cell in ("", "  ", "\u00a0", "?", " ? "):
        assert marked.parse(cell) is None
    for typed in (None, math.nan, "?", " ", -999, -999.0):
        assert marked.from_cell(typed) is None
    assert marked.parse("??") is not None
    if not feature.optional:
        assert "declare missing = true" in str(feature.cell_problem(None))


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(
    feature=features,
    cell=st.text(max_size=20) | st.from_regex(r"[+-]?[0-9.,' ]{1,12}(%| ?kg)?", fullmatch=True),
    decimal=st.sampled_from(".,"),
)
def test_any_text_can_be_parsed_judged_and_said(feature: Feature, cell: str, decimal: str) -> None:
    value = feature.parse(cell, decimal)
    assert accepts(feature, value) == (feature.problem(value) is None)
    if accepts(feature, value):
        assert feature.in_words(feature.encoder()(value)).startswith("X: ")
    elif isinstance(value, str) and len(value) > 12:
        assert value not in str(feature.cell_problem(value))


typed_cells = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(feature=features, cell=typed_cells)
def test_any_typed_cell_becomes_a_value_that_can_be_judged(feature: Feature, cell: Any) -> None:
    value = feature.from_cell(cell)
    assert value is None or isinstance(value, str | int | float | bool)
    assert accepts(feature, value) == (feature.problem(value) is None)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: f"{feature.kind}-{feature.missing}")
def test_encoders_can_be_pickled_and_keep_their_codes(feature: Feature) -> None:
    value = next(
        value for one, value, _ in EXAMPLES.values() if feature.kind == one.kind and not feature.problem(value)
    )
    np.testing.assert_equal(pickle.loads(pickle.dumps(feature.encoder()))(value), feature.encoder()(value))


def test_the_bytes_of_a_category_do_not_depend_on_what_it_has_read() -> None:
    feature = Category(name="x", values=("01", "02"), other="else")
    before = pickle.dumps(feature)
    assert (feature.from_cell(1), feature.from_cell("2")) == ("01", "02")
    assert pickle.dumps(feature) == before
    assert pickle.loads(before) == feature


# typed cells


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        ("category", 2, "2"),
        ("category", 2.0, "2"),
        ("category", "red ", "red"),
        ("number", "8", 8),
        ("number", Decimal("1.50"), 1.5),
        ("number", Decimal(8), 8),
        ("integer", "8", 8),
        ("integer", 8.0, 8.0),
        ("integer", True, True),
        ("boolean", True, True),
        ("boolean", 0, False),
        ("boolean", 1.0, True),
        ("boolean", "TRUE", True),
        ("date", datetime.date(2024, 3, 31), "2024-03-31"),
        ("date", datetime.datetime(2024, 3, 31), "2024-03-31"),
        ("date", "2024-03-31 00:00:00", "2024-03-31"),
        ("datetime", datetime.datetime(2024, 3, 31, 14, 30), "2024-03-31T14:30:00"),
        ("datetime", datetime.date(2024, 3, 31), "2024-03-31T00:00:00"),
        ("datetime", "2024-03-31", "2024-03-31T00:00:00"),
        ("text", 1984, "1984"),
        ("id", 17.0, 17),
        ("id", "017", "017"),
        ("ignore", 17, 17),
    ],
)
def test_a_typed_cell_is_read_by_the_declared_kind(name: str, cell: Any, value: Any) -> None:
    read = EXAMPLES[name][0].from_cell(cell)
    assert (read, type(read)) == (value, type(value))


def test_a_typed_date_does_not_depend_on_how_texts_write_dates() -> None:
    assert Date(name="x", format="%Y-%d-%m").from_cell(datetime.date(2024, 3, 4)) == "2024-03-04"


def test_a_truth_value_of_a_sheet_finds_the_category_that_spells_it() -> None:
    assert Category(name="x", values=("True", "False")).from_cell(True) == "True"
    assert Category(name="x", values=("FALSE", "TRUE")).from_cell(True) == "TRUE"


# numbers


@pytest.mark.parametrize(
    ("text", "decimal", "options", "number"),
    [
        (".05", ".", {}, 0.05),
        ("+.5", ".", {}, 0.5),
        ("5.", ".", {}, 5.0),
        ("-1e3", ".", {}, -1000.0),
        ("59,56", ",", {}, 59.56),
        (",5", ",", {}, 0.5),
        ("141.605,96", ",", {}, 141605.96),
        ("1\u00a0234\u00a0567", ",", {}, 1234567),
        ("1'234,5", ",", {}, 1234.5),
        ("1.234", ",", {}, 1234),
        ("1,389", ".", {"thousands": True}, 1389),
        ("1,234,567.5", ".", {"thousands": True}, 1234567.5),
        ("5%", ".", {"percent": True}, 0.05),
        ("12,5 %", ",", {"percent": True}, 0.125),
        ("7 %", ".", {"percent": True}, 0.07),
        ("0.05", ".", {"percent": True}, 0.05),
        ("12 kg", ".", {"unit": "kg"}, 12),
        ("12KG", ".", {"unit": "kg"}, 12),
        ("€ 5", ".", {"unit": "€"}, 5),
        ("-€5", ".", {"unit": "€"}, -5),
        ("1.234,50 €", ",", {"unit": "€"}, 1234.5),
    ],
)
def test_a_number_is_read_as_it_is_declared(text: str, decimal: str, options: dict[str, Any], number: float) -> None:
    parsed = Number(name="x", **options).parse(text, decimal)
    assert (parsed, type(parsed)) == (number, type(number))


@pytest.mark.parametrize(
    ("text", "decimal", "options"),
    [
        ("1,389", ".", {}),
        ("0.125", ",", {}),
        ("12.5", ",", {}),
        ("1.2345", ",", {}),
        ("1,23,456", ".", {"thousands": True}),
        ("1,234'567", ".", {"thousands": True}),
        ("0,389", ".", {"thousands": True}),
        ("5%", ".", {}),
        ("%", ".", {"percent": True}),
        ("12 lb", ".", {"unit": "kg"}),
        ("kg", ".", {"unit": "kg"}),
        (".", ".", {}),
        ("nan", ".", {}),
        ("Infinity", ".", {}),
        ("1_000", ".", {}),
        ("٣", ".", {}),
        ("9" * 5000, ".", {}),
    ],
)
def test_what_is_not_surely_a_number_stays_a_text(text: str, decimal: str, options: dict[str, Any]) -> None:
    assert Number(name="x", **options).parse(text, decimal) == text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("5%", "declare percent = true or write 0.05"),
        ("1,389", "declare thousands = true or write 1389"),
        ("59,56", "declare decimal = ','"),
        ("12 kg", "unit = 'kg'"),
        ("?", "markers = ['?'] and missing = true"),
    ],
)
def test_the_problem_of_a_text_says_what_to_declare_or_to_write(text: str, advice: str) -> None:
    feature = Integer(name="x", low=0, high=9)
    assert advice in str(feature.cell_problem(text))
    assert feature.problem(text) == "Not a valid integer."


@settings(deadline=None)
@given(number=st.integers(-(10**12), 10**12), decimals=st.integers(0, 99))
def test_grouped_digits_mean_the_same_in_both_notations(number: int, decimals: int) -> None:
    english = f"{number:,}.{decimals:02d}"
    german = english.translate(str.maketrans(",.", ".,"))
    expected = float(f"{number}.{decimals:02d}")
    assert Number(name="x", thousands=True).parse(english) == expected
    assert Number(name="x").parse(german, ",") == expected


def test_unit_and_percent_are_said() -> None:
    assert Number(name="weight", unit="kg").in_words(12.5) == "Weight: 12.5 kg"
    assert Number(name="discount", percent=True).in_words(0.07) == "Discount: 7 %"
    assert "In kg." in Number(name="weight", unit="kg").json_schema()["description"]


# categories


def test_many_values_are_listed_in_part_in_errors_and_schema() -> None:
    feature = Category(name="x", values=MANY)
    problem = str(feature.problem("CARRIER  4999"))
    assert problem.startswith("Must be one of: carrier 4999, carrier 0, carrier 1, ")
    assert problem.endswith(", … and 4,980 more.")
    schema = feature.json_schema()
    assert len(json.dumps(schema)) < 1000
    assert (schema["type"], schema["maxLength"]) == ("string", len("carrier 4999"))
    assert "One of 5,000 values" in schema["description"]


def test_a_value_that_training_never_saw_counts_as_the_other() -> None:
    for other, code in (("red", 0.0), ("another", 2.0)):
        feature = Category(name="x", values=("red", "green"), other=other)
        assert feature.encoder()("blue") == code
        assert feature.in_words(feature.encoder()("blue")) == f"X: {other}"


def test_a_category_learns_the_values_that_it_was_not_given() -> None:
    feature = Category(name="x", other="another")
    learnt = feature.learnt(["b", None, "a", "b"])
    assert learnt == Category(name="x", values=("a", "b"), other="another")
    assert learnt.learnt(["c"]) == learnt
    assert [*map(learnt.encoder(), ("a", "b", "c", "another"))] == [0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1234, "A leading zero may have been lost: 01234."),
        ("1234", "A leading zero may have been lost: 01234."),
        (90210, "Send it as a text, in quotes."),
        ("90210 ", "There is a blank before or after the text: remove it."),
    ],
)
def test_a_code_that_was_changed_on_its_way_is_recognised(value: Any, hint: str) -> None:
    zip_code = Category(name="zip", values=("01234", "02138", "90210"))
    assert zip_code.problem(value) == f"Must be one of: 01234, 02138, 90210. {hint}"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Category(name="x"),
        lambda: OrderedCategory(name="x", other="a"),
        lambda: Category(name="x", values=("a", "?"), markers=("?",)),
        lambda: Number(name="x", markers=(" ",)),
        lambda: Boolean(name="x", words=("Ja", "ja")),
        lambda: Date(name="x", low="31.12.2024"),
        lambda: Date(name="x", low="2024-12-31", high="2024-01-01"),
        lambda: Date(name="x", format="%d.%m."),
        lambda: Date(name="x", format="%Q"),
        lambda: Datetime(name="x", low="2024-12-31"),
        lambda: Text(name="x", buckets=0),
        lambda: Text(name="x", buckets=10**9),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_in_one_sentence(make: Any) -> None:
    with pytest.raises(InvalidUseCaseError, match=r"'x'[^\n]{20,200}\.$"):
        make()


# yes and no


@pytest.mark.parametrize("pair", ["false true", "no yes", "0 1", "f t", "n y", "FALSE TRUE", "No Yes", "nein ja"])
def test_yes_and_no_have_many_words_in_files(pair: str) -> None:
    feature = Boolean(name="x", words=("nein", "ja"))
    assert [*map(feature.parse, pair.split())] == [False, True]
    assert feature.parse("perhaps") == "perhaps"
    assert feature.problem("yes") == "Must be true or false."


def test_the_sheet_s_own_words_come_first() -> None:
    feature = Boolean(name="x", words=("1", "2"))
    assert [*map(feature.parse, ("1", "2"))] == [False, True]
    assert feature.in_words(1.0) == "X: 2"


# dates


@settings(deadline=None)
@given(day=st.dates())
def test_a_date_survives_encoding_and_any_way_to_write_it(day: datetime.date) -> None:
    feature = Date(name="day", format="%d.%m.%Y")
    code = feature.encoder()(day.isoformat())
    assert code == (day - datetime.date(1970, 1, 1)).days
    assert feature.in_words(code) == f"Day: {day.isoformat()}"
    assert feature.parse(day.isoformat()) == day.isoformat() == feature.from_cell(day)
    assert feature.parse(f"{day.day:02d}.{day.month:02d}.{day.year:04d}") == day.isoformat()


def test_an_offset_is_converted_to_utc_and_times_without_one_are_in_utc() -> None:
    encode = Datetime(name="x").encoder()
    assert encode("2024-03-31T14:30:00+02:00") == encode("2024-03-31T12:30:00Z") == encode("2024-03-31 12:30")


def test_bounds_of_dates_hold() -> None:
    feature = Date(name="x", low="2024-01-01", high="2024-12-31")
    assert feature.problem("2024-12-31") is None
    assert feature.problem("2025-01-01") == "Must be a date from 2024-01-01 to 2024-12-31."
    assert "format = '%d.%m.%Y'" in str(feature.cell_problem("31.12.2024"))


BORN, SEEN = Date(name="born", missing=True), Datetime(name="seen", missing=True)


@pytest.mark.parametrize(
    ("column", "born", "seen", "number", "words"),
    [
        (DatePart(name="weekday", date="seen", part="weekday"), None, "2024-03-29T10:00:00", 4, "Weekday: Friday"),
        (DatePart(name="month", date="born", part="month"), "2000-02-29", None, 2, "Month: February"),
        (DatePart(name="year", date="born", part="year"), "2000-02-29", None, 2000, "Year: 2000"),
        (DatePart(name="hour", date="seen", part="hour"), None, "2024-03-29T23:59:59", 23, "Hour: 23"),
        (DatePart(name="hour", date="seen", part="hour"), None, "9999-12-31T13:00:00", 13, "Hour: 13"),
        (DatePart(name="minute", date="seen", part="minute"), None, "1900-01-01T10:07:00", 7, "Minute: 7"),
        (DatePart(name="week", date="born", part="week"), "2021-01-03", None, 53, "Week: 53"),
        (DatePart(name="quarter", date="born", part="quarter"), "2021-12-31", None, 4, "Quarter: 4"),
        (DatePart(name="n", date="born", part="day_of_year"), "2020-12-31", None, 366, "N: 366"),
        (DaysBetween(name="d", start="born", end="seen"), "2024-03-01", "2024-03-02T12:00:00", 1.5, "D: 1.5 days"),
        (DaysBetween(name="d", start="born", end="seen"), None, "2024-03-02T12:00:00", math.nan, "D: not given"),
        (YearsBetween(name="age", start="born", end="seen"), "2000-02-29", "2024-02-28T23:00:00", 23, "Age: 23"),
        (YearsBetween(name="age", start="born", end="seen"), "2000-02-29", "2024-02-29T00:00:00", 24, "Age: 24"),
        (YearsBetween(name="age", start="born", end="seen"), "2000-02-29", None, math.nan, "Age: not given"),
        (DatePart(name="hour", date="seen", part="hour"), None, None, math.nan, "Hour: not given"),
    ],
)
def test_what_is_derived_from_dates_is_computed_from_the_encoded_row(
    column: DerivedColumn, born: str | None, seen: str | None, number: float, words: str
) -> None:
    column.check({"born": BORN, "seen": SEEN})
    compute = pickle.loads(pickle.dumps(column.computer((BORN, SEEN))))
    code = compute([BORN.encoder()(born), SEEN.encoder()(seen)])
    assert code == pytest.approx(number, nan_ok=True)
    assert column.in_words(code) == words


@settings(deadline=None)
@given(moment=st.datetimes())
def test_parts_of_a_time_are_those_of_the_calendar(moment: datetime.datetime) -> None:
    moment = moment.replace(microsecond=0)
    code = SEEN.encoder()(moment.isoformat())
    for part in ("year", "month", "day", "hour", "minute"):
        compute = DatePart(name="x", date="seen", part=part).computer((SEEN,))
        assert compute([code]) == getattr(moment, part)


@pytest.mark.parametrize(
    "column",
    [
        DatePart(name="x", date="born", part="hour"),
        DatePart(name="x", date="seen", part="century"),
        DatePart(name="x", date="amount", part="year"),
        DaysBetween(name="x", start="born", end="amount"),
        YearsBetween(name="x", start="nobody", end="seen"),
    ],
)
def test_what_is_no_part_of_a_date_is_refused(column: DerivedColumn) -> None:
    with pytest.raises(InvalidUseCaseError, match=r"^'x' must"):
        column.check({"born": BORN, "seen": SEEN, "amount": Number(name="amount")})


def test_only_what_rises_with_time_has_an_order() -> None:
    assert DatePart(name="x", date="born", part="year").is_ordered
    assert not DatePart(name="x", date="born", part="weekday").is_ordered
    assert DaysBetween(name="x", start="born", end="seen").is_ordered


def test_a_category_with_another_group_needs_a_group_for_it() -> None:
    category = Category(name="c", values=("a", "b"), other="else")
    grouping = Grouping(name="g", category="c", groups={"one": ("a", "b"), "two": ("else",)})
    grouping.check({"c": category})
    assert grouping.computer((category,))([category.encoder()("unseen")]) == 1.0


def test_a_quotient_s_sentence_is_short() -> None:
    assert Quotient(name="rate", numerator="a", denominator="b").in_words(1 / 3) == "Rate: 0.333333"


# texts


def test_equal_words_fall_into_equal_buckets_whatever_their_case() -> None:
    count = Text(name="x").counter()
    one, other, longer = count(["Mr. Doe", "doe MR", "Mr. Doe Mr."])
    np.testing.assert_array_equal(one, other)
    assert (longer >= one).all()
    assert longer.sum() > one.sum() > 0


def test_hashes_are_the_same_in_every_process() -> None:
    (row,) = Text(name="x", buckets=7).counter()(["ab"])
    parts = (" ab ", " ab", "ab ")  # the word, and its letters by three
    assert row.tolist() == np.bincount([crc32(part.encode()) % 7 for part in parts], minlength=7).tolist()


def test_a_missing_text_has_no_words_and_no_length() -> None:
    feature = Text(name="x", missing=True)
    assert math.isnan(feature.encoder()(None))
    assert not feature.counter()([None]).any()
    assert feature.in_words(7.0) == "X: 7 characters"


@pytest.mark.parametrize(
    ("high", "text", "value"),
    [
        ("2025-06-30", "30.06.25", "2025-06-30"),
        ("2025-06-30", "01.07.25", "1925-07-01"),
        ("2025-06-30", "01.05.60", "1960-05-01"),
        ("", "01.05.60", "2060-05-01"),
        ("2025-06-30", "2060-05-01", "2060-05-01"),
    ],
)
def test_a_year_of_two_digits_is_never_after_the_last_date(high: str, text: str, value: str) -> None:
    assert Date(name="born", format="%d.%m.%y", high=high).parse(text) == value


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("checking_balance", "Checking balance"),
        ("MonthlyIncome", "Monthly income"),
        ("temp_max", "Temp max"),
        ("MOSTYPE", "MOSTYPE"),
        ("x", "X"),
        ("Education-Num", "Education-num"),
        ("Lot_Area", "Lot area"),
        ("fläche_m2", "Fläche m2"),
    ],
)
def test_a_name_reads_as_words(name: str, title: str) -> None:
    assert Integer(name=name, low=0, high=1).title == title
