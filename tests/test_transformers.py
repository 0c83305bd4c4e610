"""Transformers: from records to a matrix, and from a target column to numbers."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import MinMaxScaler

from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id, Ignored
from tabserve.columns.dates import Date
from tabserve.columns.derived import DatePart, Grouping, Quotient
from tabserve.columns.features import Category, CyclicInteger, Integer, Number, OrderedCategory
from tabserve.columns.matrix import MatrixColumn
from tabserve.columns.texts import Text
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidRecordsError, InvalidTargetError
from tabserve.transformers import Drop, MinMax, OneHot, RecordEncoder, RemapTarget, Standardize, Target

FEATURES = (
    Category(name="colour", description="", values=("red", "green")),
    Integer(name="age", description="", low=0, high=120, missing=True),
    Category(name="shape", description="", values=("round", "flat"), missing=True),
)
ABC = tuple(MatrixColumn(Integer(name=name, description="", low=0, high=9)) for name in "abc")
GOOD = {"colour": "green", "age": 35, "shape": "round"}
LABEL = Integer(name="label", description="", low=1, high=3)
valid = st.fixed_dictionaries(
    {"colour": st.sampled_from(["red", "green"])},
    optional={
        "age": st.none() | st.integers(0, 120) | st.integers(0, 120).map(float),
        "shape": st.sampled_from([None, "round", "flat"]),
    },
)


@pytest.fixture
def encoder() -> RecordEncoder:
    return RecordEncoder(FEATURES).fit()


def test_records_become_a_matrix_in_the_features_order(encoder: RecordEncoder) -> None:
    matrix = encoder.transform([{"shape": "flat", "age": 3, "colour": "red"}, GOOD])
    assert matrix.dtype == np.float64
    assert matrix.tolist() == [[0, 3, 1], [1, 35, 0]]


def test_no_records_become_a_matrix_without_rows(encoder: RecordEncoder) -> None:
    assert encoder.transform([]).shape == (0, 3)


def test_a_value_that_may_be_missing_may_be_null_or_left_out(encoder: RecordEncoder) -> None:
    matrix = encoder.transform([{"colour": "red"}, {"colour": "red", "age": None}, {"colour": "red", "shape": "flat"}])
    np.testing.assert_array_equal(matrix, [[0, np.nan, np.nan], [0, np.nan, np.nan], [0, np.nan, 1]])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"age": 1, "shape": "flat"},
        {**GOOD, "extra": 1},
        {"colour": "red", "extra": None},
        {"colour": "red", "age": 1, "extra": None},
        {"age": 1, "shape": "flat", "extra": 2},
        {**GOOD, "colour": None},
        {**GOOD, "colour": []},
        {**GOOD, "age": True},
        {1: 2},
        None,
        3,
        "abc",
        "green",
        ["colour", "age", "shape"],
        [GOOD],
    ],
)
def test_a_record_that_does_not_fit_is_refused_with_its_position(encoder: RecordEncoder, wrong: Any) -> None:
    with pytest.raises(InvalidRecordsError, match=r"^2 record\(s\) .* position 1\.$") as caught:
        encoder.transform([GOOD, wrong, GOOD, wrong])
    assert caught.value.rows == [1, 3]


@settings(deadline=None)
@given(records=st.lists(valid, max_size=5))
def test_a_data_frame_gives_the_same_matrix_as_its_records(records: list[dict[str, Any]]) -> None:
    encoder = RecordEncoder(FEATURES).fit()
    frame = pd.DataFrame(records, columns=["shape", "age", "colour"])
    np.testing.assert_array_equal(encoder.transform(frame), encoder.transform(records))


def test_real_records_and_their_data_frame_give_the_same_matrix(credit: UseCase, records: list[dict[str, Any]]) -> None:
    encoder = RecordEncoder(credit.features).fit()
    matrix = encoder.transform(records)
    assert matrix.shape == (1000, 20)
    np.testing.assert_array_equal(matrix, encoder.transform(pd.DataFrame(records)))


@pytest.mark.parametrize("column", ["colour", "age"])
def test_a_data_frame_with_a_column_of_another_name_is_refused(encoder: RecordEncoder, column: str) -> None:
    with pytest.raises(InvalidRecordsError):
        encoder.transform(pd.DataFrame([GOOD, GOOD]).rename(columns={column: "other"}))


def test_an_empty_cell_is_refused_where_nothing_may_be_missing(encoder: RecordEncoder) -> None:
    with pytest.raises(InvalidRecordsError) as caught:
        encoder.transform(pd.DataFrame([GOOD, {**GOOD, "colour": np.nan}]))
    assert caught.value.rows == [1]


def test_each_code_seen_gets_a_column_after_the_others() -> None:
    X = np.array([[2.0, 7.0], [0.0, 8.0], [2.0, 9.0]])
    assert OneHot(("a",)).fit_transform(X, columns=ABC[:2]).tolist() == [[7, 0, 1], [8, 1, 0], [9, 0, 1]]


def test_a_code_that_was_not_seen_and_a_missing_one_are_in_no_column() -> None:
    one_hot = OneHot(("a",)).fit(np.array([[0.0], [2.0], [np.nan]]), columns=ABC[:1])
    assert one_hot.transform(np.array([[1.0], [np.nan], [2.0]])).tolist() == [[0, 0], [0, 0], [0, 1]]


@settings(deadline=None)
@given(X=arrays(np.float64, (6, 3), elements=st.integers(0, 3).map(float)))
def test_one_hot_columns_sum_to_one_for_each_category_that_was_seen(X: np.ndarray) -> None:
    made = OneHot(("a", "c")).fit_transform(X, columns=ABC)
    assert made[:, 0].tolist() == X[:, 1].tolist()
    assert made[:, 1:].sum(axis=1).tolist() == [2.0] * 6


def test_quotients_become_columns_after_the_features() -> None:
    amount = Number(name="amount", description="", low=0, high=1e6, missing=True)
    months = Integer(name="months", description="", low=1, high=120)
    instalment = Quotient(name="instalment", description="", numerator="amount", denominator="months")
    encoder = RecordEncoder((amount, months), (instalment,)).fit()
    records = [{"amount": 100.0, "months": 8}, {"amount": None, "months": 2}]
    np.testing.assert_array_equal(encoder.transform(records), [[100.0, 8.0, 12.5], [np.nan, 2.0, np.nan]])
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame(records)), encoder.transform(records))
    assert encoder.transform([]).shape == (0, 3)


def test_groups_and_quotients_become_columns_in_their_order() -> None:
    colour = Category(name="colour", description="", values=("red", "green", "blue"), missing=True)
    months = Integer(name="months", description="", low=1, high=120, default=4)
    warm = Grouping(name="warm", description="", category="colour", groups={"no": ("green", "blue"), "yes": ("red",)})
    share = Quotient(name="share", description="", numerator="months", denominator="months")
    cold = Grouping(name="cold", description="", category="colour", groups={"no": ("red", "green"), "yes": ("blue",)})
    encoder = RecordEncoder((months, colour), (warm, share, cold)).fit()
    records = [{"colour": "red", "months": 3}, {"colour": "blue"}, {"months": None, "colour": None}]
    expected = [[3, 0, 1, 1, 0], [4, 2, 0, 1, 1], [4, np.nan, np.nan, 1, np.nan]]
    np.testing.assert_array_equal(encoder.transform(records), expected)
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame(records)), expected)
    assert encoder.transform([]).shape == (0, 5)


@pytest.fixture
def rentals() -> RecordEncoder:
    """An encoder of features, most of them with a default."""
    return RecordEncoder(
        (
            CyclicInteger(name="hour", description="", low=0, high=24, default=24),
            Category(name="weather", description="", values=("clear", "rain"), default="rain"),
            Integer(name="year", description="", low=2011, high=2012, default=2012),
            Number(name="wind", description="", low=0, high=9),
        )
    ).fit()


@pytest.mark.parametrize(
    "record",
    [
        {"wind": 1},
        {"wind": 1, "year": None},
        {"wind": 1, "hour": None, "weather": None, "year": None},
        {"wind": 1, "hour": 24, "weather": "rain"},
        {"year": 2012.0, "weather": "rain", "hour": 0, "wind": 1.0},
    ],
)
def test_what_is_missing_is_taken_for_its_default(rentals: RecordEncoder, record: dict[str, Any]) -> None:
    assert rentals.transform([record]).tolist() == [[0, 1, 2012, 1]]
    assert rentals.transform(pd.DataFrame([record])).tolist() == [[0, 1, 2012, 1]]


def test_an_empty_cell_of_a_data_frame_is_taken_for_its_default(rentals: RecordEncoder) -> None:
    frame = pd.DataFrame({"wind": [1, 2], "weather": ["clear", np.nan], "year": [np.nan, 2011]})
    assert rentals.transform(frame).tolist() == [[0, 0, 2012, 1], [0, 1, 2011, 2]]


@pytest.mark.parametrize("wrong", [{}, {"hour": 1, "weather": "rain", "year": 2012}, {"wind": 1, "rain": 2}])
def test_no_default_stands_in_for_another_column(rentals: RecordEncoder, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecordsError):
        rentals.transform([wrong])


@pytest.mark.parametrize("step", [OneHot(()), OneHot(("z",)), OneHot(), Drop(()), Drop(("z",))], ids=repr)
def test_a_step_of_no_column_that_reaches_it_changes_nothing(step: Any) -> None:
    X = np.array([[1.0, np.nan]])
    np.testing.assert_array_equal(step.fit_transform(X, columns=ABC[:2]), X)
    assert step.columns_ == ABC[:2]


@pytest.mark.parametrize("step", [OneHot(("a",)), OneHot(), Drop(("a",))], ids=repr)
def test_a_step_that_finds_columns_by_name_needs_them_described(step: Any) -> None:
    with pytest.raises(ValueError, match="The matrix has 2 columns, but 0 are described"):
        step.fit(np.ones((3, 2)))


def test_by_default_categories_without_an_order_become_columns() -> None:
    ordered = OrderedCategory(name="grade", description="", values=("low", "high"))
    columns = (MatrixColumn(FEATURES[0]), MatrixColumn(ordered), MatrixColumn(FEATURES[1]))
    one_hot = OneHot()
    assert one_hot.fit_transform(np.array([[0.0, 1.0, 7.0], [1.0, 0.0, 8.0]]), columns=columns).tolist() == [
        [1, 7, 1, 0],
        [0, 8, 0, 1],
    ]
    assert [(column.name, column.level) for column in one_hot.columns_] == [
        *[("grade", None), ("age", None)],
        *[("colour", 0), ("colour", 1)],
    ]


def test_only_what_holds_codes_is_nominal_and_only_what_keeps_its_order_is_monotone() -> None:
    grade = OrderedCategory(name="grade", description="", values=("low", "high"), monotone=-1)
    codes, colour = MatrixColumn(grade), MatrixColumn(FEATURES[0])
    assert (codes.is_nominal, codes.monotone) == (False, -1)
    X = np.array([[0.0, 1.0], [1.0, 0.0]])
    scaled = MinMax().fit(X, columns=(codes, colour)).columns_
    assert [(column.is_nominal, column.monotone) for column in scaled] == [(False, -1), (False, 0)]
    levels = OneHot(("grade", "colour")).fit(X, columns=(codes, colour)).columns_
    assert {(column.is_nominal, column.monotone) for column in levels} == {(False, 0)}
    assert colour.is_nominal


@given(unseen=arrays(np.float64, (2, 3), elements=st.floats(width=32)))
def test_dropped_columns_are_left_out_and_the_others_stay_as_they_are(unseen: np.ndarray) -> None:
    drop = Drop(("c", "a")).fit(np.ones((4, 3)), columns=ABC)
    np.testing.assert_array_equal(drop.transform(unseen), unseen[:, [1]])
    assert drop.columns_ == ABC[1:2]
    assert drop.transform(np.empty((0, 3))).shape == (0, 1)


@settings(deadline=None)
@given(X=arrays(np.float64, (8, 2), elements=st.floats(-1e300, 1e300) | st.sampled_from([0.1, 5e-324])))
def test_scaled_columns_reach_from_0_to_1_or_are_constant(X: np.ndarray) -> None:
    made = MinMax().fit_transform(X)
    for before, after in zip(X.T, made.T, strict=True):
        if np.all(before == before[0]):
            assert after.tolist() == [0] * 8
        else:
            assert (after.min(), after.max()) == (0, 1)
            assert np.all(np.diff(after[np.argsort(before)]) >= 0)


eighths = st.integers(-8000, 8000).map(lambda number: number / 8)


@settings(deadline=None)
@given(X=arrays(np.float64, (6, 3), elements=eighths), unseen=arrays(np.float64, (4, 3), elements=eighths))
def test_rows_are_scaled_as_by_scikit_learn(X: np.ndarray, unseen: np.ndarray) -> None:
    ours, theirs = MinMax().fit(X), MinMaxScaler().fit(X)
    for rows in (X, unseen):
        np.testing.assert_allclose(ours.transform(rows), theirs.transform(rows), rtol=1e-9, atol=1e-9)


def test_rows_that_were_not_seen_may_leave_the_range() -> None:
    scaler = MinMax().fit(np.array([[2.0, 7.0], [4.0, 7.0]]))
    assert scaler.transform(np.array([[1.0, 7.0], [5.0, 9.0]])).tolist() == [[-0.5, 0], [1.5, 2]]


def test_a_missing_value_is_scaled_to_0_and_is_not_measured() -> None:
    scaler = MinMax().fit(np.array([[np.nan], [2.0], [4.0]]))
    assert scaler.transform(np.array([[4.0], [np.nan], [3.0]])).tolist() == [[1], [0], [0.5]]


@settings(deadline=None)
@given(X=arrays(np.float64, (8, 2), elements=st.floats(-1e6, 1e6)))
def test_standardised_columns_have_mean_0_and_deviation_1_or_are_constant(X: np.ndarray) -> None:
    made = Standardize().fit_transform(X)
    for before, after in zip(X.T, made.T, strict=True):
        if np.all(before == before[0]):
            np.testing.assert_allclose(after, 0, atol=1e-8)
        elif np.ptp(before) > 1e-3:
            assert np.mean(after) == pytest.approx(0, abs=1e-6)
            assert np.std(after) == pytest.approx(1)
        assert np.all(np.isfinite(after))


def test_a_constant_column_stays_zero_although_its_mean_is_rounded() -> None:
    assert np.abs(Standardize().fit_transform(np.full((3, 1), 0.1))).max() < 1e-12


def test_a_missing_value_is_standardised_to_the_mean_of_the_others() -> None:
    assert Standardize().fit_transform(np.array([[1.0], [np.nan], [3.0]])).tolist() == [[-1], [0], [1]]


@pytest.mark.parametrize("scaler", [MinMax(), Standardize()], ids=repr)
def test_a_column_without_any_value_says_nothing_and_spoils_no_other(scaler: Any) -> None:
    rows = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    alone = scaler.fit_transform(rows[:, 1:])
    assert scaler.fit_transform(rows).tolist() == [[0, *row] for row in alone.tolist()]
    assert scaler.transform(np.array([[5.0, 1.0]])).tolist() == [[0, *alone[0].tolist()]]


SOME = np.array([[2.0, 7.0, 1.0], [0.0, 8.0, 0.0], [2.0, 9.0, 1.0], [1.0, 5.0, 0.0]])


@pytest.mark.parametrize(
    "step",
    [OneHot(("a",)), OneHot(("c", "a")), OneHot(()), Drop(("b",)), MinMax(), Standardize()],
    ids=repr,
)
@given(changed=st.integers(0, 2), value=st.integers(0, 9).map(float))
def test_a_column_changes_only_those_that_come_from_it(step: Any, changed: int, value: float) -> None:
    step.fit(SOME, columns=ABC)
    rows = SOME.copy()
    rows[:, changed] = value
    before, after = step.transform(SOME), step.transform(rows)
    assert {column.name for column in step.columns_} == {"a", "b", "c"} - ({"b"} if isinstance(step, Drop) else set())
    for column, old, new in zip(step.columns_, before.T, after.T, strict=True):
        assert column.name == "abc"[changed] or np.array_equal(old, new)


def test_the_columns_of_an_encoder_are_features_and_then_derived_columns(credit: UseCase) -> None:
    encoder = RecordEncoder(credit.features, credit.derived).fit()
    names = [column.name for column in encoder.columns]
    assert names == [*(feature.name for feature in credit.features), "instalment", "duration_for_age"]


@pytest.mark.parametrize(
    ("target", "codes"),
    [
        (Target(LABEL), {1, 2, 3}),
        (RemapTarget(LABEL, {1: 0, 2: 1, 3: 1}), {0, 1}),
        (Target(Category(name="colour", description="-", values=("red", "blue"))), {0, 1}),
        (Target(Integer(name="price", description="-", low=0.5, high=2.5)), {1, 2}),
        (Target(Integer(name="price", description="-", low=0, high=10_000)), None),
    ],
)
def test_a_target_knows_the_numbers_that_it_can_give(target: Target, codes: set[float] | None) -> None:
    assert target.codes() == codes


def test_a_target_becomes_numbers() -> None:
    assert Target(LABEL).fit_transform([3, 1, 2.0]).tolist() == [3, 1, 2]


def test_labels_become_the_classes_they_stand_for() -> None:
    y = RemapTarget(LABEL, {1: 0, 2: 1, 3: 1}).fit_transform([3, 1, 2.0])
    assert y.dtype == np.float64
    assert y.tolist() == [1, 0, 1]


@pytest.mark.parametrize("target", [Target(LABEL), RemapTarget(LABEL, {1: 0, 2: 1, 3: 1})])
@pytest.mark.parametrize("wrong", [0, 4, "1", None, True, 1.5])
def test_a_target_value_that_is_not_allowed_is_refused(target: Target, wrong: Any) -> None:
    with pytest.raises(InvalidTargetError, match="The target 'label': "):
        target.fit([1]).transform([1, wrong])


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(InvalidTargetError, match="'label' allows a value that has no class"):
        RemapTarget(LABEL, {1: 0, 2: 1}).fit_transform([1, 3])


@settings(deadline=None)
@given(value=st.floats() | st.integers() | st.none())
def test_a_number_target_takes_what_its_feature_takes(value: Any) -> None:
    feature = Number(name="count", description="", low=0, high=1000)
    try:
        Target(feature).fit().transform([value])
        taken = True
    except InvalidTargetError:
        taken = False
    assert taken == (feature.problem(value) is None)


def test_rare_values_of_a_category_share_a_column_with_those_that_were_not_seen() -> None:
    X = np.array([[value] for value in (5.0, 5.0, 5.0, 7.0, 7.0, 1.0, 2.0, np.nan)])
    one_hot = OneHot(("a",), most=2).fit(X, columns=ABC[:1])
    assert [(column.name, column.is_level) for column in one_hot.columns_] == [("a", True)] * 3
    rows = one_hot.transform(np.array([[5.0], [7.0], [1.0], [99.0], [np.nan]]))
    assert rows.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]


@given(X=arrays(np.float64, (30, 3), elements=st.integers(0, 9).map(float)), most=st.integers(1, 10))
def test_a_new_column_comes_from_the_place_of_its_category(X: np.ndarray, most: int) -> None:
    one_hot = OneHot(("a", "c"), most=most).fit(X, columns=ABC)
    assert [ABC[place].name for place in one_hot.places] == [column.name for column in one_hot.columns_]
    made = one_hot.transform(X)
    assert made.shape[1] <= 1 + 2 * (most + 1)
    assert made[:, 1:].sum(axis=1).tolist() == [2.0] * 30


# texts and extras

NOTE = Text(name="note", description="", buckets=4, missing=True)


def test_what_texts_hold_is_counted_in_the_last_columns() -> None:
    day = Date(name="day", description="")
    encoder = RecordEncoder((NOTE, day), (DatePart(name="year", date="day", part="year"),)).fit()
    matrix = encoder.transform([{"note": "two words", "day": "2024-02-29"}, {"day": "2023-01-01"}])
    assert matrix.shape == (2, len(encoder.matrix_columns)) == (2, 3 + 4)
    assert [column.name for column in encoder.matrix_columns] == ["note", "day", "year", *["note"] * 4]
    assert matrix[:, 2].tolist() == [2024, 2023]
    assert matrix[0, 3:].sum() > 0
    assert not matrix[1, 3:].any()
    assert encoder.transform([]).shape == (0, 7)


def test_a_data_frame_with_texts_gives_the_same_matrix_as_its_records() -> None:
    encoder = RecordEncoder((NOTE, FEATURES[1])).fit()
    records = [{"note": "two words", "age": 3}, {"note": None, "age": None}]
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame(records)), encoder.transform(records))


def test_dropping_a_text_drops_all_its_columns_and_it_is_never_one_hot_by_default() -> None:
    encoder = RecordEncoder((NOTE, *FEATURES)).fit()
    X = encoder.transform([{"note": "a b", **GOOD}])
    drop = Drop(("note",)).fit(X, columns=encoder.matrix_columns)
    assert [column.name for column in drop.columns_] == ["colour", "age", "shape"]
    assert not any(column.is_nominal for column in encoder.matrix_columns if column.name == "note")


def test_a_record_may_hold_extras_which_are_not_encoded() -> None:
    encoder = RecordEncoder(FEATURES, extras=(Id(name="id"), Ignored(name="free"))).fit()
    matrix = encoder.transform([GOOD, {**GOOD, "id": "0012", "free": [1]}, {"colour": "green", "age": 35, "id": 7}])
    assert matrix[0].tolist() == matrix[1].tolist()
    assert matrix[2, :2].tolist() == [1, 35]
    with pytest.raises(InvalidRecordsError) as caught:
        encoder.transform([{**GOOD, "id": "x" * 201}, {**GOOD, "ID": 1}, {**GOOD, "id": True}, {**GOOD, "id": None}])
    assert caught.value.rows == [0, 1, 2]


def test_a_yes_or_no_is_a_target_of_two_classes() -> None:
    target = Target(Boolean(name="late", description="")).fit()
    assert target.codes() == {0.0, 1.0}
    assert target.transform([True, False]).tolist() == [1, 0]


def test_records_are_encoded_beside_those_that_cannot_be() -> None:
    features = (Number(name="n", low=0), Text(name="t", buckets=16))
    encoder = RecordEncoder(features).fit()
    records = [{"n": 1, "t": "one"}, {"n": -1, "t": "two"}, {"n": 2, "t": 3}, {"n": 4, "t": "four"}]
    matrix, faulty = encoder.encode(records)
    assert [*faulty] == [1, 2]
    assert np.isnan(matrix[1:3]).all()
    assert matrix[[0, 3]].tolist() == encoder.transform([records[0], records[3]]).tolist()
