"""Reads JSON bodies: counted before they are built, without repeated keys."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from tabserve.aliases import Record
from tabserve.errors import (
    FileLimitError,
    InvalidBodyError,
    InvalidFieldsError,
    NothingToPredictError,
    TooManyRowsError,
)
from tabserve.tables.checking import MOST_FIELDS, MOST_ROWS, FieldProblems, printable

NOT_JSON = "The body is not JSON."
REPEATED = "Given more than once."
SPARE = 1000  # more braces, brackets, colons and commas than records have are allowed: texts or wrong values hold them
MOST_LISTS = 101_000  # brackets, in wrong values and texts
IN_TEXTS = 10  # times as many colons and commas as the fields need are allowed: texts may hold them, too


def parse(content: bytes, max_rows: int, fields: int) -> Any:
    """Return the JSON of a body; objects with repeated keys are refused.

    An empty object or list takes 3 bytes in a body and 70 in memory; a key or a short text takes 60. So they are
    counted first, and a body that holds more of them than records of so many fields is refused before it is built.
    """
    objects = content.count(b"{")
    if objects > max_rows + SPARE or content.count(b"[") > MOST_LISTS:
        raise TooManyRowsError(max_rows)
    if max(content.count(b":"), content.count(b",")) > IN_TEXTS * objects * (fields + 1) + SPARE:
        raise FileLimitError(
            "The body holds more keys or values than records have: send a record, or a list of records."
        )
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        # Many writers emit NaN and Infinity, which are not JSON, or 1e999: read them, so that the field can be named.
        body = _loads(content)
    if content.count(b":") > _keys(body):  # in most bodies each colon is a key's, and no key is repeated
        _refuse_repetitions(_loads(content, _repeated))
    return body


def as_list(body: Any, most: int) -> Sequence[Record]:
    """Return the body as a list of records, neither empty nor too long."""
    if type(body) is not list or not all(type(record) is dict for record in body):
        raise InvalidBodyError("The body must be a list of JSON objects; /output takes a single object too.")
    if not body:
        raise NothingToPredictError
    if len(body) > most:
        raise TooManyRowsError(most)
    return body


def _loads(content: bytes, object_pairs_hook: Any = None) -> Any:
    try:
        return json.loads(content.decode(), object_pairs_hook=object_pairs_hook)
    except (ValueError, RecursionError):
        raise InvalidBodyError(NOT_JSON) from None


def _keys(body: Any) -> int:
    if type(body) is list:
        return sum(len(record) for record in body if type(record) is dict)
    return len(body) if type(body) is dict else 0


def _repeated(pairs: Sequence[tuple[str, Any]]) -> FieldProblems:
    """What is wrong with an object's keys; its values are not kept."""
    names = Counter(name for name, _ in pairs)
    if len(names) == len(pairs):
        return {}
    return {printable(name): [REPEATED] for name, n in names.most_common(MOST_FIELDS) if n > 1}


def _refuse_repetitions(faults: Any) -> None:
    """Refuse a body for what `_repeated` found in its records; an object among a record's values is wrong anyway."""
    if type(faults) is dict and faults:
        raise InvalidFieldsError(faults)
    if type(faults) is list:
        rows = {str(row): fault for row, fault in enumerate(faults) if type(fault) is dict and fault}
        if rows:
            raise InvalidFieldsError({"rows": dict([*rows.items()][:MOST_ROWS]), "count": len(rows)})
