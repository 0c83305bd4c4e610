"""`tabserve init`: a first declaration from a table."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tabserve.declaration.checks import ALIASES
from tabserve.declaration.discovery import ENDINGS, SHIPPED
from tabserve.errors import DraftError
from tabserve.tables.database import is_database
from tabserve.training.console import check_installed

if TYPE_CHECKING:
    from rich.console import Console

    from tabserve.draft.drafting import Draft

FOLDER = "use_cases"
LONGEST_NAME = 50  # characters, as in a model_id
NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
PLAIN = {"separator": ",", "decimal": "."}  # what need not be declared
RECOGNISED = ("utf-8", "utf-8-sig", "utf-16")  # encodings that any file in them shows by itself


@click.command()
@click.argument("data", metavar="FILE")
@click.option("--target", required=True, help="The column to predict.")
@click.option("--name", help="The use case's name.  [default: made from the file's]")
@click.option("--sheet", help="The sheet of a workbook.  [default: the one with the target]")
@click.option("--query", default="", help="What to read when FILE is the address of a database: a select, or a table.")
@click.option("--separator", help="What separates the cells of a text file.  [default: recognised]")
@click.option(
    "--decimal", type=click.Choice([".", ","]), help="The decimal sign of its numbers.  [default: recognised]"
)
@click.option("--encoding", help="Its encoding.  [default: recognised]")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(FOLDER),
    show_default=True,
    help="The folder to write to.",
)
@click.option("--force", is_flag=True, help="Overwrite what was drafted before.")
def init(
    data: str,
    target: str,
    name: str | None,
    sheet: str | None,
    query: str,
    separator: str | None,
    decimal: str | None,
    encoding: str | None,
    output: Path,
    force: bool,
) -> None:
    """Draft a declaration from FILE: what each column holds, and what you must decide.

    FILE is what training reads: text with separators, JSON lines, a workbook, Parquet, Feather, an Arrow IPC stream,
    or the address of a database. Two files are written, a declaration to edit and a page that shows the data. Nothing
    in FILE is changed.
    """
    check_installed()
    from rich.console import Console

    from tabserve.declaration.toml import write_declaration
    from tabserve.draft.drafting import draft
    from tabserve.draft.page import render_draft
    from tabserve.draft.terminal import show_draft
    from tabserve.tables.raw import read_raw

    name = name or _name_from(data)
    _check_name(name)
    toml, page = output / f"{name}.toml", output / f"{name}.data.html"
    _check_free((toml, page), force=force)
    given = {"separator": separator, "decimal": decimal, "encoding": encoding}
    dialect = {key: value for key, value in given.items() if value}
    table = read_raw(data, target, dialect, sheet, query)
    said = {
        "title": name.replace("_", " ").capitalize(),
        "source": _source(data, output),
        "query": query,
        "sheet": table.read_as.get("sheet", "") if sheet else "",
        "dialect": _dialect(table.read_as, dialect),
    }
    drafted = draft(table, target, name, said)
    output.mkdir(parents=True, exist_ok=True)
    _write(toml, write_declaration(drafted.plain(), drafted.notes()))
    _write(page, render_draft(drafted))
    console = Console()
    show_draft(console, drafted)
    _show_next(console, drafted, toml, page)


def _name_from(data: str) -> str:
    """A use case's name from that of a file or a database."""
    stem = Path(data.partition("?")[0]).name.partition(".")[0]
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return (name if name[:1].isalpha() else f"table_{name}".rstrip("_"))[:LONGEST_NAME]


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise DraftError(f"A use case cannot be called '{name}': use lower-case letters, digits and underscores.")
    if name in ALIASES:
        raise DraftError(f"A use case cannot be called '{name}', which means a model in URLs: choose one with --name.")
    if any((SHIPPED / name).with_suffix(ending).exists() for ending in ENDINGS):
        raise DraftError(f"The use case '{name}' ships with Tabserve: call yours otherwise with --name.")


def _check_free(paths: Iterable[Path], *, force: bool) -> None:
    """Nothing that somebody may have edited is overwritten."""
    for path in paths:
        if path.exists() and not force:
            raise DraftError(f"{path} is there already: choose another name with --name, or overwrite it with --force.")


def _source(data: str, folder: Path) -> str:
    """The file as it is reached from the declaration's folder; so is that of an SQLite database."""
    scheme, path = ("sqlite:///", data.removeprefix("sqlite:///")) if data.startswith("sqlite:///") else ("", data)
    if is_database(path) or Path(path).is_absolute():
        return data
    return scheme + Path(os.path.relpath(path, folder)).as_posix()


def _dialect(read_as: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What is to be declared about a text file, unless it is the plainest kind of CSV."""
    if read_as.get("format") != "csv":
        return dict(given)
    found = {key: read_as[key] for key in ("separator", "encoding") if key in read_as} | dict(given)
    if found.get("encoding") in RECOGNISED and "encoding" not in given:
        del found["encoding"]
    return {} if found.items() <= PLAIN.items() else found


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _show_next(console: "Console", drafted: "Draft", toml: Path, page: Path) -> None:
    name, folder = drafted.name, toml.parent
    setting = "" if folder == Path(FOLDER) else f"USE_CASES={folder} "
    option = " --drop-missing-target" if drafted.target.proposal.profile.missing else ""
    console.print()
    for line in (
        f"{toml}: the declaration; read it, and decide what is doubted",
        f"{page}: the same table with more of the data",
        "Then:",
        f"  {setting}tabserve check {name}",
        f"  {setting}tabserve train {name}{option}",
    ):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
