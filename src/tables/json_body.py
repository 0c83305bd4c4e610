"""Reads JSON bodies: counted before they are built, without repeated keys."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Any

import numpy as np
import orjson

from tabserve.aliases import Record
from tabserve.columns.features import Feature
from tabserve.errors import (
    FileLimitError,
    InvalidBodyError,
    InvalidFieldsError,
    NothingToPredictError,
    TooManyRowsError,
)
from tabserve.tables.checking import MISSING, MOST_FIELDS, MOST_ROWS, UNKNOWN, FieldProblems, printable
from tabserve.tables.kept import ColumnRecords, ValueRecords

NOT_JSON = "The body is not JSON."
REPEATED = "Given more than once."
SPARE = 1000  # more braces, brackets, colons and commas than records have are allowed: texts or wrong values hold them
MOST_LISTS = 101_000  # brackets, in wrong values and texts
IN_TEXTS = 10  # times as many colons and commas as the fields need are allowed: texts may hold them, too
DEEPEST = 100  # lists and objects within each other: what is kept of a record is read by other programs, too
COLUMNS = "columns"  # the only key of a body that holds columns instead of records
_BY_COLUMNS = re.compile(rb'\s*\{\s*"columns"\s*:\s*\{')
_KEY = re.compile(rb'"\s*:')
_NO_BRACKETS = bytes({*range(256)} - {*b"[]{}"})


def parse(content: bytes, max_rows: int, fields: int) -> Any:
    """Return the JSON of a body; objects with repeated keys are refused.

    An empty object or list takes 3 bytes in a body and 70 in memory; a key or a short text takes 60. So they are
    counted first, and a body that holds more of them than records of so many fields is refused before it is built.
    Columns have as many values as so many records, and few keys.
    """
    objects, lists, colons = content.count(b"{"), content.count(b"["), content.count(b":")
    if objects > max_rows + SPARE or lists > MOST_LISTS:
        raise TooManyRowsError(max_rows)
    by_columns = _BY_COLUMNS.match(content) is not None
    rows = max_rows + 1 if by_columns else objects
    has_many = max(colons, content.count(b",")) > IN_TEXTS * rows * (fields + 1) + SPARE
    if has_many or (by_columns and colons > max_rows + SPARE and _has_more_keys(content, max_rows + SPARE)):
        raise FileLimitError(
            "The body holds more keys or values than records have: send a record, or a list of records."
        )
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        # Many writers emit NaN and Infinity, which are not JSON, or 1e999: read them, so that the field can be named.
        body = _loads(content)
    if objects + lists > DEEPEST and _may_be_deep(content) and _is_deep(body):
        raise InvalidBodyError(f"The body is nested too deep: more than {DEEPEST} lists and objects within each other.")
    if colons > _keys(body):  # in most bodies each colon is a key's, and no key is repeated
        _refuse_repetitions(_loads(content, _repeated))
    return body


def as_list(body: Any, most: int) -> Sequence[Record]:
    """Return the body as a list of records, or as columns of them, neither empty nor too long."""
    is_list = isinstance(body, list) and all(type(record) is dict for record in body)
    if not (is_list or isinstance(body, ColumnRecords)):
        raise InvalidBodyError("The body must be a list of JSON objects; /output takes a single object too.")
    if not len(body):
        raise NothingToPredictError
    if len(body) > most:
        raise TooManyRowsError(most)
    records: Sequence[Record] = body
    return records


def as_columns(columns: Any, features: Iterable[Feature], others: Iterable[Feature]) -> ValueRecords:
    """The columns of a body as records.

    Parameters
    ----------
    columns : object
        What stands under `COLUMNS`.
    features : iterable of Feature
        The columns that it must have, unless they are optional.
    others : iterable of Feature
        What it may have, too.

    Raises
    ------
    InvalidBodyError
        Unless it is an object of equally long lists.
    InvalidFieldsError
        With the columns that are missing and those that are not known.
    """
    if type(columns) is not dict or not all(type(values) is list for values in columns.values()):
        raise InvalidBodyError("`columns` must be an object with a list of values for each column.")
    problems = {one.name: [MISSING] for one in features if not one.optional and one.name not in columns}
    known = {one.name for one in (*features, *others)}
    problems |= {name: [UNKNOWN] for name in nsmallest(MOST_FIELDS, columns.keys() - known)}
    if problems:
        raise InvalidFieldsError({printable(name): problem for name, problem in [*problems.items()][:MOST_FIELDS]})
    lengths = {len(values): name for name, values in columns.items()}
    if len(lengths) > 1:
        words = " and ".join(f"'{name}' has {length}" for length, name in [*lengths.items()][:2])
        raise InvalidBodyError(f"The columns must be equally long: of values, {words}.")
    return ValueRecords(columns, next(iter(lengths), 0))


def _may_be_deep(content: bytes) -> bool:
    """Whether a body is nested deeper than `DEEPEST`, if none of the brackets stands in a text."""
    brackets = np.frombuffer(content.translate(None, _NO_BRACKETS), np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    return int(np.cumsum(np.where(opens, 1, -1)).max(initial=0)) > DEEPEST


def _is_deep(body: Any) -> bool:
    level = [body]
    for _ in range(DEEPEST + 1):
        nested = (one.values() if type(one) is dict else one for one in level if type(one) in (dict, list))
        level = [value for values in nested for value in values]
    return bool(level)


def _has_more_keys(content: bytes, most: int) -> bool:
    """Whether more than `most` keys stand in a body, for colons may also stand in texts."""
    return next(itertools.islice(_KEY.finditer(content), most, None), None) is not None


def _loads(content: bytes, object_pairs_hook: Any = None) -> Any:
    try:
        return json.loads(content.decode(), object_pairs_hook=object_pairs_hook)
    except (ValueError, RecursionError):
        raise InvalidBodyError(NOT_JSON) from None


def _keys(body: Any) -> int:
    if type(body) is list:
        return sum(len(record) for record in body if type(record) is dict)
    if type(body) is not dict:
        return 0
    inner = body.get(COLUMNS)
    return len(body) + (len(inner) if type(inner) is dict else 0)


def _repeated(pairs: Sequence[tuple[str, Any]]) -> FieldProblems:
    """What is wrong with an object's keys; its values are not kept."""
    names = Counter(name for name, _ in pairs)
    if len(names) == len(pairs):
        return dict(pairs)[COLUMNS] if [*names] == [COLUMNS] and type(pairs[0][1]) is dict else {}
    return {printable(name): [REPEATED] for name, n in names.most_common(MOST_FIELDS) if n > 1}


def _refuse_repetitions(faults: Any) -> None:
    """Refuse a body for what `_repeated` found in its records; an object among a record's values is wrong anyway."""
    if type(faults) is dict and faults:
        raise InvalidFieldsError(faults)
    if type(faults) is list:
        rows = {str(row): fault for row, fault in enumerate(faults) if type(fault) is dict and fault}
        if rows:
            raise InvalidFieldsError({"rows": dict([*rows.items()][:MOST_ROWS]), "count": len(rows)})
