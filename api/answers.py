"""Writes answers: as JSON, or as a file like the one that was sent, with the answer's columns."""

import codecs
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from flask import Response

from tabserve.aliases import Record
from tabserve.explain import Explanation
from tabserve.predict import Prediction
from tabserve.predictor import TablePrediction, ids_of
from tabserve.registry.artifact import Artifact
from tabserve.tables.table import row_ranges
from tabserve.tables.writer import written_like

ROW_NUMBERS = "Row-Numbers"  # header of a table's answer: which rows of the file its records are
READ_AS = "Read-As"  # header of a table's answer: how the file that was sent was read
# the kinds of files that a table is answered as, and their media types
FILE_ANSWERS = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
    "feather": "application/vnd.apache.arrow.file",
    "jsonl": "application/jsonl",
}
CHARSETS = {"utf-8-sig": "utf-8", "cp1252": "windows-1252", "iso8859-1": "iso-8859-1"}  # what browsers call encodings
LONGEST_HEADER = 2000  # characters: proxies refuse answers whose headers are long


def as_json(content: Any) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(content), content_type="application/json")


def record_content(artifact: Artifact, record: Record, prediction: Prediction) -> dict[str, Any]:
    """The prediction of a record, as it is answered."""
    content = _content(artifact, prediction)
    if artifact.declared.extras and (ids := ids_of(artifact, [record])):
        content["ids"] = ids
    return content


def table_content(answer: TablePrediction) -> dict[str, Any]:
    """The predictions of a table, as they are answered: in the order of its rows."""
    content = {**_content(answer.artifact, answer.prediction), **answer.summary()}
    if ids := answer.ids():
        content["ids"] = ids
    return content


def table_as_file(answer: TablePrediction, kind: str) -> Response:
    """Answer with the table, the answer's columns and what is wrong with invalid rows, as a file.

    It is written as the file that was sent if that is of this kind.
    """
    read_as = answer.table.read_as
    written_as = read_as if read_as.get("format") == kind else {"format": kind}
    headers = {
        ROW_NUMBERS: row_ranges(answer.table.rows, LONGEST_HEADER),
        READ_AS: json.dumps(read_as)[:LONGEST_HEADER],  # in ASCII, as headers are
    }
    content_type = media_type_of(kind, written_as)
    return Response(written_like(written_as, answer.columns()), headers=headers, content_type=content_type)


def media_type_of(kind: str, read_as: Mapping[str, str]) -> str:
    """The media type of a file that is written as one that was read."""
    if kind != "csv":
        return FILE_ANSWERS[kind]
    encoding = codecs.lookup(read_as.get("encoding", "utf-8")).name if read_as.get("format") == "csv" else "utf-8"
    return f"{FILE_ANSWERS[kind]}; charset={CHARSETS.get(encoding, encoding)}"


def explanations_as_json(artifact: Artifact, explanations: Sequence[Explanation]) -> Response:
    """Answer with explanations, in the order of the records."""
    return as_json(
        {
            "model": artifact.model_id,
            "version": artifact.manifest.version,
            "explanations": [_explanation(one) for one in explanations],
        }
    )


def _content(artifact: Artifact, prediction: Prediction) -> dict[str, Any]:
    return {
        "model": artifact.model_id,
        "version": artifact.manifest.version,
        **prediction.columns,
        "errors": None,
    }


def _explanation(one: Explanation) -> dict[str, Any]:
    both = {"reasons": one.reasons, "counter_reasons": one.counter_reasons}
    return {**vars(one), **{name: [reason.to_json() for reason in reasons] for name, reasons in both.items()}}
