"""Reported: outcomes as they come in a body or a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, NamedTuple

from tabserve.columns.carried import Id
from tabserve.columns.features import Feature
from tabserve.decisions.reading import split_id
from tabserve.errors import BrokenArtifactError, InvalidFieldsError, UnknownModelError
from tabserve.monitoring.outcomes import Given
from tabserve.registry.artifact import Artifact, Declared
from tabserve.tables.limits import Deadline
from tabserve.tables.reader import read_table

ID, OUTCOME = "id", "outcome"


class Reported(NamedTuple):
    """Outcomes that were reported.

    Attributes
    ----------
    column : str
        The id column whose values they hold; empty when they hold the ids of decisions.
    given : list of Given
    rows : sequence of int
        The number of each, as whoever reports it sees it: places in a list from 0, rows of a file as in a spreadsheet.
    """

    column: str
    given: list[Given]
    rows: Sequence[int]


def in_list(records: Sequence[Mapping[str, Any]], declared: Declared) -> Reported:
    """Outcomes in JSON: objects with `outcome`, and `id` or a declared id column.

    Raises
    ------
    InvalidFieldsError
        When an object has other keys than the first one, or not these, or an id that can be none.
    """
    names = _names(declared)
    one_of = " and one of ".join([f"`{OUTCOME}`", ", ".join(f"`{name}`" for name in names)])
    keys = set(records[0])
    column = next(iter(keys - {OUTCOME}), "")
    if len(keys) != 2 or OUTCOME not in keys or column not in names:
        raise InvalidFieldsError({"0": [f"Must have {one_of}, and nothing else."]})
    if place := next((place for place, record in enumerate(records) if record.keys() != keys), 0):
        raise InvalidFieldsError({str(place): ["Must have the same keys as the first one."]})
    given = [Given(record[column], record[OUTCOME]) for record in records]
    kinds: tuple[type, ...] = (str,) if column == ID and column not in _id_columns(declared) else (str, int, float)
    for place, one in enumerate(given):
        if not isinstance(one.id, kinds) or isinstance(one.id, bool):
            raise InvalidFieldsError({str(place): [f"`{column}` must be {'a text' if len(kinds) == 1 else 'an id'}."]})
    return Reported(_meant(column, given, declared), given, range(len(given)))


def in_file(
    stream: BinaryIO, name: str, artifact: Artifact, max_rows: int | None = None, deadline: Deadline | None = None
) -> Reported:
    """Outcomes in a file of any kind: a column `outcome`, and `id` or a declared id column.

    Raises
    ------
    InvalidTableError
        When there are other columns, or not these; and the other errors of `read_table`.
    """
    names = _names(artifact.declared)
    ids = [Id(name=one) for one in names]
    outcome = replace(artifact.target.feature, name=OUTCOME, missing=True)
    table = read_table(stream, name, [], outcome, extras=ids, max_rows=max_rows, deadline=deadline)
    given_columns = [one for one in names if one in table.extras]
    if table.target is None or len(given_columns) != 1:
        wanted = f"a column `{OUTCOME}` and one of {', '.join(f'`{one}`' for one in names)}"
        raise InvalidFieldsError({"fileupload": [f"The file must have {wanted}."]})
    (column,) = given_columns
    given = [Given(id_, outcome) for id_, outcome in zip(table.extras[column], table.target, strict=True)]
    return Reported(_meant(column, given, artifact.declared), given, table.rows)


def targets(resolve: Callable[[str], Artifact], answering: Artifact) -> Callable[[str], Feature]:
    """What gives the target of a model that decided; of one that is gone, that of the model that answers now."""

    def target_of(model_id: str) -> Feature:
        try:
            return resolve(model_id).target.feature
        except (UnknownModelError, BrokenArtifactError):
            return answering.target.feature

    return target_of


def _names(declared: Declared) -> list[str]:
    """The columns by which outcomes may be joined."""
    return [*dict.fromkeys([ID, *_id_columns(declared)])]


def _id_columns(declared: Declared) -> list[str]:
    return [extra.name for extra in declared.extras if isinstance(extra, Id)]


def _meant(column: str, given: Sequence[Given], declared: Declared) -> str:
    """The id column that is meant, if any; where one is called `id`, the first value tells which."""
    if column != ID or (ID in _id_columns(declared) and not _is_decision(given[0].id)):
        return column
    return ""


def _is_decision(value: Any) -> bool:
    return isinstance(value, str) and split_id(value)[0] != ""
