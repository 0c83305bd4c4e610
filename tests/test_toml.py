"""Declarations as TOML: what is written reads back, and a mistake has a file, a line and what would be right."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tabserve.declaration.discovery import get_use_case
from tabserve.declaration.plain import from_plain, to_plain
from tabserve.declaration.toml import line_of, read_declaration, write_declaration
from tabserve.errors import InvalidUseCaseError
from tests.declarations import comparable
from tests.random_declarations import declarations

LOANS = """\
# Loans of our branch
title = "Loans"
target = "default"
outcomes = {repays = "no", defaults = "yes"}
cost = {missed = 5, false_alarm = 1}
limits = [
    "Only granted loans are here.",
    "Nobody knows the others.",
]

[columns]
amount = {kind = "number", low = 1, high = 100_000, unit = "EUR", description = "Amount of the loan"}
months = {kind = "integer", low = 1, high = 120}
age = {kind = "integer", low = 18, high = 120, protected = true}
purpose = {kind = "category", values = ["car", "house"]}
customer = {kind = "id"}
default = {kind = "category", values = ["no", "yes"]}

[derived]
instalment = {kind = "quotient", numerator = "amount", denominator = "months"}

[groups]
age = [25]

[gates]
smallest = {roc_auc = 0.6}
smallest_ratio = {age = 0.5}

[algorithms.trees]
model = "LgbClassifier"

[algorithms.trees.search]
num_leaves = {low = 4, high = 24, log = true}

[baseline]
name = "logistic"
model = "LogisticRegression"
transformers = ["OneHot", "Standardize"]
"""


def read(folder: Path, text: str, name: str = "loans") -> Any:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return read_declaration(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InvalidUseCaseError) as caught:
        read(folder, text)
    assert str(folder) not in str(caught.value)
    return str(caught.value)


def test_a_file_declares_the_use_case_of_its_name(tmp_path: Path) -> None:
    loans = read(tmp_path, LOANS)
    assert (loans.name, loans.title) == ("loans", "Loans")
    assert [feature.name for feature in loans.features] == ["amount", "months", "age", "purpose"]
    assert [extra.name for extra in loans.extras] == ["customer"]
    assert loans.task.outcomes == ("repays", "defaults")
    assert loans.task.cost.missed == 5
    assert loans.baseline.name == "logistic"
    assert loans.path == tmp_path / "loans.csv"


def test_the_data_are_the_file_beside_it_that_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "loans.xlsx").touch()
    assert read(tmp_path, LOANS).path == tmp_path / "loans.xlsx"
    assert read(tmp_path, f'source = "../data/all.csv"\n{LOANS}').path == tmp_path / "../data/all.csv"


@pytest.mark.parametrize("name", ["credit", "bikes"])
def test_the_use_cases_that_ship_can_be_written_as_toml(name: str, tmp_path: Path) -> None:
    use_case = get_use_case(name)
    text = write_declaration(to_plain(use_case))
    (columns,) = re.findall(r"^\[columns\]\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert len(columns.splitlines()) == len(use_case.features) + 1
    plain = to_plain(read(tmp_path, text, name))
    assert comparable(from_plain(plain, name, use_case.folder, use_case.file)) == comparable(use_case)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(declarations())
def test_any_declaration_comes_back_from_toml_and_from_json(plain: dict[str, Any]) -> None:
    try:
        use_case = from_plain(plain, "things")
    except InvalidUseCaseError:
        assume(False)
    said = to_plain(use_case)
    for again in (tomllib.loads(write_declaration(said)), json.loads(json.dumps(said, allow_nan=False))):
        assert again == said
        assert comparable(from_plain(again, "things")) == comparable(use_case)
    assert json.dumps(to_plain(from_plain(said, "things"))) == json.dumps(said)


def test_notes_stand_above_what_they_are_about() -> None:
    notes = {"": "Drafted.\nReview it.", "columns": "As found", "columns.age": "Wider than the data"}
    plain = {"target": "default", "columns": {"age": {"kind": "integer"}, "default": {"kind": "boolean"}}}
    assert write_declaration(plain, notes).splitlines() == [
        "# Drafted.",
        "# Review it.",
        'target = "default"',
        "",
        "# As found",
        "[columns]",
        "# Wider than the data",
        'age = {kind = "integer"}',
        'default = {kind = "boolean"}',
    ]


def test_a_date_is_a_text_as_in_json(tmp_path: Path) -> None:
    text = LOANS.replace("customer = {kind", 'since = {kind = "date", low = 2020-01-31}\ncustomer = {kind')
    (since,) = [feature for feature in read(tmp_path, text).features if feature.name == "since"]
    assert since.low == "2020-01-31"


MISTAKES = [
    ('title = "Loans"', 'titel = "Loans"', 2, "did you mean 'title'"),
    ('title = "Loans"', "title = Loans", 2, "a text stands in quotation marks"),
    ('title = "Loans"', 'title = "Loans', 2, "quotation mark"),
    ('title = "Loans"', "title", 2, "a line is: name = value"),
    ('title = "Loans"', 'title = "Loans"\ntitle = "Loans"', 3, "each may stand here once"),
    ('title = "Loans"', "title = 5", 2, "title must be a text"),
    ('target = "default"', 'target = "defualt"', 3, "did you mean 'default'"),
    ("outcomes =", 'source = "postgresql://me:secret@host/db"\noutcomes =', 4, "a declaration holds no password"),
    ("missed = 5", "missed = -5", 5, "costs of mistakes must be numbers from 0"),
    ("missed = 5", 'missed = "5"', 5, "missed must be a finite number"),
    ("false_alarm", "false_alarms", 5, "did you mean 'false_alarm'"),
    ('"no", defaults', '"not", defaults', 4, "a class for 'not', which is not among its values"),
    ("[columns]", "[colums]", 11, "did you mean 'columns'"),
    ('kind = "number", low = 1', 'kind = "nummer", low = 1', 12, "did you mean 'number'"),
    ("low = 1, high = 100_000", "low = 1, hihg = 100_000", 12, "did you mean 'high'"),
    ("low = 1, high = 100_000", "low = 9, high = 1", 12, "the lower one first"),
    ("low = 1, high = 100_000", "low = 1, high = inf", 12, "high must be a finite number"),
    ("low = 1, high = 100_000", "low = 1, high = 1e31", 12, "too large to learn from"),
    ("customer = {", "result = {", 16, "answers use that name"),
    ("age = {kind", 'age = {missing = "no", kind', 14, "missing must be true or false"),
    ('"house"]', '"house", "car"]', 15, "distinct"),
    ('"house"]', '"house"', 15, "not closed"),
    ('customer = {kind = "id"}', 'customer = {kind = "integer", low = 1, low = 2}', 16, "gives a key twice"),
    ('numerator = "amount"', 'numerator = "amuont"', 20, "must divide a number"),
    ("age = [25]", "aeg = [25]", 23, "did you mean 'age'"),
    ("age = [25]", "age = [30, 25]", 23, "must ascend"),
    ("smallest = {roc_auc", "smallest = {accuraccy", 26, "which this task does not measure"),
    ("smallest_ratio = {age", "smallest_ratio = {months", 27, "which are not declared"),
    ("smallest_ratio", "smalest_ratio", 27, "did you mean 'smallest_ratio'"),
    ('"LgbClassifier"', '"LgbRegressor"', 29, "the task needs a model that is a Classifier"),
    ("num_leaves =", "num_leafs =", 33, "has no parameter num_leafs"),
    ("low = 4, high = 24", "low = 24, high = 4", 33, "the smaller one first"),
    ('"OneHot", "Standardize"', '"OneHut", "Standardize"', 38, "did you mean 'OneHot'"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "advice"), MISTAKES, ids=[wrong for _, wrong, _, _ in MISTAKES])
def test_a_mistake_is_one_sentence_with_file_line_and_what_would_be_right(
    right: str, wrong: str, line: int, advice: str, tmp_path: Path
) -> None:
    assert LOANS.count(right) >= 1
    sentence = refusal(tmp_path, LOANS.replace(right, wrong, 1))
    assert re.match(r"loans\.toml, line (\d+): ", sentence), sentence
    assert advice in sentence
    found = int(re.findall(r"line (\d+)", sentence)[0])
    assert found in (line, line + 1), sentence  # a bracket that is not closed is noticed in the next line


def test_what_is_not_text_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "loans.toml").write_bytes(LOANS.replace("branch", "Straße").encode("cp1252"))
    with pytest.raises(InvalidUseCaseError, match=r"^loans\.toml, line 1: this is not UTF-8"):
        read_declaration(tmp_path / "loans.toml")


def test_a_byte_order_mark_is_not_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "loans.toml").write_bytes(b"\xef\xbb\xbf" + LOANS.encode())
    assert read_declaration(tmp_path / "loans.toml").title == "Loans"


LETTERS = st.sampled_from([*"[]{}=\"',.#\\ \n", "-1", "true", "nan", "1e999", "9" * 5000, "x", "\0", "[" * 5000])


@pytest.mark.parametrize("long", ["9" * 2000, "a" * 2000, '"' + "b" * 2000 + '"'])
def test_a_sentence_shows_the_beginning_of_whatever_is_too_long(tmp_path: Path, long: str) -> None:
    for at in range(0, len(LOANS), 3):
        said = ""
        try:
            read(tmp_path, LOANS[:at] + long + LOANS[at:])
        except InvalidUseCaseError as error:
            said = str(error)
        assert len(said) < 1000, at


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=3 * settings().max_examples, deadline=None
)
@given(st.integers(0, len(LOANS)), st.integers(0, 12), LETTERS)
def test_whatever_is_changed_a_file_is_read_or_refused_in_one_sentence(
    tmp_path: Path, at: int, removed: int, put: str
) -> None:
    text = LOANS[:at] + put + LOANS[at + removed :]
    said = "loans.toml, line 1: nothing is wrong"
    try:
        read(tmp_path, text)
    except InvalidUseCaseError as error:
        said = str(error)
    assert re.fullmatch(r"loans\.toml, line \d+: [^\n]{10,1500}", said), said


VALUES = st.sampled_from([None, "", "x", -1, 0, 1.5, True, [], ["x"], [1], {}, {"kind": "id"}, {"x": 1}, [[]], [{}]])


def places(plain: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in plain data."""
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [above, *(place for key, value in inner for place in places(value, (*above, key)))]


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(st.data())
def test_whatever_stands_in_plain_data_it_is_read_or_refused(data: st.DataObject) -> None:
    plain = tomllib.loads(LOANS)
    *above, key = data.draw(st.sampled_from(places(plain)[1:]))
    inner: Any = plain
    for one in above:
        inner = inner[one]
    inner[key] = data.draw(VALUES)
    place: tuple[str, ...] = (str(key),)
    try:
        from_plain(plain, "loans")
    except InvalidUseCaseError as error:
        place = error.place
    assert place


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ((), 1),
        (("title",), 2),
        (("limits",), 6),
        (("columns",), 11),
        (("columns", "age"), 14),
        (("columns", "age", "nothing"), 14),
        (("gates", "smallest", "roc_auc"), 26),
        (("algorithms", "trees", "search", "num_leaves"), 33),
        (("nothing",), 1),
    ],
)
def test_the_line_of_a_place_is_where_it_is_declared(place: tuple[str, ...], line: int) -> None:
    assert line_of(LOANS, place) == line
