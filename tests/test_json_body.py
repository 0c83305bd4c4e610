"""JSON bodies: they have one meaning, and are bounded before they are built."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.features import Integer
from tabserve.errors import (
    FileLimitError,
    InvalidBodyError,
    InvalidFieldsError,
    NothingToPredictError,
    TooManyRowsError,
)
from tabserve.tables.json_body import COLUMNS, DEEPEST, as_columns, as_list, parse
from tests.conftest import ROOT

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
JSON = {"ensure_ascii": False, "separators": (",", ":")}


@given(VALUES)
def test_json_without_repeated_keys_is_what_it_says(value: Any) -> None:
    try:
        content = json.dumps(value, **JSON).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return
    assert parse(content, 100, 50) == value


@given(st.lists(st.tuples(st.sampled_from(["age", "job", "", "a:b", "\u00e4"]), VALUES), max_size=6), st.booleans())
def test_an_object_is_refused_exactly_when_it_has_a_key_twice(pairs: list[tuple[str, Any]], is_in_list: bool) -> None:
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
    names = [name for name, _ in pairs]
    repeated = {name for name in names if names.count(name) > 1}
    content = (f'[{{"x":":"}},{text}]' if is_in_list else text).encode()
    if not repeated:
        parse(content, 100, 50)
        return
    with pytest.raises(InvalidFieldsError) as error:
        parse(content, 100, 50)
    faults: Any = error.value.by_field
    assert (faults["rows"]["1"] if is_in_list else faults) == {name: ["Given more than once."] for name in repeated}


def test_the_repeated_keys_of_a_list_are_named_by_row() -> None:
    content = b'[{"age": 1}, {"age": 30, "job": "x", "age": 40}, {"age": 1, "age": 1, "job": 1, "job": 1}]'
    with pytest.raises(InvalidFieldsError) as error:
        parse(content, 100, 50)
    assert error.value.by_field["count"] == 2
    assert {row: set(names) for row, names in error.value.by_field["rows"].items()} == {
        "1": {"age"},
        "2": {"age", "job"},
    }


def test_numbers_that_json_does_not_know_are_read_so_that_their_field_can_be_named() -> None:
    record = parse(b'{"a": NaN, "b": Infinity, "c": 1e999}', 100, 50)
    assert list(record) == ["a", "b", "c"]
    with pytest.raises(InvalidFieldsError):
        parse(b'{"a": NaN, "a": 1}', 100, 50)


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b"\xff", b'{"a":1,}'])
def test_what_is_not_json_is_a_bad_request(content: bytes) -> None:
    with pytest.raises(InvalidBodyError, match=r"The body is not JSON\."):
        parse(content, 1000, 50)


def test_what_is_too_deep_for_any_reader_is_a_bad_request() -> None:
    with pytest.raises(InvalidBodyError, match=r"not JSON|nested too deep"):  # some versions of Python read it
        parse(b"[" * 2000 + b"]" * 2000, 1000, 50)


@pytest.mark.parametrize("block", [b"{},", b"[],", b'{"":0},', b"[[[]]],", b'{"a":{"a":{}}},'])
def test_blocks_of_empty_objects_are_counted_before_they_are_built(block: bytes) -> None:
    content = b"[" + block * (1_000_000 // len(block)) + b"0]"
    with pytest.raises(TooManyRowsError):
        parse(content, 1000, 50)


@pytest.mark.parametrize("block", ["{},", "[],", '"ab",', "1.5,", '{"a":1.5},', '"\U0001f6b2",'])
def test_the_largest_body_takes_no_more_memory_than_a_container_has(block: str) -> None:
    program = f"""
import resource
from tabserve.tables.json_body import parse
block = {block!r}.encode()
content = b"[" + block * (16 * 1024**2 // len(block) - 1) + b"0]"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse(content, 100_000, 50)
except Exception as error:
    assert type(error).__name__ in ("TooManyRowsError", "FileLimitError"), error
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 260  # megabytes; empty objects would take 390


@pytest.mark.parametrize(
    "content",
    [
        b"{" + b",".join(b'"%d":1' % number for number in range(100_000)) + b',"a":":"}',
        b"{" + b'"a":1,' * 100_000 + b'"a":1}',
        b'{"a":[' + b'"ab",' * 100_000 + b'":"]}',
    ],
    ids=["keys", "one key", "values"],
)
def test_an_object_of_more_than_a_record_holds_is_refused_before_it_is_built(content: bytes) -> None:
    with pytest.raises(FileLimitError, match="more keys or values than records have"):
        parse(content, 100_000, 50)


def test_texts_may_hold_what_json_is_made_of() -> None:
    record = {"a": "{[,:]}" * 100, "b": "12:30, or later"}
    assert parse(json.dumps([record] * 5).encode(), 5, 2) == [record] * 5


@given(
    st.integers(1, 300),
    st.sampled_from(["[{}]", '{{"a":{}}}', '[{{"a":{}}}]']),
    st.sampled_from(["1", '"[[[["', "NaN"]),
)
def test_a_body_is_not_nested_deeper_than_everybody_can_read(depth: int, around: str, inner: str) -> None:
    content = inner
    for _ in range(depth):
        content = around.format(content)
    levels = depth * (around.count("[") + around.count("{{"))
    try:
        parse(content.encode(), 10, 10)
        is_refused = False
    except InvalidBodyError as error:
        is_refused = "nested too deep" in str(error)
    assert is_refused == (levels > DEEPEST)


def test_brackets_in_texts_are_no_depth() -> None:
    records = [{"a": "["}] * (3 * DEEPEST)
    assert parse(json.dumps(records).encode(), len(records), 1) == records


def test_a_list_is_of_objects_and_neither_empty_nor_too_long() -> None:
    assert as_list([{}, {"a": 1}], 2) == [{}, {"a": 1}]
    with pytest.raises(TooManyRowsError):
        as_list([{}] * 3, 2)
    with pytest.raises(NothingToPredictError):
        as_list([], 2)
    for body in ({}, "x", None, [1], [{}, []]):
        with pytest.raises(InvalidBodyError):
            as_list(body, 2)


# columns

AGE, YEAR, OUTCOME = Integer(name="age", high=120), Integer(name="year", missing=True), Integer(name="default")


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5))
def test_columns_are_the_records_that_they_make(rows: list[tuple[Any, Any]]) -> None:
    columns = {"age": [age for age, _ in rows], "year": [year for _, year in rows]}
    try:
        content = json.dumps({COLUMNS: columns}, **JSON).encode()
    except UnicodeEncodeError:
        return
    body = parse(content, 100, 50)
    assert [*as_list(as_columns(body[COLUMNS], [AGE, YEAR], []), 5)] == [{"age": a, "year": y} for a, y in rows]


@pytest.mark.parametrize("columns", [[], None, {"age": 1}, {"age": {"0": 1}}, {"age": [1], "year": None}])
def test_columns_are_lists(columns: Any) -> None:
    with pytest.raises(InvalidBodyError, match="an object with a list of values for each column"):
        as_columns(columns, [AGE, YEAR], [])


def test_columns_are_equally_long_not_empty_and_not_too_long() -> None:
    with pytest.raises(InvalidBodyError, match="equally long: of values, 'age' has 2 and 'year' has 1"):
        as_columns({"age": [1, 2], "year": [1]}, [AGE, YEAR], [])
    for empty in (as_columns({"age": []}, [AGE], []), as_columns({}, [YEAR], [])):
        with pytest.raises(NothingToPredictError):
            as_list(empty, 5)
    with pytest.raises(TooManyRowsError):
        as_list(as_columns({"age": [1] * 6}, [AGE], []), 5)


def test_columns_that_are_missing_or_not_known_are_named() -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        as_columns({"year": [1], "colour": ["red"], "x" * 99: [1]}, [AGE, YEAR], [OUTCOME])
    assert caught.value.by_field == {
        "age": ["Missing data for required field."],
        "colour": ["Unknown field."],
        "x" * 64: ["Unknown field."],
    }
    assert len(as_columns({"age": [1], "default": [1]}, [AGE, YEAR], [OUTCOME])) == 1


@pytest.mark.parametrize(
    "content", [b'{"columns":{"age":[1],"age":[2]}}', b'{"columns": {"a": ["x:y"], "age": [], "age": []}}']
)
def test_a_column_that_is_given_twice_is_named(content: bytes) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        parse(content, 100, 50)
    assert caught.value.by_field == {"age": ["Given more than once."]}


def test_columns_are_bounded_before_they_are_built() -> None:
    values = b",".join([b"1"] * 4_000)
    assert len(parse(b'{"columns":{"age":[%s]}}' % values, 4_000, 1)[COLUMNS]["age"]) == 4_000
    many = b",".join(b'"k%d" :[]' % number for number in range(4_000))
    for content in (b'{"columns":{"age":[%s]}}' % values, b'{ "columns": {%s}}' % many):
        with pytest.raises(FileLimitError):
            parse(content, 10, 1)
    with pytest.raises(FileLimitError, match="more keys"):
        parse(b'{ "columns": {%s}}' % many, 2_000, 50)
