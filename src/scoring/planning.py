"""Planning: from what was named on the command line to the items to score, before anything is written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from tabserve.errors import ScoringError
from tabserve.scoring.answering import Options
from tabserve.scoring.database import written_sources
from tabserve.scoring.item import KEPT, Item, Scored, kept
from tabserve.scoring.reading import is_query
from tabserve.scoring.storage import BUCKETS, WILD, matching, root_of, storage_of, tables_within
from tabserve.scoring.writing import UNWRITTEN, format_of


@dataclass(frozen=True)
class Found:
    """A table that was named.

    Parameters
    ----------
    source : str
        Its path, or the address of its database.
    name : str
        The path of its scores below the destination.
    searched : str
        The folder that was searched for it, with those below; empty where it was named.
    """

    source: str
    name: str
    searched: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Parameters
    ----------
    items : list of Item
        What is still to be scored, in the order in which it was named.
    done : list of Scored
        What an earlier run has written.
    lock : str
        The path that no other run may hold meanwhile; empty for a database, which sees to that itself.
    """

    items: Sequence[Item]
    done: Sequence[Scored]
    lock: str


def find_tables(sources: Sequence[str], query: str) -> list[Found]:
    """The tables that are named.

    Parameters
    ----------
    sources : sequence of str
        Files, patterns, folders, prefixes of buckets, or the address of a database. A folder is searched with all
        folders below it, for names that end as those of tables do.
    query : str
        What to read of a database.

    Raises
    ------
    ScoringError
        When one of them names no table.
    """
    if query and not any(map(is_query, sources)):
        raise ScoringError("--query is for a database: name its address as the source, such as sqlite:///loans.db.")
    found = [one for source in sources for one in _find(source)]
    return list(dict.fromkeys(found))


def _find(source: str) -> Iterator[Found]:
    if is_query(source):
        yield Found(source, "query.csv")
        return
    storage = storage_of(source)
    if storage.version(source) is not None:
        yield Found(source, PurePosixPath(source).name)
        return
    is_pattern = WILD.search(source) is not None
    root = root_of(source) if is_pattern else source.rstrip("/")
    paths = matching(source) if is_pattern else tables_within(root)
    if not paths:
        raise ScoringError(f"There is no table at {source}: name a file, a folder with tables, or a pattern.")
    for path in paths:
        yield Found(path, path[len(root) + 1 :], root if not is_pattern or "**" in source else "")


def plan(
    tables: Sequence[Found],
    destination: str,
    model_id: str,
    registry: str,
    options: Options,
    query: str = "",
    table: str = "",
    *,
    overwrite: bool = False,
) -> Plan:
    """Decide what is written where, and what is there already.

    Parameters
    ----------
    tables : sequence of Found
        From `find_tables`.
    destination : str
        A file, where its name ends as those of tables do and no folder has this name; else a folder or a prefix.
    model_id : str
    registry : str
        Where the model is.
    options : Options
    query : str
        What to read of a database.
    table : str
        The table to write, where the destination is the address of a database.
    overwrite : bool
        Whether files of scores that are there are replaced.

    Returns
    -------
    Plan

    Raises
    ------
    ScoringError
        When two tables would be written to one file, a source would be overwritten, the destination is in a folder
        that is read, or it holds something else.
    """
    if is_query(destination) != bool(table):
        raise ScoringError("--table names the table to write: a destination such as sqlite:///scores.db needs it.")
    if is_query(destination) and overwrite:
        raise ScoringError("--overwrite replaces files only: name another table.")
    run = uuid4().hex

    def item(one: Found, output: str, record: str) -> Item:
        is_read_by_query = is_query(one.source)
        return Item(
            source=one.source,
            version="" if is_read_by_query else storage_of(one.source).version(one.source) or "",
            query=query if is_read_by_query else "",
            output=output,
            record=record,
            model_id=model_id,
            registry=registry,
            options=options,
            run=run,
            table=table,
        )

    if table:
        return _into_table([item(one, destination, "") for one in tables])
    is_file = format_of(destination) is not None and not destination.endswith("/") and not _is_folder(destination)
    if is_file and len(tables) > 1:
        raise ScoringError(f"{destination} is one file, and there are {len(tables)} tables: name a folder.")
    folder = destination.rpartition("/")[0] or "." if is_file else destination.rstrip("/")
    names = [PurePosixPath(destination).name] if is_file else [_written(one.name) for one in tables]
    _check_names(tables, names, folder)
    items = [
        item(one, f"{folder}/{name}", f"{folder}/{KEPT}/{name}.json") for one, name in zip(tables, names, strict=True)
    ]
    done = {} if overwrite else {item.output: earlier for item in items if (earlier := _earlier(item))}
    lock = f"{folder}/{KEPT}/{names[0] if is_file else ''}.lock"
    return Plan([item for item in items if item.output not in done], [*done.values()], lock)


def _into_table(items: Sequence[Item]) -> Plan:
    """What is still to be written into a table.

    Raises
    ------
    ScoringError
        When a source was written and has changed, or by another model or with other options.
    """
    written = written_sources(items[0].output, items[0].table)
    done = {}
    for item in items:
        if item.key not in written:
            continue
        origin, rows, refused = written[item.key]
        if why := _difference(item, json.loads(origin)):
            raise ScoringError(f"{item.place} {why}: name another table.")
        if is_query(item.source):
            raise ScoringError(f"{item.place} has what a query gave, which may have changed: name another table.")
        done[item.key] = Scored(item.source, item.place, rows, refused, 0, 0.0, skipped=True)
    return Plan([item for item in items if item.key not in done], [*done.values()], "")


def _is_folder(path: str) -> bool:
    return not path.startswith(BUCKETS) and Path(path).is_dir()


def _written(name: str) -> str:
    """The name of the scores of a table: its own, or XLSX for workbooks of other kinds."""
    if not name.casefold().endswith(UNWRITTEN):
        return name
    return f"{name.rpartition('.')[0]}.xlsx"


def _check_names(tables: Sequence[Found], names: Sequence[str], folder: str) -> None:
    """Refuse outputs that would replace each other or a source, or become sources of the next run."""
    storage = storage_of(folder)
    first: dict[str, str] = {}
    for one, name in zip(tables, names, strict=True):
        if name in first:
            raise ScoringError(f"{first[name]} and {one.source} would both be written as {name}: rename one.")
        first[name] = one.source
    outputs = {storage.resolved(f"{folder}/{name}") for name in names}
    for one in tables:
        if not is_query(one.source) and storage_of(one.source).resolved(one.source) in outputs:
            raise ScoringError(f"{one.source} would be replaced by its scores: name another destination.")
    for searched in {one.searched for one in tables if one.searched}:
        inside = storage_of(searched).resolved(searched) + "/"
        if any(output.startswith(inside) for output in outputs):
            raise ScoringError(f"The destination is in {searched}, where the next run would find the scores: move it.")


def _earlier(item: Item) -> Scored | None:
    """What an earlier run has written for an item; None where it is still to be scored.

    Raises
    ------
    ScoringError
        When the output exists and was made of something else.
    """
    storage = storage_of(item.output)
    size = storage.size(item.output)
    found: Mapping[str, Any] | None = kept(item.record)
    if found is None:
        if size is not None or storage.size(item.errors) is not None:
            what = item.output if size is not None else item.errors
            raise ScoringError(f"{what} exists, and this command did not write it: move it, or use --overwrite.")
        return None
    if "done" not in found or size is None:
        return None
    done = Scored(item.source, item.output, **found["done"], seconds=0.0, skipped=True)
    why = "was changed after it was written" if size != done.bytes else _difference(item, found)
    if why:
        raise ScoringError(f"{item.output} {why}: name another destination, or use --overwrite.")
    if is_query(item.source):
        raise ScoringError(f"{item.output} exists, and what a query gives may have changed: use --overwrite.")
    return None if done.refused and not item.options.partial else done


def _difference(item: Item, found: Mapping[str, Any]) -> str:
    """Why scores that are there are not those that would be written."""
    if found.get("model_id") != item.model_id:
        return f"holds the scores of another model, {found.get('model_id')}"
    if found.get("source") != item.version:
        return f"was made of {item.source} before that changed"
    if any(found.get(key) != value for key, value in item.origin.items()):
        return "was written with other options"
    return ""
