"""The `tabserve` command.

Each subcommand is a module that is imported when it runs: `tabserve --help` needs only click.
"""

from tabserve.cli.interrupt import end_at_interrupt


def main() -> None:
    """Run the command in the process's arguments."""
    end_at_interrupt()  # while modules are imported
    from tabserve.cli.commands import tabserve

    tabserve(prog_name="tabserve")
