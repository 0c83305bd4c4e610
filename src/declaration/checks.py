"""Checks of a declaration: what cannot work is refused at once, not after an hour of tuning.

Each check yields the place of each problem, as the keys that lead to it in plain data, and one sentence.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from tabserve.columns.boolean import Boolean
from tabserve.columns.dates import Moment
from tabserve.columns.features import LARGEST_NUMBER, RESERVED_NAMES, Category, Column, Feature, Number
from tabserve.columns.kinds import fits
from tabserve.declaration.declaration import Algorithm, Declaration
from tabserve.declaration.reading import nearest
from tabserve.declaration.vocabulary import GATES, word_for
from tabserve.errors import InvalidUseCaseError

SOME_ROWS = 1000  # what is searched does not depend on their number, only the ranges do
DIALECT = ("separator", "decimal", "encoding")
ALIASES = ("latest", "champion")  # names that URLs may hold in place of a use case


Problems: TypeAlias = Iterator[tuple[tuple[str, ...], str]]


def check(use_case: Declaration) -> None:
    """Refuse a declaration that would fail later, or would not do what it says.

    Parameters
    ----------
    use_case : Declaration
        Its names are known to be distinct, and its groups to be of its features.

    Raises
    ------
    InvalidUseCaseError
        With the first problem.
    """
    for problems in (_names, _bounds, _target, _folds, _roles, _source, _groups, _gates, _promises):
        for place, problem in problems(use_case):
            raise InvalidUseCaseError(f"{use_case.name}: {problem}", place)
    for algorithm in (*use_case.algorithms, use_case.baseline):
        for problems_of in (_model, _taken_over, _transformers, _kept_promises):
            for place, problem in problems_of(use_case, algorithm):
                raise InvalidUseCaseError(f"{use_case.name}, {algorithm.name}: {problem}", place)


def _names(use_case: Declaration) -> Problems:
    if use_case.name in ALIASES:
        yield (), f"'{use_case.name}' means a model in URLs: give the use case another name."
    if not use_case.features:
        yield ("columns",), "there is no feature to predict from."
    for feature in use_case.features:
        if not feature.in_matrix:
            sentence = (
                f"no model can see '{feature.name}', which is of kind {feature.kind}: declare it among the extras."
            )
            yield place_of(feature), sentence
    for column in (*use_case.columns, *use_case.extras, use_case.target.feature):
        name, place = column.name, place_of(column)
        if name in RESERVED_NAMES or name in use_case.task.table_columns:
            yield (
                place,
                f"a column cannot be called '{name}', because answers use that name: rename it, in the data too.",
            )
        if not name:
            yield place, "each column needs a name."
    for algorithm in use_case.algorithms:
        if algorithm is not use_case.baseline and algorithm.name.lower() == use_case.baseline.name.lower():
            yield ("baseline",), f"the baseline is not the algorithm '{algorithm.name}': give it another name."


def _bounds(use_case: Declaration) -> Problems:
    for feature in (*use_case.features, use_case.target.feature):
        if isinstance(feature, Number) and max(-feature.low, feature.high) > LARGEST_NUMBER:
            most = f"{LARGEST_NUMBER:g}"
            sentence = f"the bounds of '{feature.name}' are too large to learn from: they must be within ±{most}."
            yield place_of(feature), sentence


def _target(use_case: Declaration) -> Problems:
    target = use_case.target
    labels = getattr(target, "classes", {})
    if not isinstance(labels, dict) or not fits(labels, Mapping[Any, int]):
        name = target.feature.name
        yield (), f"the classes of the target '{name}' must be a dict of labels to whole numbers from 0 on."
    for label in labels:
        if target.feature.problem(label):
            sentence = f"the target '{target.feature.name}' has a class for {label!r}, which is not among its values."
            yield ("outcomes",), sentence
    if labels and isinstance(target.feature, Category):
        for value in target.feature.values:
            if value not in labels:
                yield ("outcomes",), f"the target '{target.feature.name}' has no class for {value!r}."
    place = place_of(target.feature)
    if not isinstance(target.feature, Category | Number | Boolean):
        yield place, f"the target '{target.feature.name}' must be a category, a number or a yes or no."
    elif isinstance(target.feature, Category) and (target.feature.other or not target.feature.values):
        yield place, f"the target '{target.feature.name}' needs values, all of them, and no `other`."
    if problem := use_case.task.target_problem(target):
        yield ("target",), problem


def _folds(use_case: Declaration) -> Problems:
    if use_case.splits < 0 or use_case.repeats < 0:
        sentence = "cross-validation needs at least one split and one repeat; 0 means by the number of rows."
        yield ("repeats" if use_case.repeats < 0 else "splits",), sentence


def _roles(use_case: Declaration) -> Problems:
    """Weight, group and time name columns."""
    columns = {feature.name: feature for feature in (*use_case.features, *use_case.extras)}
    for role, name in (("weight", use_case.weight), ("group", use_case.group), ("time", use_case.time)):
        if name and name not in columns:
            yield (role,), f"{role} names the column '{name}', which does not exist: {nearest(name, columns)}"
    weight = columns.get(use_case.weight)
    if weight and (not isinstance(weight, Number) or weight.low < 0):
        sentence = f"the weight '{weight.name}' must be a number that is not negative: its low must be 0 or more."
        yield place_of(weight), sentence
    if use_case.weight in {feature.name for feature in use_case.features}:
        yield (
            ("columns", use_case.weight),
            f"no model may see the weight '{use_case.weight}', by which a row counts: make it an extra column, with "
            "input = false.",
        )
    time = columns.get(use_case.time)
    if time and not (isinstance(time, Number | Moment) and time.is_ordered):
        yield place_of(time), f"the time '{time.name}' must be a date or a number that rises with time."


def _source(use_case: Declaration) -> Problems:
    if unknown := use_case.dialect.keys() - DIALECT:
        first = min(unknown)
        yield ("dialect", first), f"the dialect has no '{first}': {nearest(first, DIALECT)}"
    if _holds_a_password(use_case.source):
        yield (
            ("source",),
            "a declaration holds no password: leave it out of the address, and give it by the environment.",
        )
    if not all(use_case.markers):
        yield ("markers",), "an empty cell is missing anyway: remove the empty marker."


def _groups(use_case: Declaration) -> Problems:
    features = {feature.name: feature for feature in use_case.features}
    for group in use_case.groups:
        place = ("groups", group.feature)
        if not use_case.task.compares_groups:
            yield place, f"groups by '{group.feature}' are compared by decisions of 0 and 1, but this task makes none."
        if group.cuts and not isinstance(features[group.feature], Number):
            yield place, f"only a number can be cut into groups, and '{group.feature}' is not a number."
        if list(group.cuts) != sorted(set(group.cuts)):
            yield place, f"the cuts of '{group.feature}' must ascend."
    if len({group.feature for group in use_case.groups}) < len(use_case.groups):
        yield ("groups",), "each feature can define groups only once."


def _gates(use_case: Declaration) -> Problems:
    metrics = use_case.task.metric_names
    for gate in use_case.gates:
        if not gate.of_groups and gate.name not in metrics:
            sentence = (
                f"a gate is on '{gate.name}', which this task does not measure; choose from: {', '.join(metrics)}."
            )
            yield ("gates", word_for(gate, GATES), gate.name), sentence


def _promises(use_case: Declaration) -> Problems:
    """Promises that no model can keep."""
    for column in use_case.columns:
        if column.monotone not in (-1, 0, 1):
            yield place_of(column), f"monotone of '{column.name}' must be 1, -1 or 0."
        if column.monotone and not column.is_ordered:
            yield place_of(column), f"'{column.name}' has no order that a prediction could follow: remove its monotone."
        if column.monotone and not use_case.task.has_direction:
            sentence = f"'{column.name}' cannot be monotone: predictions of several classes neither rise nor fall."
            yield place_of(column), sentence
    for feature in use_case.features:
        is_source = any(feature.name in column.sources for column in use_case.derived)
        if feature.monotone and is_source and not feature.all_else_equal:
            yield (
                place_of(feature),
                f"'{feature.name}' cannot be monotone, because columns that are derived from it change with it. Say "
                "all_else_equal to promise it only for records in which those columns stay the same.",
            )


def _model(use_case: Declaration, algorithm: Algorithm) -> Problems:
    model, target, place = algorithm.model, use_case.target.feature, place_of_algorithm(use_case, algorithm)
    if not isinstance(model, use_case.task.kind_of_model):
        yield place, f"the task needs a model that is a {use_case.task.kind_of_model.__name__}."
    if isinstance(target, Number) and target.low < model.smallest_target:
        yield (
            place,
            f"{type(model).__name__} takes no target below {model.smallest_target:g}, but '{target.name}' may be as "
            f"low as {target.low:g}.",
        )
    parameters = model.get_params()
    searched = algorithm.search_space or {}
    if chosen := searched.keys() & model.chosen_by_cross_validation:
        sentence = f"cross-validation chooses {', '.join(sorted(chosen))} itself: remove it from the search space."
        yield (*place, "search", min(chosen)), sentence
    if unknown := searched.keys() - parameters.keys():
        sentence = f"{type(model).__name__} has no parameter {', '.join(sorted(unknown))} to search for."
        yield (*place, "search", min(unknown)), sentence
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError):
        yield place, "the model's parameters must be plain numbers, texts and tuples, because the manifest holds them."


def _taken_over(use_case: Declaration, algorithm: Algorithm) -> Problems:
    """Parameters can only be taken over from an algorithm that searches for them."""
    name, place = algorithm.parameters_from, (*place_of_algorithm(use_case, algorithm), "parameters_from")
    if not name:
        return
    sources = {one.name: one for one in use_case.algorithms if not one.parameters_from}
    if name not in sources:
        yield place, f"it cannot take over the parameters of '{name}': {nearest(name, sources)}"
        return
    if algorithm.search_space is not None:
        yield place, f"it either takes over the parameters of '{name}' or has a search of its own: remove one of them."
    searched = sources[name].searched(SOME_ROWS, len(use_case.columns))
    if unknown := searched.keys() - algorithm.model.get_params().keys():
        sentence = (
            f"{type(algorithm.model).__name__} has no parameter {', '.join(sorted(unknown))}, which '{name}' has."
        )
        yield place, sentence


def _transformers(use_case: Declaration, algorithm: Algorithm) -> Problems:
    """A fitted transformer would silently ignore a name that no column has."""
    names = [column.name for column in use_case.columns]
    place = (*place_of_algorithm(use_case, algorithm), "transformers")
    for transformer in algorithm.transformers:
        kind = type(transformer).__name__
        if not fits(transformer.names, tuple[str, ...]):
            yield place, f"{kind} must name columns as a tuple of texts, with a comma even after a single one."
        elif unknown := [name for name in transformer.names if name not in names]:
            yield place, f"{kind} names the column '{unknown[0]}', which does not exist: {nearest(unknown[0], names)}"


def _kept_promises(use_case: Declaration, algorithm: Algorithm) -> Problems:
    """A baseline that is not an algorithm is never registered, so it promises nothing."""
    if algorithm not in use_case.algorithms:
        return
    for column in use_case.columns:
        if column.monotone and (reason := _unkept(algorithm, column)):
            yield (
                place_of(column),
                f"'{column.name}' is declared as monotone={column.monotone}, but {reason}. Remove the promise or the "
                "algorithm.",
            )


def _unkept(algorithm: Algorithm, column: Column) -> str | None:
    """Why an algorithm cannot keep a column's promise."""
    if not algorithm.model.keeps_monotone:
        return f"{type(algorithm.model).__name__} cannot guarantee that"
    for transformer in algorithm.transformers:
        if not transformer.keeps_order(column):
            return f"{type(transformer).__name__}, which comes before the model, does not keep the order of its values"
    return None


def place_of(column: Column) -> tuple[str, ...]:
    """The line of a column in plain data."""
    return ("columns" if isinstance(column, Feature) else "derived", column.name)


def place_of_algorithm(use_case: Declaration, algorithm: Algorithm) -> tuple[str, ...]:
    """The table of an algorithm in plain data."""
    return ("algorithms", algorithm.name) if algorithm in use_case.algorithms else ("baseline",)


def _holds_a_password(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:  # no address
        return False
