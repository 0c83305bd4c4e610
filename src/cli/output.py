"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Sequence

import click

json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON.")


def as_json(value: object) -> str:
    """The value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines with aligned columns; the length of a row's last cell does not matter."""
    places = range(max(map(len, rows)))
    widths = [max((len(row[place]) for row in rows if place < len(row) - 1), default=0) for place in places]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
