"""Answering: batches of raw cells become tables of input columns, answers and reasons, which keep one schema."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tabserve.columns.dates import Date
from tabserve.columns.features import Feature, Integer, Number
from tabserve.errors import Fault, ScoringError, in_short
from tabserve.explain import reason_texts
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.tables.batch import Batch
from tabserve.tables.checking import field_problems
from tabserve.tables.reading import Reading

if TYPE_CHECKING:
    import pyarrow as pa

REASON = "reason_"  # and its place from 1 on: the columns with reasons


@dataclass(frozen=True)
class Options:
    """What is written of each table.

    Parameters
    ----------
    columns : tuple of str
        The columns to write; empty for all: those of the table, then those of the answer.
    reasons : int
        How many columns with reasons the answer has.
    chunk : int
        Rows that are written at a time.
    partial : bool
        Whether rows at fault are left without an answer; otherwise they are an error.
    """

    columns: tuple[str, ...] = ()
    reasons: int = 0
    chunk: int = 65_536
    partial: bool = False


def answer_columns(artifact: Artifact, options: Options) -> list[str]:
    """The names of the columns that an answer adds."""
    return [*artifact.task.table_columns, *(f"{REASON}{place}" for place in range(1, options.reasons + 1))]


def check_columns(artifact: Artifact, options: Options) -> None:
    """Refuse columns that no table of this model can have.

    Raises
    ------
    ScoringError
        With the first of them, or when an answer's column has the name of one of the table's.
    """
    declared = [column.name for column in (*artifact.features, artifact.target.feature, *artifact.declared.extras)]
    added = answer_columns(artifact, options)
    if taken := [name for name in added if name in declared]:
        raise ScoringError(f"The table has a column '{taken[0]}', as the answer would: score it without --reasons.")
    unknown = [name for name in options.columns if name not in (*declared, *added)]
    if unknown:
        raise ScoringError(f"There is no column '{unknown[0]}' to write; there are: {in_short([*declared, *added])}.")


class Answering:
    """A table while it is answered.

    Parameters
    ----------
    artifact : Artifact
        The model that answers.
    reading : Reading
        The table.
    options : Options
        What to write.
    kept : mapping
        The types of the input columns whose cells pass as they are, by name; those of the others follow from their
        declaration.
    refuse : callable
        Is given the faults of each batch that has any.
    dictionaries : bool
        Whether texts that come as dictionaries stay so, whatever their type in the schema.

    Attributes
    ----------
    rows, refused : int
        How many rows were read so far, and how many of them have no answer.
    """

    def __init__(
        self,
        artifact: Artifact,
        reading: Reading,
        options: Options,
        kept: Mapping[str, "pa.DataType"],
        refuse: Callable[[Sequence[Fault]], None],
        *,
        dictionaries: bool = False,
    ) -> None:
        self._artifact = artifact
        self._reading = reading
        self._options = options
        self._kept = kept
        self._refuse = refuse
        self._dictionaries = dictionaries
        self._features = {feature.name: feature for feature in reading.features}
        outcome = self._features.get(artifact.target.feature.name)
        self._outcome = outcome and replace(outcome, missing=True)  # it may still be open
        self.rows = self.refused = 0
        if absent := [name for name in options.columns if name not in self._columns]:
            raise ScoringError(f"{reading.place} has no column '{absent[0]}', which --columns names.")

    @property
    def _columns(self) -> list[str]:
        return [*self._reading.columns, *answer_columns(self._artifact, self._options)]

    @cached_property
    def schema(self) -> "pa.Schema":
        """The names and types of the columns that are written."""
        import pyarrow as pa

        inputs = {name: self._kept.get(name) or _type_of(feature) for name, feature in self._features.items()}
        types = {**inputs, **_answer_types(self._artifact)}
        return pa.schema([(name, types.get(name, pa.string())) for name in self._options.columns or self._columns])

    def tables(self) -> Iterator["pa.Table"]:
        """The answered rows, in the order in which they were read."""
        waiting: list[pa.Table] = []
        for batch in self._reading.batches:
            waiting.append(self._answered(batch))
            if sum(map(len, waiting)) >= self._options.chunk:
                whole = _joined(waiting)
                full = len(whole) - len(whole) % self._options.chunk
                yield from (whole.slice(at, self._options.chunk) for at in range(0, full, self._options.chunk))
                waiting = [whole.slice(full)] if full < len(whole) else []
        if any(map(len, waiting)):
            yield _joined(waiting)

    def _answered(self, batch: Batch) -> "pa.Table":
        import pyarrow as pa

        decimal = self._reading.decimal
        encoded, faulty = self._artifact.encoder.transform_cells(batch.cells, decimal)
        faulty = self._with_odd_outcomes(batch, faulty)
        self.rows += len(encoded)
        self.refused += len(faulty)
        if len(faulty):
            self._refuse([*self._faults(batch, faulty)])
        good = np.delete(np.arange(len(encoded)), faulty)
        answers = self._answers(encoded if len(good) == len(encoded) else encoded[good])
        places = _places(good, len(encoded))
        columns = []
        for field in self.schema:
            if field.name in self._features:
                columns.append(self._passed(field, batch.cells[field.name]))
            else:
                answer = pa.array(answers[field.name], field.type, from_pandas=True)
                columns.append(answer if places is None else answer.take(places))
        return pa.Table.from_arrays(columns, names=self.schema.names)

    def _with_odd_outcomes(self, batch: Batch, faulty: Any) -> Any:
        """The rows at fault, those among them whose outcome is not allowed."""
        if self._outcome is None:
            return faulty
        _, is_odd = self._outcome.encode_cells(batch.cells[self._outcome.name], self._reading.decimal)
        return np.union1d(faulty, np.flatnonzero(is_odd))

    def _answers(self, encoded: Any) -> dict[str, Any]:
        """What the model answers to encoded rows, by column."""
        artifact = self._artifact
        if not len(encoded):
            return dict.fromkeys(answer_columns(artifact, self._options), ())
        matrix = artifact.pipeline.transform_encoded(encoded)
        predictions = artifact.model.predict(matrix)
        answers = dict(artifact.task.table_arrays(predictions, artifact.decision))
        if self._options.reasons:
            texts = reason_texts(artifact, encoded, matrix, predictions, self._options.reasons)
            answers |= {f"{REASON}{place}": column for place, column in enumerate(texts, 1)}
        return answers

    def _passed(self, field: "pa.Field", cells: "pa.Array") -> "pa.Array":
        """An input column as it is written."""
        import pyarrow as pa

        if field.name not in self._kept:
            cells = self._features[field.name].typed_array(cells, self._reading.decimal)
        elif self._dictionaries and pa.types.is_dictionary(cells.type):
            return cells
        return as_type(cells, field.type)

    def _faults(self, batch: Batch, faulty: Sequence[int]) -> Iterator[Fault]:
        """What is wrong with rows, without their values."""
        import pyarrow as pa

        rows = batch.cells.take(pa.array(faulty)) if _can_take(batch.cells) else None
        values = {
            name: (
                feature.typed_cells(rows[name], self._reading.decimal)
                if rows
                else [feature.typed_cells(batch.cells[name].slice(at, 1), self._reading.decimal)[0] for at in faulty]
            )
            for name, feature in self._features.items()
        }
        columns = [*self._artifact.features, *([self._outcome] if self._outcome else [])]
        for at, position in enumerate(faulty):
            record = {name: column[at] for name, column in values.items()}
            for name, problems in field_problems(columns, record, self._artifact.declared.extras).items():
                yield Fault(name, " ".join(problems), batch.rows[position])


def _joined(tables: "Sequence[pa.Table]") -> "pa.Table":
    import pyarrow as pa

    return tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()


def _can_take(cells: "pa.RecordBatch") -> bool:
    import pyarrow as pa

    return not any(pa.types.is_union(kind) for kind in cells.schema.types)


def _places(good: Any, rows: int) -> "pa.Array | None":
    """For each row the place of its answer among those of the good rows, null for the others; None where all are."""
    import pyarrow as pa

    if len(good) == rows:
        return None
    places = np.full(rows, -1)
    places[good] = np.arange(len(good))
    return pa.array(places, mask=places < 0)


def _answer_types(artifact: Artifact) -> dict[str, "pa.DataType"]:
    """The types of the answer's columns: those of the answer to the example."""
    import pyarrow as pa

    example = make_prediction(artifact, [artifact.declared.example]).columns
    return {name: pa.array(column).type for name, column in artifact.task.as_table(example).items()}


def _type_of(feature: Feature) -> "pa.DataType":
    """The type of a column's values."""
    import pyarrow as pa

    if isinstance(feature, Date):
        return pa.date32()
    if isinstance(feature, Integer):
        return pa.int64()
    if isinstance(feature, Number):
        return pa.float64()
    return {"boolean": pa.bool_(), "datetime": pa.timestamp("us")}.get(feature.kind, pa.string())


def as_type(array: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    """An array as one of another type; what the type cannot hold, such as a word among numbers, is null."""
    import pyarrow as pa

    if array.type == kind:
        return array
    if pa.types.is_binary(array.type):  # JSON of odd cells: see `cell_array`
        return _one_by_one(array, kind)
    if pa.types.is_dictionary(array.type):
        return as_type(array.dictionary, kind).take(array.indices)
    try:
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _one_by_one(array, kind)


def _one_by_one(array: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    """Each value as one of a type, or null."""
    import pyarrow as pa

    from tabserve.columns.arrays import python_cells

    def fitting(value: Any) -> Any:
        try:
            return None if value is None else pa.scalar(value).cast(kind).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError, UnicodeError):
            return str(value).encode(errors="replace").decode() if kind == pa.string() else None

    return pa.array([fitting(value) for value in python_cells(array)], kind)
