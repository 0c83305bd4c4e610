"""JSON of what the decision log keeps: all that a body can hold, even halves of surrogate pairs, unlike orjson."""

import json
from typing import Any

import orjson


def dumped(value: Any) -> str:
    """A value as JSON."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError:
        return json.dumps(value)  # in ASCII


def loaded(text: str | bytes) -> Any:
    """What `dumped`, or a client, wrote."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
