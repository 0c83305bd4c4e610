"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Sequence

import click

from tabserve.log import printable

json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON.")


def as_json(value: object) -> str:
    """The value as indented JSON; what is no letter is escaped, since terminals obey some of it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines with aligned columns; the length of a row's last cell does not matter.

    What a terminal does not show is written as in Python.
    """
    rows = [[*map(printable, row)] for row in rows]
    places = range(max(map(len, rows)))
    widths = [max((len(row[place]) for row in rows if place < len(row) - 1), default=0) for place in places]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def of(count: int, noun: str) -> str:
    """A number of things in words: `1 record`, `2,000 records`; the noun is one that takes an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
