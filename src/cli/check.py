"""`tabserve check`: a declaration against its data, without a training."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tabserve.declaration.discovery import get_use_case
from tabserve.errors import UniformTargetError, UnknownUseCaseError

if TYPE_CHECKING:
    from tabserve.declaration.use_case import UseCase
    from tabserve.training.parts import Data, Parts

SEED = 42  # that of a training which names no other
MOST_NAMES = 10  # columns with missing values that are listed


@click.command()
@click.argument("name", metavar="NAME|FILE.toml")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File to check instead of the use case's own.",
)
@click.option("--drop-missing-target", is_flag=True, help="Leave out rows whose target is missing, and count them.")
def check(name: str, data: Path | None, drop_missing_target: bool) -> None:
    """Check a declaration and its data: columns, values, target, number of rows. Nothing is trained."""
    from tabserve.training.console import check_installed

    use_case = _declared(name)
    click.echo(_summary(use_case))
    check_installed()
    from tabserve.training.parts import read, split

    found = read(use_case, data or use_case.path, drop_missing_target=drop_missing_target)
    for line in _about_data(use_case, found):
        click.echo(line)
    parts = split(use_case, found, SEED)
    if not use_case.task.varies(parts.train.y):
        raise UniformTargetError(use_case.target.feature.name, "the training part")
    if not use_case.task.can_be_judged_by(parts.test.y):
        raise UniformTargetError(use_case.target.feature.name, "the hold-out")
    click.echo(_about_parts(use_case, parts))


def _declared(name: str) -> "UseCase":
    try:
        if name.endswith(".toml"):
            from tabserve.declaration.toml import read_declaration

            return read_declaration(Path(name))
        return get_use_case(name)
    except UnknownUseCaseError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None


def _summary(use_case: "UseCase") -> str:
    """What is declared, in a line."""
    parts = [f"{len(columns)} {what}" for what, columns in _columns_of(use_case).items() if columns]
    algorithms = ", ".join(algorithm.name for algorithm in use_case.algorithms)
    return (
        f"{use_case.name}: {use_case.title}. {use_case.task.kind.capitalize()} of '{use_case.target.feature.name}' "
        f"from columns: {', '.join(parts)}; by {algorithms}, baseline {use_case.baseline.name}."
    )


def _columns_of(use_case: "UseCase") -> Mapping[str, Collection[object]]:
    return {"given": use_case.features, "derived": use_case.derived, "left out": use_case.extras}


def _about_data(use_case: "UseCase", data: "Data") -> Iterator[str]:
    """What the data hold, in a few lines."""
    table, target = data.table, use_case.target.feature.name
    dropped = data.source.dropped
    left_out = f" {dropped:,} without a target are left out." if dropped else ""
    yield f"{len(table):,} rows, every value valid.{left_out}"
    missing = {name: int(count) for name, count in table.isna().sum().items() if count and name != target}
    if missing:
        listed = [f"{name} {count / len(table):.1%}" for name, count in list(missing.items())[:MOST_NAMES]]
        yield f"Missing values: {', '.join(listed)}{', …' if len(missing) > MOST_NAMES else ''}."
    if use_case.task.outcomes:
        codes = use_case.target.fit().transform(list(table[target]))
        shares = [f"{int((codes == code).sum()):,} {of}" for code, of in enumerate(use_case.task.outcomes)]
        yield f"Outcomes: {', '.join(shares)}."
    else:
        values = table[target].astype(float)
        yield f"{target}: {values.min():g} to {values.max():g}, median {values.median():g}."


def _about_parts(use_case: "UseCase", parts: "Parts") -> str:
    splits, repeats = use_case.folds_of(len(parts.train.y))
    option = " --drop-missing-target" if parts.source.dropped else ""
    return (
        f"{len(parts.train.y):,} rows to train on, {len(parts.test.y):,} held out; {_in_words(splits, repeats)}. "
        f"Ready: tabserve train {use_case.name}{option}"
    )


def _in_words(splits: int, repeats: int) -> str:
    if splits == 1:
        return "a quarter of the former judges the trials"
    return f"cross-validation in {splits} folds, {repeats} time{'' if repeats == 1 else 's'}"
