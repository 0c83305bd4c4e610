"""Features of every kind, and records that fit them or nearly do."""

from typing import Any

from hypothesis import strategies as st

from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id, Ignored
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.columns.texts import Text
from tabserve.declaration.discovery import get_use_case
from tabserve.errors import InvalidRecordsError
from tabserve.transformers import RecordEncoder

EVERY_KIND: tuple[Feature, ...] = tuple(
    feature
    for missing, prefix in ((False, "needed"), (True, "optional"))
    for feature in (
        Category(name=f"{prefix}_category", description="c", values=("a", "b", "é", "None", "1"), missing=missing),
        OrderedCategory(name=f"{prefix}_order", description="o", values=("low", "high"), missing=missing),
        Number(name=f"{prefix}_number", description="n", low=-0.5, high=1e9, missing=missing),
        Integer(name=f"{prefix}_integer", description="i", low=-3, high=40, missing=missing),
        Number(name=f"{prefix}_huge", description="h", low=-1e30, high=1e30, missing=missing),
        CyclicInteger(name=f"{prefix}_cycle", description="y", low=0, high=24, missing=missing),
        Category(name=f"{prefix}_open", description="k", values=("a", "b"), other="else", missing=missing),
        Boolean(name=f"{prefix}_boolean", description="b", missing=missing),
        Date(name=f"{prefix}_date", description="d", low="2000-01-01", missing=missing),
        Datetime(name=f"{prefix}_time", description="t", missing=missing),
        Text(name=f"{prefix}_text", description="x", longest=9, buckets=5, missing=missing),
    )
)
WITH_DEFAULTS: tuple[Feature, ...] = (
    Category(name="category", description="c", values=("a", "b", "1"), default="b"),
    OrderedCategory(name="order", description="o", values=("low", "high"), default="low"),
    Number(name="number", description="n", low=-0.5, high=1e9, default=0.0),
    Integer(name="integer", description="i", low=-3, high=40, default=-3),
    CyclicInteger(name="cycle", description="y", low=0, high=24, default=24),
    Integer(name="needed", description="i", low=0, high=1),
)
FEATURE_SETS = {
    **{name: get_use_case(name).features for name in ("credit", "bikes")},
    "every kind": EVERY_KIND,
    "defaults": WITH_DEFAULTS,
}
EXTRAS: tuple[Feature, ...] = (
    Id(name="id"),
    Ignored(name="note"),
    Integer(name="weight", low=0, high=9),
    Date(name="day", missing=True),
)
SPECIAL = [
    *(0, -0.0, 1, 1.0, 35, 35.0, 35.5, -1, 40, 40.0, 41, 1e9, 1e9 + 1, 1e-320, 1e308, -1e308, 1.8e307, 2**53 + 1),
    *(2**63, 2**64, 2**70, -(2**70), 10**400, float("nan"), float("inf"), float("-inf"), True, False, None),
    *("", " ", "35", "35.0", "nan", "NaN", "null", "None", "true", "1", "é", "e\u0301", "\x00", "\ud800", "🚲"),
    *([], [1], {}, {"a": 1}, [None], [[]]),
]
SCALARS = st.one_of(
    st.sampled_from([value for value in SPECIAL if not isinstance(value, (list, dict))]),
    st.booleans(),
    st.integers(),
    st.integers(-5, 130),
    st.floats(),
    st.integers(-5, 130).map(float),
    st.text(max_size=5),
)
JSON = st.one_of(
    st.sampled_from(SPECIAL),
    SCALARS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner)),
)


VALID: dict[str, list[Any]] = {
    "boolean": [True, False],
    "date": ["2000-01-01", "2024-02-29"],
    "datetime": ["2000-01-01T00:00:00", "2024-02-29T12:30:00.5+02:00"],
    "text": ["a", "Mr. Doe", "é 🚲"],
    "id": ["", "0012", 12, -3.0],
    "ignore": [None, "anything", [1], "\ud800"],
}


def valid_values(feature: Feature) -> st.SearchStrategy[Any]:
    if isinstance(feature, Category):
        values: st.SearchStrategy[Any] = st.sampled_from(feature.values)
    elif isinstance(feature, Integer):
        whole = st.integers(int(feature.low), int(feature.high))
        values = whole | whole.map(float)
    elif isinstance(feature, Number):
        values = st.floats(feature.low, feature.high)
    else:
        values = st.sampled_from(VALID[feature.kind])
    return values | st.none() if feature.optional else values


def near_valid_values(feature: Feature) -> st.SearchStrategy[Any]:
    if isinstance(feature, Category):
        changes = [str.upper, str.title, lambda text: f" {text}", lambda text: f"{text} ", lambda text: text[:-1], list]
        return st.builds(lambda text, change: change(text), st.sampled_from(feature.values), st.sampled_from(changes))
    if not isinstance(feature, Number):
        return st.sampled_from([1, 0, "true", "1999-12-31", "2024-02-30", "2024-02-29T24:00", "x" * 10, "x" * 201])
    low, high = feature.low, feature.high
    return st.sampled_from([low, high, low - 1, high + 1, low + 0.5, high - 0.5, str(low), [low], float(high)])


@st.composite
def records(draw: st.DrawFn, features: tuple[Feature, ...], extras: tuple[Feature, ...] = ()) -> dict[str, Any]:
    """A valid record to which up to three things were done; with some of the extras."""
    record = {feature.name: draw(valid_values(feature)) for feature in features}
    for feature in features:
        if feature.optional and draw(st.booleans()):
            del record[feature.name]
    for extra in extras:
        if draw(st.booleans()):
            record[extra.name] = draw(valid_values(extra))
    for _ in range(draw(st.integers(0, 3))):
        feature = draw(st.sampled_from((*features, *extras)))
        change = draw(st.sampled_from(["drop", "add", "any", "near", "valid"]))
        if change == "drop":
            record.pop(feature.name, None)
        elif change == "add":
            near = st.sampled_from([feature.name.upper(), f"{feature.name} ", "__class__", "_schema", "a.b"])
            record[draw(near | st.text(max_size=5))] = draw(JSON)
        else:
            values = {"any": JSON, "near": near_valid_values(feature), "valid": valid_values(feature)}[change]
            record[feature.name] = draw(values)
    return record


def encoder_accepts(features: tuple[Feature, ...], record: dict[str, Any], extras: tuple[Feature, ...] = ()) -> bool:
    encoder = RecordEncoder(features, extras=extras).fit()
    try:
        matrix = encoder.transform([record])
    except InvalidRecordsError:
        return False
    assert matrix.shape == (1, len(encoder.matrix_columns))
    return True


def valid_example(feature: Feature) -> Any:
    if isinstance(feature, Category):
        return feature.values[0]
    return max(1, feature.low) if isinstance(feature, Number) else VALID[feature.kind][0]
