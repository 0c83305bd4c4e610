"""Reads what requests hold: bodies, files, and the query."""

from collections.abc import Mapping, Sequence

from flask import request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from tabserve.aliases import Record
from tabserve.columns.features import Feature
from tabserve.errors import InvalidFieldsError
from tabserve.tables.checking import MOST_FIELDS, printable
from tabserve.tables.formats import check_file_name
from tabserve.tables.json_body import REPEATED


def read_body(longest: int) -> bytes:
    """Return the request's body, read from the server's own stream.

    Flask's wrapper checks the length, which costs as much as a prediction, and cuts off a body of unknown length.
    """
    length = request.content_length
    if length is None:
        length = longest + 1 if request.environ.get("wsgi.input_terminated") else 0
    elif length > longest:
        raise RequestEntityTooLarge
    body: bytes = request.environ["wsgi.input"].read(length)
    if len(body) > longest:
        raise RequestEntityTooLarge
    return body


def record_in_query(features: Sequence[Feature]) -> Record:
    """Return the query as a record: texts become values, and what is no feature's stays, so that it is refused."""
    repeated = [name for name, texts in request.args.lists() if len(texts) > 1]
    if repeated:
        raise InvalidFieldsError({printable(name): [REPEATED] for name in repeated[:MOST_FIELDS]})
    parsers = {feature.name: feature.parse for feature in features}
    return {name: parsers[name](text) if name in parsers else text for name, text in request.args.items()}


def uploaded_file() -> FileStorage:
    """Return a form's one file, whose name must be that of a table."""
    # other kinds of forms are not parsed: a pair of a few bytes takes hundreds in memory
    files = request.files.getlist("fileupload") if request.mimetype == "multipart/form-data" else []
    if len(files) != 1:
        raise InvalidFieldsError({"fileupload": ["Send one file with a table in this multipart field."]})
    (file,) = files
    check_file_name(file.filename or "")
    return file


def wanted_file(kinds: Mapping[str, str]) -> str | None:
    """Which kind of file the client prefers to JSON, of those whose media types are given; None for JSON."""
    best = request.accept_mimetypes.best_match(["application/json", *kinds.values()])
    return next((kind for kind, media_type in kinds.items() if media_type == best), None)


def wants_partial() -> bool:
    """Whether the valid rows are to be answered when others are invalid."""
    if not request.query_string:
        return False
    texts = request.args.getlist("partial")
    if unknown := request.args.keys() - {"partial"}:
        raise InvalidFieldsError({printable(name): ["Unknown field."] for name in unknown})
    if texts not in (["true"], ["false"]):
        raise InvalidFieldsError({"partial": ["Must be true or false, once."]})
    return texts == ["true"]
