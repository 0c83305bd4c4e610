"""Features: one declaration says in four ways which values are valid."""

import dataclasses
import json
import math
import pickle
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.columns.derived import DerivedColumn, Grouping, Quotient
from tabserve.columns.features import Category, Column, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.errors import InvalidUseCaseError


class Text(str):
    """A subclass of str, as in numpy and markup libraries."""

    __slots__ = ()


COLOUR = Category(name="colour", description="Colour", values=("red", "green", "1"))
SIZE = OrderedCategory(name="size", description="Size", values=("small", "large"))
WEIGHT = Number(name="weight", description="Weight", low=-1.5, high=1e300)
AGE = Integer(name="age", description="Age", low=0, high=120)
HOUR = CyclicInteger(name="hour", description="Hour", low=0, high=24)
KINDS: dict[str, tuple[type[Feature], dict[str, Any], Any]] = {  # each with a value that may be its default
    "category": (Category, {"values": COLOUR.values}, "green"),
    "ordered": (OrderedCategory, {"values": SIZE.values}, "small"),
    "number": (Number, {"low": -1.5, "high": 1e300}, 2.5),
    "integer": (Integer, {"low": 0, "high": 120}, 0),
    "cyclic": (CyclicInteger, {"low": 0, "high": 24}, 24),
}
FEATURES = [
    kind(name=name, description="", **arguments, **absence)
    for name, (kind, arguments, default) in KINDS.items()
    for absence in ({}, {"missing": True}, {"default": default})
]
WITH_DEFAULT = [feature for feature in FEATURES if feature.default is not None]
SPECIAL: list[Any] = [
    None,
    True,
    False,
    0,
    -0.0,
    35,
    35.0,
    35.5,
    120,
    121,
    10**30,
    -(10**30),
    10**400,
    5e-324,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    "red",
    "1",
    "RED",
    " red",
    "",
    "35",
    Text("red"),
    b"red",
    np.str_("red"),
    np.float64(35),
    np.int64(35),
    np.bool_(True),
    np.float32("nan"),
    complex(35),
    [],
    {},
    ("red",),
    ["red"],
    {"red": 1},
    object(),
]
values = (
    st.sampled_from(SPECIAL)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.text(max_size=5)
    | st.sampled_from(COLOUR.values + SIZE.values)
    | st.builds(Text, st.sampled_from(COLOUR.values + SIZE.values))
)
features = st.sampled_from(FEATURES)
any_feature = pytest.mark.parametrize(
    "feature", FEATURES, ids=lambda feature: f"{feature.name}-{feature.missing}-{feature.default}"
)
with_default = pytest.mark.parametrize("feature", WITH_DEFAULT, ids=lambda feature: feature.name)


def encoded(feature: Feature, value: Any) -> float | None:
    """The value's number; None when the encoder refuses it."""
    try:
        return feature.encoder()(value)
    except (KeyError, TypeError, ValueError):
        return None


@settings(max_examples=400, deadline=None)
@given(feature=features, value=values)
def test_the_encoder_takes_a_value_exactly_when_it_has_no_problem(feature: Feature, value: Any) -> None:
    assert (encoded(feature, value) is not None) == (feature.problem(value) is None)


@any_feature
def test_the_encoder_and_problem_agree_on_every_special_value(feature: Feature) -> None:
    for value in SPECIAL:
        assert (encoded(feature, value) is not None) == (feature.problem(value) is None), value


@settings(deadline=None)
@given(feature=features, value=values)
def test_a_number_that_was_encoded_fits_a_float64_matrix(feature: Feature, value: Any) -> None:
    code = encoded(feature, value)
    if code is not None:
        (cell,) = np.array([code], dtype=np.float64)
        assert np.isnan(cell) if value is None and feature.missing else np.isfinite(cell)


@settings(deadline=None)
@given(feature=features, value=values)
def test_a_problem_is_a_sentence_that_repeats_no_value(feature: Feature, value: Any) -> None:
    problem = feature.problem(value)
    sentences = [
        None,
        "Field may not be null.",
        "Not a valid number.",
        "Not a valid integer.",
        "Must be between -1.5 and 1e+300.",
        "Must be between 0 and 120.",
        "Must be between 0 and 24.",
        "Must be one of: red, green, 1.",
        "Must be one of: red, green, 1. There is a blank before or after the text: remove it.",
        "Must be one of: red, green, 1. Send it as a text, in quotes.",
        "Must be one of: small, large.",
    ]
    assert problem in sentences


@pytest.mark.parametrize(
    ("feature", "value", "number"),
    [
        (COLOUR, "red", 0.0),
        (COLOUR, "1", 2.0),
        (COLOUR, Text("green"), 1.0),
        (SIZE, "large", 1.0),
        (WEIGHT, -1.5, -1.5),
        (WEIGHT, 10**20, 1e20),
        (AGE, 35, 35.0),
        (AGE, 35.0, 35.0),
        (AGE, -0.0, 0.0),
        (HOUR, 0, 0.0),
        (HOUR, 23, 23.0),
        (HOUR, 24, 0.0),
        (HOUR, 24.0, 0.0),
    ],
)
def test_a_value_is_encoded_as_its_number(feature: Feature, value: Any, number: float) -> None:
    assert encoded(feature, value) == number


@pytest.mark.parametrize(
    ("feature", "value", "problem"),
    [
        (COLOUR, None, "Field may not be null."),
        (COLOUR, "blue", "Must be one of: red, green, 1."),
        (COLOUR, 1, "Must be one of: red, green, 1. Send it as a text, in quotes."),
        (COLOUR, [], "Must be one of: red, green, 1."),
        (WEIGHT, True, "Not a valid number."),
        (WEIGHT, "3", "Not a valid number."),
        (WEIGHT, math.nan, "Not a valid number."),
        (WEIGHT, np.float64(3), "Not a valid number."),
        (WEIGHT, math.inf, "Must be between -1.5 and 1e+300."),
        (WEIGHT, 10**400, "Must be between -1.5 and 1e+300."),
        (AGE, 35.5, "Not a valid integer."),
        (AGE, math.nan, "Not a valid integer."),
        (AGE, math.inf, "Not a valid integer."),
        (AGE, -1, "Must be between 0 and 120."),
        (AGE, False, "Not a valid integer."),
        (HOUR, 25, "Must be between 0 and 24."),
        (HOUR, -1, "Must be between 0 and 24."),
        (HOUR, 23.5, "Not a valid integer."),
        (HOUR, "24", "Not a valid integer."),
    ],
)
def test_a_wrong_value_has_a_problem_that_says_what_would_do(feature: Feature, value: Any, problem: str) -> None:
    assert feature.problem(value) == problem


@pytest.mark.parametrize("feature", [feature for feature in FEATURES if feature.missing], ids=lambda f: f.name)
def test_a_missing_value_becomes_nan_where_it_is_allowed(feature: Feature) -> None:
    assert feature.problem(None) is None
    assert math.isnan(feature.encoder()(None))


@with_default
def test_a_missing_value_is_taken_for_the_default(feature: Feature) -> None:
    assert feature.problem(None) is None
    assert feature.problem(feature.parse("")) is None
    assert feature.encoder()(None) == feature.encoder()(feature.default) != encoded(feature, another(feature))


def another(feature: Feature) -> Any:
    """A valid value that is not the default."""
    return next(value for value in ("red", "large", 1) if feature.problem(value) is None)


@pytest.mark.parametrize("name", KINDS)
def test_a_default_that_is_not_among_the_values_is_refused(name: str) -> None:
    kind, arguments, _ = KINDS[name]
    for wrong in ("purple", "", 1e301, -2, True, math.nan, [], "2.5"):
        with pytest.raises(InvalidUseCaseError, match=f"The default of '{name}' must be one of its values"):
            kind(name=name, description="", default=wrong, **arguments)


@any_feature
def test_a_record_may_do_without_a_feature_exactly_when_null_is_allowed(feature: Feature) -> None:
    assert feature.optional == (feature.problem(None) is None)
    assert feature.optional == (feature.missing or feature.default is not None)


@given(start=st.integers(-100, 100), length=st.integers(1, 50))
def test_every_number_of_a_circle_but_its_end_stays_itself(start: int, length: int) -> None:
    circle = CyclicInteger(name="angle", description="", low=start, high=start + length)
    encode = circle.encoder()
    assert [encode(start + step) for step in range(length)] == list(range(start, start + length))
    assert encode(start + length) == encode(float(start + length)) == start


@pytest.mark.parametrize(
    ("feature", "text", "value"),
    [
        (AGE, "35", 35),
        (AGE, "+35", 35),
        (AGE, "-0", 0),
        (AGE, "35.0", 35.0),
        (AGE, "3.5e1", 35.0),
        (AGE, "", None),
        (AGE, "35 ", 35),
        (AGE, "35\n", 35),
        (AGE, "1_000", "1_000"),
        (AGE, "1,000", "1,000"),
        (AGE, "٣٥", "٣٥"),
        (AGE, "0x23", "0x23"),
        (AGE, "nan", "nan"),
        (AGE, "inf", "inf"),
        (AGE, "True", "True"),
        (WEIGHT, "1e400", math.inf),
        (WEIGHT, "9" * 5000, "9" * 5000),
        (COLOUR, "1", "1"),
        (COLOUR, "NA", "NA"),
        (COLOUR, "", None),
    ],
)
def test_a_text_cell_becomes_a_number_only_when_it_is_one(feature: Feature, text: str, value: Any) -> None:
    parsed = feature.parse(text)
    assert (parsed, type(parsed)) == (value, type(value))


@settings(deadline=None)
@given(
    feature=features,
    text=st.text(max_size=20) | st.from_regex(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", fullmatch=True),
)
def test_any_text_can_be_parsed_and_judged(feature: Feature, text: str) -> None:
    value = feature.parse(text)
    assert (encoded(feature, value) is None) == (feature.problem(value) is not None)


@settings(deadline=None)
@given(value=st.integers(0, 120) | st.floats(-1.5, 1e300))
def test_a_number_survives_the_way_through_text(value: float) -> None:
    assert WEIGHT.parse(str(value)) == value


@any_feature
def test_the_json_schema_allows_what_the_feature_allows(feature: Feature) -> None:
    schema = json.loads(json.dumps(feature.json_schema()))
    assert ("null" in schema["type"]) == feature.optional
    assert schema.get("default") == feature.default
    if "enum" in schema:
        allowed = schema["enum"]
        assert [value for value in allowed if feature.problem(value)] == []
        assert (None in allowed) == feature.optional
    else:
        assert feature.problem(schema["minimum"]) is None
        assert feature.problem(schema["maximum"]) is None


@any_feature
def test_an_encoder_can_be_pickled(feature: Feature) -> None:
    encode = pickle.loads(pickle.dumps(feature.encoder()))
    for value in ("red", "small", 3, 24, None):
        if feature.problem(value) is None:
            np.testing.assert_equal(encode(value), feature.encoder()(value))


@pytest.mark.parametrize("wrong", [(), ("red", "red"), ("red", "")])
def test_a_category_needs_different_values_with_a_name(wrong: tuple[str, ...]) -> None:
    with pytest.raises(InvalidUseCaseError, match="'colour'"):
        Category(name="colour", description="", values=wrong)


@pytest.mark.parametrize(("low", "high"), [(2, 1), (math.nan, 1), (0, math.inf)])
def test_a_number_needs_two_finite_bounds_in_order(low: float, high: float) -> None:
    with pytest.raises(InvalidUseCaseError, match="'age'"):
        Integer(name="age", description="", low=low, high=high)


# derived columns

AMOUNT = Number(name="amount", description="", low=0, high=1e6, missing=True)
MONTHS = Integer(name="months", description="", low=1, high=120)
DAY = OrderedCategory(name="day", description="", values=("Fri", "Sat", "Sun", "Mon"), missing=True)
INSTALMENT = Quotient(name="instalment", description="", numerator="amount", denominator="months")
WEEKEND = Grouping(
    name="weekend", description="", category="day", groups={"no": ("Mon", "Fri"), "yes": ("Sun", "Sat"), "never": ()}
)
ROW = (AMOUNT, DAY, MONTHS)  # not in the order in which the derived columns name them


@pytest.mark.parametrize(
    ("column", "values", "number"),
    [
        (INSTALMENT, (100, "Fri", 8), 12.5),
        (INSTALMENT, (0, None, 120), 0.0),
        (INSTALMENT, (None, "Fri", 8), math.nan),
        (WEEKEND, (1, "Fri", 1), 0.0),
        (WEEKEND, (1, "Mon", 1), 0.0),
        (WEEKEND, (1, "Sat", 1), 1.0),
        (WEEKEND, (None, "Sun", 1), 1.0),
        (WEEKEND, (1, None, 1), math.nan),
    ],
)
def test_a_derived_column_is_computed_from_the_encoded_row(
    column: DerivedColumn, values: tuple[Any, ...], number: float
) -> None:
    column.check({feature.name: feature for feature in ROW})
    row = [feature.encoder()(value) for feature, value in zip(ROW, values, strict=True)]
    compute = column.computer(ROW)
    for one in (compute, pickle.loads(pickle.dumps(compute))):
        assert one(row) == pytest.approx(number, nan_ok=True)


def test_a_missing_category_with_a_default_is_in_the_default_s_group() -> None:
    day = Category(name="day", description="", values=DAY.values, default="Sun")
    assert WEEKEND.computer((day,))([day.encoder()(None)]) == 1.0


@given(day=st.sampled_from(DAY.values), first=st.sets(st.sampled_from(DAY.values)))
def test_a_group_is_encoded_as_its_position(day: str, first: set[str]) -> None:
    groups = {"first": tuple(first), "second": tuple(value for value in DAY.values if value not in first)}
    column = Grouping(name="half", description="", category="day", groups=groups)
    column.check({"day": DAY})
    position = column.computer((DAY,))([DAY.encoder()(day)])
    assert day in list(groups.values())[int(position)]


@pytest.mark.parametrize(
    ("category", "groups"),
    [
        ("day", {}),
        ("day", {"no": ("Mon", "Fri"), "yes": ("Sat",)}),
        ("day", {"no": ("Mon", "Fri", "Sat"), "yes": ("Sat", "Sun")}),
        ("day", {"no": ("Mon", "Mon", "Fri"), "yes": ("Sat", "Sun")}),
        ("day", {"no": ("Mon", "Fri"), "yes": ("Sat", "Sun", "Tue")}),
        ("day", {"no": ("mon", "Fri"), "yes": ("Sat", "Sun")}),
        ("months", {"no": ("Mon", "Fri"), "yes": ("Sat", "Sun")}),
        ("colour", {"no": ("Mon", "Fri"), "yes": ("Sat", "Sun")}),
    ],
)
def test_each_value_of_a_category_is_in_exactly_one_group(category: str, groups: dict[str, tuple[str, ...]]) -> None:
    column = Grouping(name="weekend", description="", category=category, groups=groups)
    with pytest.raises(InvalidUseCaseError, match="'weekend' must have each value of a category in exactly one group"):
        column.check({feature.name: feature for feature in ROW})


@pytest.mark.parametrize(
    ("numerator", "denominator"),
    [("day", "months"), ("amount", "day"), ("amount", "amount"), ("amount", "weeks"), ("price", "months")],
)
def test_only_a_number_is_divided_and_only_by_a_number_above_0(numerator: str, denominator: str) -> None:
    column = Quotient(name="instalment", description="", numerator=numerator, denominator=denominator)
    with pytest.raises(InvalidUseCaseError, match="'instalment' must divide a number by a number that is above 0"):
        column.check({feature.name: feature for feature in ROW})


def test_a_column_comes_from_its_features() -> None:
    assert AGE.sources == ("age",)
    assert INSTALMENT.sources == ("amount", "months")
    assert WEEKEND.sources == ("day",)


def test_a_derived_column_s_declaration_is_plain_data() -> None:
    assert json.loads(json.dumps(WEEKEND.declaration())) == {
        "kind": "grouping",
        "name": "weekend",
        "description": "",
        "monotone": 0,
        "label": "",
        "reason": "",
        "reason_for": {},
        "category": "day",
        "groups": {"no": ["Mon", "Fri"], "yes": ["Sun", "Sat"], "never": []},
    }


def test_a_feature_with_a_default_cannot_be_missing_too() -> None:
    with pytest.raises(
        InvalidUseCaseError, match="The default of 'age' must be one of its values, without missing=True"
    ):
        Integer(name="age", description="", low=0, high=9, missing=True, default=3)


# words


def with_words(column: Column, **words: Any) -> Column:
    return dataclasses.replace(column, **words)


@pytest.mark.parametrize(
    ("column", "code", "sentence"),
    [
        (COLOUR, 1.0, "Colour: green"),
        (WEIGHT, -1.5, "Weight: -1.5"),
        (WEIGHT, 1e6, "Weight: 1000000"),
        (AGE, 35.0, "Age: 35"),
        (INSTALMENT, 10722 / 47, "Instalment: 228.128"),
        (WEEKEND, 1.0, "Weekend: yes"),
        (with_words(AGE, label="Years of age"), 35.0, "Years of age: 35"),
        (Integer(name="job_changes", description="", low=0, high=9), 3.0, "Job changes: 3"),
    ],
)
def test_without_a_declaration_a_sentence_is_label_and_value(column: Column, code: float, sentence: str) -> None:
    assert column.in_words(code) == sentence


@pytest.mark.parametrize(
    ("column", "code", "sentence"),
    [
        (with_words(AMOUNT, reason="Loan of {value:,.0f} DM"), 10722.0, "Loan of 10,722 DM"),
        (with_words(MONTHS, reason="{value:.0f} months", reason_for={1: "One month"}), 2.0, "2 months"),
        (with_words(MONTHS, reason="{value:.0f} months", reason_for={1: "One month"}), 1.0, "One month"),
        (with_words(COLOUR, reason="It is {value}", reason_for={"1": "Who {knows}?"}), 0.0, "It is red"),
        (with_words(COLOUR, reason="It is {value}", reason_for={"1": "Who {knows}?"}), 2.0, "Who {knows}?"),
        (with_words(WEEKEND, reason_for={"no": "On a workday"}), 0.0, "On a workday"),
        (with_words(WEEKEND, reason_for={"no": "On a workday"}), 1.0, "Weekend: yes"),
        (with_words(INSTALMENT, reason="{value:.2f} a month"), 0.125, "0.12 a month"),
    ],
)
def test_what_is_declared_is_said(column: Column, code: float, sentence: str) -> None:
    assert column.in_words(code) == sentence


@pytest.mark.parametrize("column", [AMOUNT, DAY, INSTALMENT, WEEKEND], ids=lambda column: column.name)
def test_a_missing_value_is_said_to_be_missing(column: Column) -> None:
    assert column.in_words(math.nan) == f"{column.title}: not given"


@settings(deadline=None)
@given(feature=features, value=values)
def test_every_value_that_is_right_can_be_said(feature: Feature, value: Any) -> None:
    code = encoded(feature, value)
    if code is not None:
        sentence = feature.in_words(code)
        assert sentence.startswith(feature.title)
        if isinstance(feature, Category) and value is not None:
            assert sentence.endswith(value)


@pytest.mark.parametrize("reason", ["{}", "{valeu}", "{value", "{value:red}", "{value.real.imaginary}", "{0}"])
@pytest.mark.parametrize("column", [AGE, COLOUR, INSTALMENT, WEEKEND], ids=lambda column: column.name)
def test_a_reason_that_is_no_template_of_the_value_is_refused(column: Column, reason: str) -> None:
    with pytest.raises(InvalidUseCaseError, match=f"The reason of '{column.name}' may hold"):
        with_words(column, reason=reason)


@pytest.mark.parametrize(("feature", "value"), [(COLOUR, "blue"), (COLOUR, 1), (AGE, 121), (AGE, "35"), (WEIGHT, None)])
def test_a_sentence_for_what_is_not_among_the_values_is_refused(feature: Feature, value: Any) -> None:
    with pytest.raises(InvalidUseCaseError, match=f"'{feature.name}' has a reason for a value that is not allowed"):
        with_words(feature, reason_for={value: "Something"})


def test_no_feature_is_protected_unless_it_says_so() -> None:
    assert not any(feature.protected for feature in FEATURES)
    assert with_words(AGE, protected=True).protected


ZIP_CODE = Category(name="zip", values=("01234", "02138", "90210"), other="other")


@pytest.mark.parametrize(
    ("feature", "cell", "value"),
    [
        (ZIP_CODE, "1234", "01234"),
        (ZIP_CODE, 1234, "01234"),
        (ZIP_CODE, 2138.0, "02138"),
        (ZIP_CODE, "90210", "90210"),
        (ZIP_CODE, "77", "77"),
        (replace(ZIP_CODE, values=("007", "10")), "7", "7"),
        (replace(ZIP_CODE, values=("07", "x1")), "7", "7"),
        (replace(ZIP_CODE, values=("07", "08"), other=""), "7", "7"),
    ],
)
def test_a_leading_zero_is_given_back_only_where_all_codes_have_one_width(
    feature: Feature, cell: Any, value: Any
) -> None:
    assert feature.from_cell(cell) == value


@pytest.mark.parametrize(
    ("text", "value"), [("10,0", "10"), ("10.00", "10"), ("10.000", "10.000"), ("10,000", "10,000")]
)
def test_a_group_of_digits_is_not_taken_for_decimals_of_a_category(text: str, value: str) -> None:
    assert Category(name="size", values=("10", "20")).parse(text) == value


def test_a_letter_with_an_accent_is_the_same_however_it_is_composed() -> None:
    assert Category(name="city", values=("Köln",), other="other").parse("Ko\u0308ln") == "Köln"


@pytest.mark.parametrize("cell", ["-999", "-999.0", "-9.99e2", -999, -999.0, Decimal("-999.00")])
def test_a_number_that_means_missing_does_so_however_it_is_written(cell: Any) -> None:
    feature = Number(name="height", missing=True, markers=("-999", "?"))
    assert feature.from_cell(cell) is None
    assert feature.from_cell("-998") == -998


def test_yes_is_no_marker_though_python_takes_true_for_1() -> None:
    assert Number(name="height", missing=True, markers=("1",)).from_cell(True) is True
