"""What is answered: a prediction as JSON, or as the table that was sent with the answer's columns."""

import csv
import io
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import orjson
from flask import Response
from tabserve.aliases import Record
from tabserve.api.schemas import MOST_ROWS, record_schema, row_errors
from tabserve.columns.features import Feature
from tabserve.predict import Prediction
from tabserve.registry.artifact import Artifact
from tabserve.tables.reader import Table

LONGEST_TEXT = 500  # characters that a cell of a CSV answer says of what is wrong in its row
PIECE = 64 * 1024  # characters of a CSV answer that are sent at a time
ROW_NUMBERS = "Row-Numbers"  # header of a table's answer: where its records stand in the file
LONGEST_HEADER = 2000  # characters: proxies refuse answers whose headers are long
BLANKS = " \u00a0\u3000"
# what a spreadsheet may take for the beginning of a formula, also behind blanks; the last four are wide letters
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_json(content: Any) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(content), content_type="application/json")


def as_content(artifact: Artifact, prediction: Prediction) -> dict[str, Any]:
    """Return what is answered to records none of which is at fault."""
    return {
        "model": artifact.model_id,
        "version": artifact.manifest.version,
        **prediction.columns,
        "errors": None,
    }


def table_errors(artifact: Artifact, table: Table, positions: Sequence[int]) -> dict[str, Any]:
    """What is wrong with the first of a table's records at fault, by the numbers of their rows, and how many are."""
    columns = _columns(artifact, table)
    first = {table.rows[position]: _record(artifact, table, position) for position in positions[:MOST_ROWS]}
    return row_errors(record_schema(columns), first, len(positions))


def as_csv(artifact: Artifact, table: Table, prediction: Prediction) -> Response:
    """Answer with the table, the answer's columns and what is wrong with rows at fault, a piece at a time."""
    columns: dict[str, Iterable[Any]] = {name: map(itemgetter(name), table.records) for name in table.columns}
    if table.target is not None:
        columns[artifact.target.feature.name] = table.target
    columns |= prediction.columns
    if prediction.faulty:
        columns["errors"] = _texts(artifact, table, frozenset(prediction.faulty))
    rows = itertools.chain([columns], zip(*columns.values(), strict=True))
    headers = {ROW_NUMBERS: row_ranges(table.rows)}
    return Response(_pieces(rows), headers=headers, content_type="text/csv; charset=utf-8")


def row_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges, such as `2-40,42`; of very many ranges, the first."""
    text = ""
    for _, run in itertools.groupby(enumerate(numbers), lambda place: place[1] - place[0]):
        whole = [number for _, number in run]
        more = f"{whole[0]}-{whole[-1]}" if len(whole) > 1 else str(whole[0])
        if len(text) + len(more) >= LONGEST_HEADER:
            break
        text = f"{text},{more}" if text else more
    return text


def _columns(artifact: Artifact, table: Table) -> tuple[Feature, ...]:
    """The columns in which a table may be at fault; an outcome may still be open."""
    target = () if table.target is None else (replace(artifact.target.feature, missing=True),)
    return (*artifact.features, *target)


def _record(artifact: Artifact, table: Table, position: int) -> Record:
    """A record, with its outcome when the table has outcomes."""
    record = table.records[position]
    return record if table.target is None else {**record, artifact.target.feature.name: table.target[position]}


def _texts(artifact: Artifact, table: Table, faulty: Collection[int]) -> Iterator[str]:
    """What is wrong with each row, in one text that is not made before it is sent."""
    columns = _columns(artifact, table)
    for position in range(len(table.records)):
        yield _in_words(columns, _record(artifact, table, position)) if position in faulty else ""


def _in_words(columns: Sequence[Feature], record: Record) -> str:
    problems = ((column.name, column.problem(record.get(column.name))) for column in columns)
    text = "; ".join(f"{name}: {problem}" for name, problem in problems if problem)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _pieces(rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # lines end in CR LF: a cell that holds either is quoted then
    for row in rows:
        writer.writerow(map(_harmless, row))
        if text.tell() > PIECE:
            yield text.getvalue().encode(errors="replace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode(errors="replace")


def _harmless(cell: Any) -> Any:
    """The cell, with an apostrophe before a text that a spreadsheet would compute."""
    return f"'{cell}" if type(cell) is str and cell.lstrip(BLANKS).startswith(FORMULA) else cell
