"""Random plain declarations, for tests of what must hold for any."""

from typing import Any

from hypothesis import strategies as st

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8)
SENTENCES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
FLAGS = st.fixed_dictionaries({}, optional={"missing": st.just(True), "protected": st.just(True)})
WORDS = st.fixed_dictionaries({}, optional={"description": SENTENCES, "label": SENTENCES})


@st.composite
def bounds(draw: st.DrawFn, numbers: st.SearchStrategy[float]) -> dict[str, Any]:
    low, high = sorted((draw(numbers), draw(numbers)))
    return draw(st.sampled_from([{}, {"low": low}, {"high": high}, {"low": low, "high": high}]))


WHOLE = bounds(st.integers(-(10**9), 10**9))
REAL = bounds(st.floats(-1e9, 1e9))
VALUES = st.lists(NAMES.filter(str.strip), min_size=2, max_size=4, unique_by=lambda text: text.strip().casefold())


KINDS = ("number", "integer", "category", "ordered", "boolean", "date", "id", "ignore", "text")


@st.composite
def features(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(["number", "integer", "category", "ordered", "boolean", "date", "id", "ignore", "text"])
    )
    line: dict[str, Any] = {"kind": kind}
    if kind in ("id", "ignore"):
        return line
    if kind in ("number", "integer"):
        line |= draw(REAL if kind == "number" else WHOLE)
    if kind in ("category", "ordered"):
        line["values"] = draw(VALUES)
        if draw(st.booleans()):
            line["reason_for"] = {line["values"][0]: "The first."}
    return {**line, **draw(FLAGS), **draw(WORDS), **draw(st.sampled_from([{}, {"input": False}]))}


TARGETS = st.one_of(
    VALUES.map(lambda values: {"kind": "category", "values": values}),
    st.just({"kind": "boolean"}),
    st.just({"kind": "integer", "low": 0, "high": 1}),
    st.just({"kind": "integer", "low": 3, "high": 4}),
    REAL.map(lambda ends: {"kind": "number", **ends}),
)


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, Any]:
    """A plain declaration with a feature, a target and whatever else."""
    lines = draw(st.dictionaries(NAMES, features(), max_size=5))
    columns = {**lines, "size": {"kind": "number", "low": 1, "high": 9}, "outcome_": draw(TARGETS)}
    more = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "title": SENTENCES,
                "limits": st.lists(SENTENCES, max_size=3),
                "markers": st.lists(st.sampled_from(["?", "n/a", "-"]), max_size=3, unique=True),
                "dialect": st.just({"separator": ";", "decimal": ","}),
                "splits": st.integers(2, 5),
                "chronological": st.booleans(),
                "gates": st.sampled_from([{}]),
                "derived": st.just({"ratio": {"kind": "quotient", "numerator": "size", "denominator": "size"}}),
            },
        )
    )
    return {**more, "target": "outcome_", "columns": columns}
