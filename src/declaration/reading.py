"""Reading: plain data as the arguments of what is declared; a fault says where it is and what would be right."""

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, NoReturn, get_args, get_origin

from tabserve.columns.kinds import fits
from tabserve.errors import InvalidUseCaseError

Place = tuple[str, ...]  # the keys that lead to a value

MOST_CHOICES = 40  # that a sentence lists
LONGEST_QUOTE = 60  # characters
_WORDS = {
    str: "a text in quotation marks",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
}


def refuse(sentence: str, *place: str) -> NoReturn:
    """Raise InvalidUseCaseError for what stands at a place."""
    raise InvalidUseCaseError(sentence, place)


@contextmanager
def placed(*place: str) -> Iterator[None]:
    """Tell where an error came about that does not know it."""
    try:
        yield
    except InvalidUseCaseError as error:
        raise error if error.place else InvalidUseCaseError(str(error), place) from None


def nearest(word: object, choices: Iterable[str]) -> str:
    """What may have been meant, as a sentence."""
    choices = list(choices)
    if close := get_close_matches(str(word), choices, 1):
        return f"did you mean '{close[0]}'?"
    listed = ", ".join(choices[:MOST_CHOICES])
    return f"choose from: {listed}{', …' if len(choices) > MOST_CHOICES else ''}."


def check_keys(table: Mapping[str, Any], known: Collection[str], place: Place) -> None:
    """Refuse a key that nothing reads."""
    for key in table:
        if key not in known:
            refuse(f"'{_short(key)}' is not a key here: {nearest(key, known)}", *place, key)


def check_kind(value: Any, kind: Any, place: Place) -> None:
    """Refuse a value of another kind than an annotation's."""
    if not fits(value, kind):
        refuse(f"{place[-1]} must be {in_words(kind)}, not {_shown(value)}.", *place)


def table_at(plain: Mapping[str, Any], *place: str) -> Mapping[str, Any]:
    """The table under the last of some keys; an empty one where there is none."""
    table: Any = plain.get(place[-1], {})
    if not isinstance(table, Mapping):
        refuse(f"{place[-1]} must be a table, not {_shown(table)}.", *place)
    return table


def chosen(word: Any, choices: Mapping[str, Any], what: str, place: Place) -> Any:
    """What a word stands for."""
    if not isinstance(word, str) or word not in choices:
        refuse(f"{what} {_shown(word)} is not known: {nearest(word, choices)}", *place)
    return choices[word]


def arguments(made: type, table: Mapping[str, Any], place: Place, given: Collection[str] = ()) -> dict[str, Any]:
    """A table as the arguments of a dataclass or an estimator.

    Parameters
    ----------
    made : type
    table : mapping
        The arguments by name.
    place : tuple of str
        Where the table is.
    given : collection of str
        Arguments that come from elsewhere.

    Returns
    -------
    dict
        With tuples for lists.

    Raises
    ------
    InvalidUseCaseError
        For an unknown key, a value of another kind, or a missing one.
    """
    signature = inspect.signature(made, eval_str=True).parameters
    parameters = {name: parameter for name, parameter in signature.items() if name not in given}
    check_keys(table, parameters, place)
    for name, value in table.items():
        check_kind(value, parameters[name].annotation, (*place, name))
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in table:
            refuse(f"'{place[-1]}' needs {name}: {in_words(parameter.annotation)}.", *place)
    return {name: frozen(value) for name, value in table.items()}


def frozen(value: Any) -> Any:
    """A value with tuples for lists."""
    if isinstance(value, list):
        return tuple(map(frozen, value))
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return value


def in_words(kind: Any) -> str:
    """What a value of an annotation looks like in TOML."""
    of = get_args(kind)
    if isinstance(kind, UnionType):
        return " or ".join(in_words(one) for one in of if one is not NoneType)
    if get_origin(kind) is tuple:
        return f"a list in square brackets, each value {in_words(of[0])}"
    if get_origin(kind) in (Mapping, dict):
        return "a table in braces" if of[1] is Any else f"a table in braces, each value {in_words(of[1])}"
    return _WORDS.get(kind, "something else")


def _shown(value: Any) -> str:
    """A value as TOML has it, if it is short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list | tuple) else _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"
