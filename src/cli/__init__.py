"""The `tabserve` command.

Each subcommand is a module that is imported when it runs: `tabserve --help` needs only click.
"""

import os
import sys
from pathlib import Path

from tabserve.cli.interrupt import end_at_interrupt


def main() -> None:
    """Run the command in the process's arguments."""
    end_at_interrupt()  # while modules are imported
    if sys.stdin is None:  # closed: treat it as empty
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - until the process ends
    from tabserve.cli.commands import tabserve

    tabserve(prog_name="tabserve")
