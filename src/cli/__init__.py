"""The `tabserve` command.

Each subcommand is a module, imported when it runs: `tabserve --help` needs click and nothing else.
"""

from tabserve.cli.interrupt import end_at_interrupt


def main() -> None:
    """Run the command that the process's arguments name."""
    end_at_interrupt()  # while modules are imported
    from tabserve.cli.commands import tabserve

    tabserve(prog_name="tabserve")
