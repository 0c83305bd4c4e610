"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Sequence

import click

json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON.")


def as_json(value: object) -> str:
    """The value as JSON that people can read, too."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, whose cells begin below each other; the last cell of a row may be as long as it is."""
    places = range(max(map(len, rows)))
    widths = [max((len(row[place]) for row in rows if place < len(row) - 1), default=0) for place in places]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
