"""The list of all commands."""

import click

from tabserve import __version__
from tabserve.cli.group import Group, Lazy


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tabserve")
def tabserve() -> None:
    """Train models on tables and serve their predictions.

    Settings come from the environment: MODEL_REGISTRY says where the models are; the default is the folder models.

    Exit status: 0 for success; 1 when something was refused or failed, with one line that says why; 2 when the command
    was mistyped; 130 after Ctrl-C.
    """


for _command in (
    Lazy("init", "tabserve.cli.init:init", "Draft a declaration from a table."),
    Lazy("check", "tabserve.cli.check:check", "Check a declaration and its data."),
    Lazy("train", "tabserve.train_pipeline:main", "Train models on a table."),
    Lazy("score", "tabserve.cli.score:score", "Score files, buckets and databases offline."),
    Lazy("serve", "tabserve.cli.serve:serve", "Serve predictions over HTTP."),
    Lazy("worker", "tabserve.cli.worker:worker", "Answer large tables, beside the service."),
    Lazy("mover", "tabserve.cli.mover:mover", "Move decisions into their database, beside the service."),
    Lazy("monitor", "tabserve.cli.monitor:monitor", "Compare what was decided with training and outcomes."),
    Lazy("models", "tabserve.cli.models:models", "List, show, promote, verify, copy and delete models."),
    Lazy("decisions", "tabserve.cli.decisions:decisions", "Find, export, erase and replay logged decisions."),
    Lazy("outcomes", "tabserve.cli.outcomes:outcomes", "Record what really happened."),
    Lazy("users", "tabserve.cli.users:users", "List, add and remove users of the service."),
    Lazy("openapi", "tabserve.cli.openapi:openapi", "Print the service's OpenAPI document."),
):
    tabserve.add_command(_command)
