"""The decision log, for the time of a command."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tabserve.decisions.store import DecisionStore


def open_log(address: str) -> "DecisionStore":
    """The decision log at an address; its connections are closed when the command ends."""
    from tabserve.decisions.store import DecisionStore  # imported here: SQLAlchemy takes 0.2 s

    store = DecisionStore(address)
    click.get_current_context().call_on_close(store.database.close)
    return store
