"""The tables of the decision log: the records of a list or a file with what was decided, as Parquet."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from tabserve.aliases import Record
from tabserve.decisions.plain import dumped, loaded
from tabserve.tables.parquet_writer import parquet_pieces
from tabserve.tables.pieces import Pieces

# how the file's columns are named: a record's, as they are or as JSON, and then what was predicted and decided
RECORD, JSON, SCORE, DECISION = "record.", "json.", "score", "decision"
AT_ONCE = 1000  # rows that are read when some of them are wanted
EXACT = 2**53  # whole numbers up to this one are floats, too


class Rows(NamedTuple):
    """Some rows of a table, one after another.

    Attributes
    ----------
    first : int
        The place of the first one, counted from 0.
    records : list of mapping
        What was sent; without the columns that a row leaves empty.
    scores : list
        The predictions: a float, or by label a mapping; None for a row that was at fault.
    decisions : list
        None for a row that was at fault.
    """

    first: int
    records: list[Record]
    scores: list[Any]
    decisions: list[Any]


def written(
    columns: Mapping[str, Iterable[Any]],
    scores: Sequence[float | None] | Mapping[str, Sequence[float | None]],
    decisions: Sequence[Any],
) -> Iterator[bytes]:
    """A table of the log, in pieces.

    Parameters
    ----------
    columns : mapping
        The n_rows values of each column of the records, None where a record has none.
    scores : sequence of float, or by label a mapping of sequences
        The n_rows predictions, None for a row at fault.
    decisions : sequence
        The n_rows results, None for a row at fault.

    Yields
    ------
    bytes
    """
    kept = dict(_kept(name, [*values]) for name, values in columns.items())
    predicted: dict[str, Sequence[float | None]] = {}
    if isinstance(scores, Mapping):
        predicted = {f"{SCORE}.{label}": values for label, values in scores.items()}
    else:
        predicted[SCORE] = scores
    return parquet_pieces({**kept, **predicted, DECISION: decisions})


def rows_in(file: IO[bytes], size: int, first: int = 0) -> Iterator[Rows]:
    """The rows of a table of the log, at most `size` at a time.

    Parameters
    ----------
    file : binary file
        What was `written`; it must be seekable.
    size : int
        Rows at a time.
    first : int
        The row to begin with, counted from 0; groups of rows before it are not read.
    """
    for at, batch in _batches(file, size, first):
        skipped = max(first - at, 0)
        if skipped < batch.num_rows:
            yield _rows(at + skipped, batch.slice(skipped).to_pydict())


def rows_at(file: IO[bytes], places: Collection[int]) -> Iterator[Rows]:
    """Some rows of a table of the log, one at a time; the table is read once.

    Parameters
    ----------
    file : binary file
        What was `written`; it must be seekable.
    places : collection of int
        Counted from 0; those beyond the end are left out.
    """
    wanted = np.unique(np.array([*places], np.int64))
    for at, batch in _batches(file, AT_ONCE, int(wanted[0])) if len(wanted) else ():
        for place in wanted[np.searchsorted(wanted, at) : np.searchsorted(wanted, at + batch.num_rows)].tolist():
            yield _rows(place, batch.slice(place - at, 1).to_pydict())


def _batches(file: IO[bytes], size: int, first: int) -> Iterator[tuple[int, Any]]:
    """The rows of a table, at most `size` at a time, each with the first one's place; groups before `first` are not."""
    from pyarrow.parquet import ParquetFile  # large, and only tables need it

    with ParquetFile(file) as table:
        groups = [table.metadata.row_group(number).num_rows for number in range(table.num_row_groups)]
        ends = np.cumsum(groups)
        wanted = [number for number in range(len(groups)) if ends[number] > first]
        at = int(ends[wanted[0]] - groups[wanted[0]]) if wanted else 0
        for batch in table.iter_batches(size, row_groups=wanted) if wanted else ():
            yield at, batch
            at += batch.num_rows


def decided_in(file: IO[bytes]) -> list[int]:
    """The rows of a table of the log that were decided, counted from 0; those at fault or erased were not.

    Parameters
    ----------
    file : binary file
        What was `written`; it must be seekable.
    """
    from pyarrow.parquet import read_table

    return read_table(file, columns=[DECISION])[DECISION].is_valid().to_numpy().nonzero()[0].tolist()  # type: ignore[no-any-return]


def without_rows(file: IO[bytes], rows: Collection[int]) -> Iterator[bytes]:
    """A table of the log in which some rows hold nothing, in pieces; the others keep their places.

    Parameters
    ----------
    file : binary file
        What was `written`.
    rows : collection of int
        The rows, counted from 0.

    Yields
    ------
    bytes
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile, ParquetWriter

    sink = Pieces()
    with ParquetFile(file) as table, ParquetWriter(sink, table.schema_arrow) as writer:
        at = 0
        for number in range(table.num_row_groups):
            group = table.read_row_group(number)
            mask = pa.array([row in rows for row in range(at, at + group.num_rows)], pa.bool_())
            empty = [pc.if_else(mask, pa.scalar(None, column.type), column) for column in group.columns]
            writer.write_table(pa.table(empty, schema=group.schema))
            yield sink.taken()
            at += group.num_rows
    yield sink.taken()


def columns_of(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The n_rows values of each column that any of the records has, None where one has none."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _kept(name: str, values: list[Any]) -> tuple[str, list[Any]]:
    """A column's name and values in the file: as they are where Parquet keeps them all, else as JSON."""
    if _is_plain(values):
        return f"{RECORD}{name}", values
    return f"{JSON}{name}", [None if value is None else dumped(value) for value in values]


def _is_plain(values: list[Any]) -> bool:
    """Whether Parquet has a type for all values, by which each is read as it was."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        try:
            "".join(filter(None, values)).encode()
        except UnicodeEncodeError:  # halves of characters
            return False
        return True
    if int in kinds and kinds <= {int, float}:
        return all(abs(value) <= EXACT for value in values if type(value) is int)
    return len(kinds) <= 1 and kinds <= {bool, float}


def _rows(first: int, columns: dict[str, list[Any]]) -> Rows:
    decisions = columns.pop(DECISION)
    scores = _scores({name: columns.pop(name) for name in [*columns] if name.partition(".")[0] == SCORE})
    names = [name.partition(".")[2] for name in columns]
    values = [[*map(_loaded, column)] if name.startswith(JSON) else column for name, column in columns.items()]
    records = [_record(names, row) for row in zip(*values, strict=True)] if names else [{} for _ in decisions]
    return Rows(first, records, scores, decisions)


def _scores(columns: dict[str, list[Any]]) -> list[Any]:
    if SCORE in columns:
        return columns[SCORE]
    labels = [name.partition(".")[2] for name in columns]
    rows = zip(*columns.values(), strict=True)
    return [None if row[0] is None else dict(zip(labels, row, strict=True)) for row in rows]


def _record(names: list[str], row: tuple[Any, ...]) -> Record:
    return {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _loaded(text: str | None) -> Any:
    return None if text is None else loaded(text)
