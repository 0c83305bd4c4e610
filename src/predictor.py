"""Predictor: everything that the models in a registry can be asked for.

Routes and commands translate their input, call the predictor and translate what it returns. It knows no protocol.
"""

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from tabserve.aliases import Record
from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id
from tabserve.columns.dates import Moment
from tabserve.columns.features import Feature
from tabserve.errors import (
    InvalidFieldsError,
    InvalidRecordsError,
    TabserveError,
    TooManyRowsError,
    in_short,
)
from tabserve.explain import Explanation, explain
from tabserve.predict import Prediction, joined, make_prediction, measure
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import REPORT, Manifest
from tabserve.registry.registry import Registry
from tabserve.resolver import Readiness, Resolver
from tabserve.tables.checking import MOST_ROWS, FieldProblems, field_problems, row_problems
from tabserve.tables.dialect import NOT_SURE, find_encoding
from tabserve.tables.formats import TEXT, kind_of
from tabserve.tables.json_body import COLUMNS, as_columns, parse
from tabserve.tables.kept import CellColumn, ValueRecords, WrittenColumn, column_of, has_key, taken
from tabserve.tables.limits import Deadline
from tabserve.tables.reader import read_table
from tabserve.tables.table import Table

PIECE = 5_000  # rows that are predicted at a time where somebody waits for news
LONGEST_TEXT = 500  # characters of the text, in one cell, that says what is wrong in a row


class Predictor:
    """The models in a registry, and what they answer.

    A name is resolved once, and everything else is asked of the resulting artifact. So one request is answered by one
    model.

    Parameters
    ----------
    registry : Registry
        Where the artifacts are.
    default_use_case : str, optional
        What `latest` and `champion` mean: see `Resolver`.
    compiled_trees : Path, optional
        Where machine code of models' trees is kept: see `Resolver`.
    approved_only : bool
        Whether only approved models answer: see `Resolver`.
    """

    def __init__(
        self,
        registry: Registry,
        default_use_case: str | None = None,
        compiled_trees: Path | None = None,
        *,
        approved_only: bool = False,
    ) -> None:
        self.registry = registry
        self.resolver = Resolver(registry, default_use_case, compiled_trees, approved_only=approved_only)

    # which models there are

    def resolve(self, name: str) -> Artifact:
        """The model that a name means: see `Resolver.resolve`."""
        return self.resolver.resolve(name)

    def loaded(self, name: str) -> Artifact | None:
        """The model that a name means, without asking the registry: see `Resolver.loaded`."""
        return self.resolver.loaded(name)

    def known_readiness(self, use_cases: Collection[str] = ()) -> Readiness | None:
        """The readiness as it is known without asking the registry: see `Resolver.known_readiness`."""
        return self.resolver.known_readiness(use_cases)

    def readiness(self, use_cases: Iterable[str] = ()) -> Readiness:
        """Load the models of these use cases, by default of all, and say which can be answered."""
        return self.resolver.readiness(use_cases)

    def use_cases(self) -> list[str]:
        """The use cases that are served, the default one first: see `Resolver.use_cases`."""
        return self.resolver.use_cases()

    def default_use_case(self) -> str:
        """The use case that is meant where none is named: see `Resolver.default_use_case`."""
        return self.resolver.default_use_case()

    def check_use_case(self, name: str) -> None:
        """Refuse a use case that the registry does not hold: see `Resolver.check_use_case`."""
        self.resolver.check_use_case(name)

    def answering(self) -> dict[str, Artifact]:
        """The model that answers, by use case, the default one first; use cases without one are left out."""
        found = {}
        for use_case in self.use_cases():
            with suppress(TabserveError):
                found[use_case] = self.resolve(use_case)
        return found

    def model_ids(self, use_case: str | None = None) -> list[str]:
        """The models that can be requested, of one use case or of all, newest first.

        Raises
        ------
        InvalidFieldsError
            When there is no such use case.
        """
        if use_case is not None and use_case not in (known := self.use_cases()):
            raise InvalidFieldsError({"use_case": [f"Must be one of: {in_short(known) or 'none is trained yet'}."]})
        return self.registry.list(use_case)

    def describe(self, artifact: Artifact) -> Manifest:
        """A model's manifest without figures that could reveal single people."""
        return artifact.manifest.publishable()

    def report(self, artifact: Artifact) -> bytes:
        """A model's training report, an HTML page."""
        return self.registry.read(artifact.model_id, REPORT, artifact.manifest)

    # one record

    def predict(self, artifact: Artifact, record: Record) -> Prediction:
        """Predict a record.

        Raises
        ------
        InvalidFieldsError
            With what is wrong with it, by field.
        """
        try:
            return make_prediction(artifact, [record])
        except InvalidRecordsError:
            raise InvalidFieldsError(field_problems(artifact.features, record, artifact.declared.extras)) from None

    def explain(self, artifact: Artifact, record: Record) -> Explanation:
        """Explain the answer to a record.

        Raises
        ------
        InvalidFieldsError
            With what is wrong with it, by field.
        NotExplainableError
            When the model cannot be explained.
        """
        try:
            (explanation,) = explain(artifact, [record])
        except InvalidRecordsError:
            raise InvalidFieldsError(field_problems(artifact.features, record, artifact.declared.extras)) from None
        return explanation

    # many

    def table_of(self, artifact: Artifact, records: Sequence[Record]) -> Table:
        """Records as a table; outcomes, where any record has one, become its target."""
        name = artifact.target.feature.name
        if not has_key(records, name):
            return Table.of(records)
        if isinstance(records, ValueRecords):
            return Table.of(records.without(name), records.column(name))
        features = [{key: value for key, value in record.items() if key != name} for record in records]
        return Table.of(features, [record.get(name) for record in records])

    def read_body(self, artifact: Artifact, content: bytes, max_rows: int, *, with_outcomes: bool = False) -> Any:
        """Read the JSON of a record, a list or columns for a model: see `tables.json_body.parse`.

        Parameters
        ----------
        artifact : Artifact
            Where one of its columns is called "columns", a body with only that key is a record.
        content : bytes
        max_rows : int
        with_outcomes : bool
            Whether columns may hold the target's.

        Returns
        -------
        dict, list or ColumnRecords
        """
        declared = artifact.declared
        body = parse(content, max_rows, len(declared.features) + len(declared.extras) + 1)
        if type(body) is not dict or body.keys() != {COLUMNS}:
            return body
        if any(one.name == COLUMNS for one in (*declared.features, *declared.extras, declared.target.feature)):
            return body
        others = [*declared.extras, *([declared.target.feature] if with_outcomes else [])]
        return as_columns(body[COLUMNS], declared.features, others)

    def read_table(self, artifact: Artifact, stream: BinaryIO, name: str, max_rows: int, deadline: Deadline) -> Table:
        """Read a file with a model's columns: see `tables.reader.read_table`."""
        target = artifact.target.feature
        return read_table(
            stream,
            name,
            artifact.features,
            target,
            extras=artifact.declared.extras,
            dialect=dialect_of(artifact, stream),
            max_rows=max_rows,
            deadline=deadline,
        )

    def hold_out(self, artifact: Artifact) -> bytes:
        """The file of the rows that a model's training held out.

        Raises
        ------
        NoHoldOutError
            When it is not stored here.
        """
        return self.registry.hold_out(artifact.model_id, artifact.manifest)

    def read_hold_out(self, artifact: Artifact, content: bytes, max_rows: int, deadline: Deadline) -> Table:
        """Read what `hold_out` returned.

        Raises
        ------
        TooManyRowsError
            When it has more than `max_rows`.
        FileLimitError
            When no time is left.
        """
        if artifact.manifest.hold_out.rows > max_rows:  # known before anything is read
            raise TooManyRowsError(max_rows, f"The hold-out has more than {max_rows} rows: send some as a list.")
        table = self.read_table(artifact, io.BytesIO(content), "The hold-out", max_rows, deadline)
        return replace(table, read_as={})  # no client sent it

    def predict_table(self, artifact: Artifact, table: Table, *, partial: bool = False) -> "TablePrediction":
        """Predict the rows of a table.

        Parameters
        ----------
        artifact : Artifact
            The model that answers.
        table : Table
            With the model's features and, where they are known, the outcomes.
        partial : bool
            Whether to answer the valid rows when others are invalid.

        Raises
        ------
        NothingToPredictError
            When there is no row.
        InvalidFieldsError
            With what is wrong with the first invalid rows, unless `partial` is true.
        """
        try:
            prediction = make_prediction(artifact, table.records, target=table.target, partial=partial)
        except InvalidRecordsError as error:
            raise InvalidFieldsError(_row_problems(artifact, table, error.rows)) from None
        return TablePrediction(artifact, table, prediction)

    def predict_in_pieces(
        self, artifact: Artifact, table: Table, watch: Callable[[int], None], *, partial: bool = False
    ) -> "TablePrediction":
        """Predict the rows of a table as `predict_table` does, piece by piece.

        Parameters
        ----------
        artifact, table, partial
            As for `predict_table`.
        watch : callable
            Is told how many rows are done, before and after each piece; what it raises ends the work.
        """
        pieces = []
        for start in range(0, len(table.records), PIECE) or [0]:
            watch(start)
            rows = slice(start, start + PIECE)
            target = None if table.target is None else table.target[rows]
            pieces.append(make_prediction(artifact, table.records[rows], target=target, partial=True))
        watch(len(table.records))
        prediction = joined(pieces)
        if prediction.faulty and not partial:
            raise InvalidFieldsError(_row_problems(artifact, table, prediction.faulty))
        return TablePrediction(artifact, table, prediction)

    def explain_table(self, artifact: Artifact, table: Table) -> list[Explanation]:
        """Explain the answers to the rows of a table.

        Raises
        ------
        NothingToPredictError
            When there is no row.
        InvalidFieldsError
            With what is wrong with the first invalid rows.
        NotExplainableError
            When the model cannot be explained.
        """
        try:
            return explain(artifact, table.records)
        except InvalidRecordsError as error:
            raise InvalidFieldsError(_row_problems(artifact, table, error.rows)) from None


@dataclass(frozen=True)
class TablePrediction:
    """What a model answers to the rows of a table.

    Parameters
    ----------
    artifact : Artifact
        The model.
    table : Table
        What was asked.
    prediction : Prediction
        One entry for each row, None for an invalid one.
    """

    artifact: Artifact
    table: Table
    prediction: Prediction

    def problems(self) -> dict[str, Any] | None:
        """What is wrong with the first invalid rows, by number, and how many there are; None when all are valid."""
        faulty = self.prediction.faulty
        return _row_problems(self.artifact, self.table, faulty) if faulty else None

    def score(self) -> dict[str, float | None]:
        """The headline metric by its name: None where it is undefined; empty for a table without outcomes."""
        if self.table.target is None:
            return {}
        return {self.artifact.task.answer_score.name: measure(self.artifact, self.prediction, self.table.target)}

    def summary(self) -> dict[str, Any]:
        """The answer beside what it says of each row."""
        read_as = {"read_as": dict(self.table.read_as)} if self.table.read_as else {}
        return {"version": self.artifact.manifest.version, "errors": self.problems(), **self.score(), **read_as}

    def ids(self) -> dict[str, list[Any]]:
        """The values of the columns that tell records from others, by name; empty where no record has any."""
        return ids_of(self.artifact, self.table.records, self.table.extras)

    def columns(self) -> dict[str, Iterable[Any]]:
        """The table's columns, then the answer's. The texts about invalid rows are made only while iterating."""
        table, target = self.table, self.artifact.target.feature.name
        words: dict[str, Callable[[Any], Any]] = {
            one.name: one.word for one in self.artifact.features if isinstance(one, Boolean)
        }
        declared = (*self.artifact.features, *self.artifact.declared.extras)
        words |= {one.name: _dated for one in declared if isinstance(one, Moment)}
        columns: dict[str, Iterable[Any]] = {
            name: _written(
                table.extras[name] if name in table.extras else column_of(table.records, name),
                words.get(name, _as_it_is),
            )
            for name in table.columns
        }
        if table.target is not None:
            columns[target] = _written(table.target, _as_it_is)
        columns |= self.artifact.task.as_table(self.prediction.columns)
        if self.prediction.faulty:
            columns["errors"] = _texts(self.artifact, table, self.prediction.faulty)
        return columns


def dialect_of(artifact: Artifact, stream: BinaryIO) -> Mapping[str, str]:
    """The declared encoding for a text that is not UTF-8; the rest is found out, because clients have other files."""
    encoding = artifact.manifest.declaration.get("dialect", {}).get("encoding")
    if not encoding or kind_of(stream) != TEXT:
        return {}
    names = [column.name for column in (*artifact.features, *artifact.declared.extras)]
    return {"encoding": encoding} if find_encoding(stream, names) == NOT_SURE else {}


def with_columns(artifact: Artifact, table: Table) -> Table:
    """The records of a list as a table with the declared columns that any of them has."""
    declared = (*artifact.features, *artifact.declared.extras)
    return replace(table, columns=[one.name for one in declared if has_key(table.records, one.name)])


def ids_of(
    artifact: Artifact, records: Sequence[Record], extras: Mapping[str, Sequence[Any]] = MappingProxyType({})
) -> dict[str, list[Any]]:
    """What records, or the extra columns beside them, hold in columns that tell records from others.

    Parameters
    ----------
    artifact : Artifact
        The model.
    records : sequence of mapping
        n_rows records.
    extras : mapping
        The n_rows values of each extra column of a file.

    Returns
    -------
    dict of list
        The n_rows values of each such column, None where a record has none; no column that no record has.
    """
    found = {}
    for extra in artifact.declared.extras:
        if isinstance(extra, Id):
            values = list(extras[extra.name] if extra.name in extras else column_of(records, extra.name))
            if any(value is not None for value in values):
                found[extra.name] = values
    return found


def _row_problems(artifact: Artifact, table: Table, positions: Sequence[int]) -> dict[str, Any]:
    first = positions[:MOST_ROWS]
    records = dict(zip(taken(table.rows, first), _records(artifact, table, first), strict=True))
    return row_problems(_columns(artifact, table), records, len(positions), artifact.declared.extras)


def _columns(artifact: Artifact, table: Table) -> tuple[Feature, ...]:
    """The columns that are checked; an outcome may still be unknown."""
    target = () if table.target is None else (replace(artifact.target.feature, missing=True),)
    return (*artifact.features, *target)


def _records(artifact: Artifact, table: Table, positions: Sequence[int]) -> Iterator[Record]:
    """Some of the records, with their outcomes when the table has outcomes."""
    records = iter(taken(table.records, positions))
    if table.target is None:
        return records
    outcomes = zip(records, taken(table.target, positions), strict=True)
    return ({**record, artifact.target.feature.name: outcome} for record, outcome in outcomes)


def _written(column: Sequence[Any], word: Callable[[Any], Any]) -> Iterable[Any]:
    """What is written for each value of a column."""
    return WrittenColumn(column, word) if isinstance(column, CellColumn) else map(word, column)


def _as_it_is(value: Any) -> Any:
    return value


def _dated(value: Any) -> Any:
    """A text that is a date in ISO 8601 as such, because workbooks and Parquet have dates; anything else as it is."""
    kind = datetime if isinstance(value, str) and "T" in value else date
    with suppress(ValueError, TypeError):
        moment = kind.fromisoformat(value)
        if moment.isoformat() == value and getattr(moment, "tzinfo", None) is None:
            return moment
    return value


def _texts(artifact: Artifact, table: Table, faulty: Sequence[int]) -> Iterator[str]:
    """One text for each row that says what is wrong with it, made only when needed."""
    columns, extras = _columns(artifact, table), artifact.declared.extras
    last = -1
    for position, record in zip(faulty, _records(artifact, table, faulty), strict=True):
        yield from [""] * (position - last - 1)
        yield _in_words(field_problems(columns, record, extras))
        last = position
    yield from [""] * (len(table.records) - last - 1)


def _in_words(problems: FieldProblems) -> str:
    text = "; ".join(f"{name}: {' '.join(sentences)}" for name, sentences in problems.items())
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
