"""Exporting: decisions with their records and outcomes as a file, a batch at a time."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from tabserve.decisions.plain import dumped
from tabserve.decisions.reading import SIZE, Kept, Wanted, found, iso
from tabserve.decisions.store import DecisionStore
from tabserve.decisions.tables import EXACT
from tabserve.tables.writer import csv_pieces

_OWN = ("id", "time", "use_case", "model_id", "digest", "route", "client", "request_id", "arm", "decision", "threshold")


def export(store: DecisionStore, wanted: Wanted, path: Path) -> int:
    """Write decisions into a file; what was erased is left out.

    The log is read twice: first to know the columns. Those of the records are called `record.<name>`, the probabilities
    of several classes `score.<label>`.

    Parameters
    ----------
    store : DecisionStore
    wanted : Wanted
    path : Path
        It ends in `.parquet` or else is CSV, safe to open in a spreadsheet. It appears when it is complete.

    Returns
    -------
    int
        How many decisions.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    kinds: dict[str, set[type]] = {}
    rows = 0
    for row in _rows(store, wanted):
        rows += 1
        for name, value in row.items():
            kinds.setdefault(name, set()).add(_kind(value))
    temporary = path.with_name(f".{path.name}.part")
    try:
        write = _write_parquet if path.suffix == ".parquet" else _write_csv
        write(temporary, kinds, _batches(_rows(store, wanted), [*kinds]))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _rows(store: DecisionStore, wanted: Wanted) -> Iterator[dict[str, Any]]:
    return (_row(kept) for kept in found(store, wanted, expand=True) if kept.entry.record)


def _row(kept: Kept) -> dict[str, Any]:
    entry = kept.entry
    scores = entry.score if isinstance(entry.score, Mapping) else None
    return {
        **{name: getattr(entry, name) for name in _OWN},
        "time": iso(entry.time),
        **({"score": entry.score} if scores is None else {f"score.{label}": score for label, score in scores.items()}),
        "reasons": None if entry.reasons is None else dumped(entry.reasons),
        "outcome": kept.outcome.outcome if kept.outcome else None,
        "outcome_time": iso(kept.outcome.time) if kept.outcome else None,
        **{f"record.{name}": value for name, value in entry.record.items()},
    }


def _batches(rows: Iterator[dict[str, Any]], names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Rows as columns, of which each batch has all."""
    while batch := [*itertools.islice(rows, SIZE)]:
        yield {name: [row.get(name) for row in batch] for name in names}


def _write_csv(path: Path, names: Iterable[str], batches: Iterator[dict[str, list[Any]]]) -> None:
    header = b"".join(csv_pieces({name: [] for name in names}))
    with _private(path) as file:
        file.write(header)
        for batch in batches:
            lines = b"".join(csv_pieces({name: [*map(_cell, values)] for name, values in batch.items()}))
            file.write(lines[len(header) :])


def _write_parquet(path: Path, kinds: Mapping[str, set[type]], batches: Iterator[dict[str, list[Any]]]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(name, _type(found - {type(None)})) for name, found in kinds.items()])
    texts = {field.name for field in schema if field.type == pa.string()}
    with _private(path) as file, ParquetWriter(file, schema) as writer:
        for batch in batches:
            cells = {name: [*map(_text, values)] if name in texts else values for name, values in batch.items()}
            writer.write_table(pa.table([pa.array(cells[field.name], field.type) for field in schema], schema=schema))


def _kind(value: Any) -> type:
    """The type of a value; `Decimal` for a whole number that is no float, and `object` for one that has not 64 bits."""
    if type(value) is not int or abs(value) <= EXACT:
        return type(value)
    return Decimal if -(2**63) <= value < 2**63 else object


def _type(kinds: set[type]) -> Any:
    """The type of a Parquet column with values of these kinds."""
    import pyarrow as pa

    if kinds == {bool}:
        return pa.bool_()
    if kinds and kinds <= {int, Decimal}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _cell(value: Any) -> Any:
    return dumped(value) if isinstance(value, dict | list) else value


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return (value if isinstance(value, str) else dumped(value)).encode(errors="replace").decode()


@contextmanager
def _private(path: Path) -> Iterator[Any]:
    """A new file that nobody else can read: it holds records of people."""
    path.unlink(missing_ok=True)
    path.touch(0o600, exist_ok=False)
    with path.open("wb") as file:
        yield file
