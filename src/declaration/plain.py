"""Plain: a declaration as plain data and back. TOML files and manifests hold the same.

Everything but own code can be said so. Of own classes only the names are kept, for people to read.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from tabserve.base import Estimator
from tabserve.columns.catalogue import DERIVED_KINDS, FEATURE_KINDS
from tabserve.columns.features import Column, Feature, Number
from tabserve.declaration.declaration import DATASETS, Algorithm, Declaration
from tabserve.declaration.defaults import EVEN, outcomes_of
from tabserve.declaration.reading import (
    arguments,
    check_keys,
    check_kind,
    chosen,
    frozen,
    placed,
    refuse,
    table_at,
)
from tabserve.declaration.use_case import UseCase
from tabserve.declaration.vocabulary import GATES, MODELS, TASKS, TRANSFORMERS, word_for
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import Gate
from tabserve.search_space import Dimension, Flag, Real, Whole
from tabserve.tasks.base import Task
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.tasks.multiclass import Multiclass
from tabserve.tasks.regression import Regression
from tabserve.transformers import RemapTarget, Target

SAME: Mapping[str, Any] = {  # what both forms hold alike, and its kind
    "title": str,
    "description": str,
    "source": str,
    "query": str,
    "sheet": str,
    "markers": tuple[str, ...],
    "dialect": Mapping[str, str],
    "weight": str,
    "group": str,
    "time": str,
    "chronological": bool,
    "splits": int,
    "repeats": int,
    "limits": tuple[str, ...],
    "example": Mapping[str, Any],
}
# in the order in which people read them
KEYS = (
    *("title", "description", "task", "target", "outcomes", "log", "cost"),
    *("source", "query", "sheet", "markers", "dialect"),
    *("weight", "group", "time", "chronological", "splits", "repeats", "limits"),
    *("columns", "derived", "groups", "gates", "algorithms", "baseline", "example"),
)
ALGORITHM_KEYS = ("model", "parameters", "transformers", "search", "parameters_from")


# to plain data


def to_plain(declaration: Declaration) -> dict[str, Any]:
    """A declaration as plain data, without its name and its folder.

    Parameters
    ----------
    declaration : Declaration

    Returns
    -------
    dict
        Texts, numbers, lists, and dicts with texts as keys. What can only have one default is left out.
    """
    task, target = declaration.task, declaration.target
    same = {name: _plain(getattr(declaration, name)) for name in SAME}
    lines = {feature.name: _line(feature) for feature in declaration.features}
    for extra in declaration.extras:
        lines[extra.name] = {**_line(extra), "input": False} if extra.in_matrix else _line(extra)
    lines[target.feature.name] = _line(target.feature)
    plain = {
        **same,
        "task": word_for(task, TASKS),
        "target": target.feature.name,
        "outcomes": _outcomes(task, target),
        "cost": _parameters(task.cost) if hasattr(task, "cost") else {},
        "log": getattr(task, "log", False),
        "columns": lines,
        "derived": {column.name: _line(column) for column in declaration.derived},
        "groups": {group.feature: list(group.cuts) for group in declaration.groups},
        "algorithms": {algorithm.name: _algorithm_to_plain(algorithm) for algorithm in declaration.algorithms},
        "baseline": _baseline_to_plain(declaration),
    }
    said = {name: value for name, value in plain.items() if value}
    said["gates"] = _gates_to_plain(declaration.gates)  # none is something else than the default
    return {key: said[key] for key in KEYS if key in said}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


def _key(key: Any) -> str:
    """A key as text; that of a Boolean as TOML and JSON have it."""
    return str(key).lower() if isinstance(key, bool) else str(key)


def _line(column: Column) -> dict[str, Any]:
    """A column: first what only its kind has, last the words."""
    words = [field.name for field in fields(Column)]
    flags = [field.name for field in fields(Feature) if field.name not in words]
    own = [field.name for field in fields(column) if field.name not in (*words, *flags)]
    said = _parameters(column)
    vocabulary = FEATURE_KINDS if isinstance(column, Feature) else DERIVED_KINDS
    ordered = {name: said[name] for name in (*own, *flags, *words) if name in said and name != "name"}
    return {"kind": word_for(column, vocabulary), **ordered}


def _parameters(made: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    return {
        field.name: _plain(value) for field in fields(made) if (value := getattr(made, field.name)) != _default(field)
    }


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _outcomes(task: Task, target: Target) -> Any:
    """The outcomes in the order of their codes; with their labels where these are not the target's values."""
    if not isinstance(target, RemapTarget):
        return list(task.outcomes)
    labels = [[label for label, code in target.classes.items() if code == place] for place in range(len(task.outcomes))]
    pairs = zip(task.outcomes, labels, strict=True)
    return {outcome: of[0] if len(of) == 1 else of for outcome, of in pairs}


def _gates_to_plain(gates: tuple[Gate, ...]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for gate in gates:
        plain.setdefault(word_for(gate, GATES), {})[gate.name] = gate.bound
    return plain


def _baseline_to_plain(declaration: Declaration) -> Any:
    baseline = declaration.baseline
    if any(baseline is algorithm for algorithm in declaration.algorithms):
        return baseline.name
    return {"name": baseline.name, **_algorithm_to_plain(baseline)}


def _algorithm_to_plain(algorithm: Algorithm) -> dict[str, Any]:
    plain: dict[str, Any] = {"model": word_for(algorithm.model, MODELS)}
    if parameters := _changed(algorithm.model):
        plain["parameters"] = parameters
    if algorithm.transformers:
        plain["transformers"] = [_step(transformer) for transformer in algorithm.transformers]
    if algorithm.search_space is not None:
        plain["search"] = {name: _dimension_to_plain(one) for name, one in algorithm.search_space.items()}
    if algorithm.parameters_from:
        plain["parameters_from"] = algorithm.parameters_from
    return plain


def _step(transformer: Estimator) -> Any:
    word, parameters = word_for(transformer, TRANSFORMERS), _changed(transformer)
    return {"kind": word, **parameters} if parameters else word


def _changed(estimator: Estimator) -> dict[str, Any]:
    """The parameters that differ from their defaults."""
    defaults = estimator.default_params()
    return {
        name: _plain(value)
        for name, value in estimator.get_params().items()
        if name not in defaults or value != defaults[name]
    }


def _dimension_to_plain(dimension: Dimension) -> dict[str, Any]:
    number = {Flag: bool, Whole: int}.get(type(dimension), float)
    plain: dict[str, Any] = {"low": number(dimension.low), "high": number(dimension.high)}
    return {**plain, "log": True} if dimension.log else plain


# from plain data


def from_plain(plain: Mapping[str, Any], name: str, folder: Path = DATASETS, file: Path | None = None) -> UseCase:
    """A use case from plain data.

    Parameters
    ----------
    plain : mapping
        As from `to_plain`, a TOML file or a manifest.
    name : str
        The use case's name.
    folder : Path
        Where its source is.
    file : Path, optional
        Where it is declared.

    Returns
    -------
    UseCase

    Raises
    ------
    InvalidUseCaseError
        With the place of the first fault, the keys that lead to it, and what would be right.
    """
    check_keys(plain, KEYS, ())
    for key in plain.keys() & SAME.keys():
        check_kind(plain[key], SAME[key], (key,))
    columns, extras = _columns(plain)
    feature = _target_feature(plain, columns, extras)
    task, target = _task(plain, feature)
    algorithms = {name: _algorithm(name, table, "algorithms") for name, table in table_at(plain, "algorithms").items()}
    return UseCase(
        name=name,
        folder=folder,
        file=file,
        **{key: frozen(plain[key]) for key in SAME if key in plain},
        target=target,
        features=tuple(column for column in columns.values() if column is not feature),
        extras=tuple(extras.values()),
        derived=_derived(plain),
        groups=_groups(plain),
        algorithms=tuple(algorithms.values()),
        **_said(task=task, gates=_gates(plain), baseline=_baseline(plain, algorithms)),
    )


def _said(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _columns(plain: Mapping[str, Any]) -> tuple[dict[str, Feature], dict[str, Feature]]:
    """The features, the target's among them, and the extras."""
    features: dict[str, Feature] = {}
    extras: dict[str, Feature] = {}
    if "columns" not in plain:
        refuse('there are no columns: add a table [columns] with a line such as age = {kind = "integer"}.')
    for name, line in table_at(plain, "columns").items():
        place = ("columns", name)
        line = dict(table_at({name: line}, *place))
        is_input = line.pop("input", True)
        check_kind(is_input, bool, (*place, "input"))
        feature = _feature(name, line)
        (features if is_input and feature.in_matrix else extras)[name] = feature
    return features, extras


def _feature(name: str, line: dict[str, Any]) -> Feature:
    place = ("columns", name)
    made = _made(line, FEATURE_KINDS, place)
    reasons = line.pop("reason_for", {})
    check_kind(reasons, Mapping[str, str], (*place, "reason_for"))
    with placed(*place):
        feature: Feature = made(name=name, **arguments(made, line, place, ("name", "reason_for")))
    with placed(*place, "reason_for"):
        sentences = {feature.value_of(key): sentence for key, sentence in reasons.items()}
        return replace(feature, reason_for=sentences) if sentences else feature


def _made(line: dict[str, Any], vocabulary: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    if "kind" not in line:
        refuse(f"'{place[-1]}' needs a kind, one of: {', '.join(vocabulary)}.", *place)
    return chosen(line.pop("kind"), vocabulary, "the kind", (*place, "kind"))


def _target_feature(plain: Mapping[str, Any], columns: Mapping[str, Feature], extras: Mapping[str, Feature]) -> Feature:
    if "target" not in plain:
        refuse('the target is missing: add target = "..." with the name of the column to predict.')
    check_kind(plain["target"], str, ("target",))
    if plain["target"] in extras:
        refuse("the target cannot have input = false.", "columns", plain["target"], "input")
    feature: Feature = chosen(plain["target"], columns, "the target", ("target",))
    return feature


def _task(plain: Mapping[str, Any], feature: Feature) -> tuple[Task | None, Target]:
    """The task, if anything of it is said, and the target."""
    outcomes = plain.get("outcomes")
    check_kind(outcomes, tuple[str, ...] | Mapping[str, Any] | None, ("outcomes",))
    kind = None if "task" not in plain else chosen(plain["task"], TASKS, "the task", ("task",))
    target = _target(feature, outcomes, is_class=kind in (Binary, Multiclass))
    names = tuple(outcomes) if outcomes else outcomes_of(target)
    if kind is None and outcomes:
        kind = Binary if len(outcomes) == 2 else Multiclass
    if kind is None and "cost" in plain:
        kind = Binary
    if "cost" in plain and kind is not Binary:
        refuse("only a binary task has costs.", "cost")
    check_kind(plain.get("log", False), bool, ("log",))
    if plain.get("log"):
        kind = kind or Regression
        if kind is not Regression:
            refuse("only a regression has a log scale.", "log")
        return Regression(log=True), target
    if outcomes and kind not in (Binary, Multiclass):
        refuse("a regression has no outcomes.", "outcomes")
    if kind is Binary:
        return Binary(cost=_cost(plain), **_two(names)), target
    return (Multiclass(outcomes=names) if kind is Multiclass else kind and kind()), target


def _two(names: tuple[str, ...]) -> dict[str, Any]:
    return {"outcomes": names} if len(names) == 2 else {}


def _target(feature: Feature, outcomes: Any, *, is_class: bool) -> Target:
    """The target; what is not counted from 0 becomes classes in the order of the labels."""
    if isinstance(outcomes, Mapping):
        return RemapTarget(feature, _classes(outcomes))
    plain = Target(feature)
    codes, labels = plain.codes(), outcomes_of(plain)
    if outcomes and tuple(outcomes) != labels and sorted(outcomes) == sorted(labels):  # the values, in another order
        return RemapTarget(feature, {feature.value_of(label): code for code, label in enumerate(outcomes)})
    if not isinstance(feature, Number) or codes is None or not (is_class or outcomes or len(codes) == 2):
        return plain
    if codes == set(range(len(codes))):
        return plain
    return RemapTarget(feature, {int(code): place for place, code in enumerate(sorted(codes))})


def _classes(outcomes: Mapping[str, Any]) -> dict[Any, int]:
    classes: dict[Any, int] = {}
    for code, (outcome, labels) in enumerate(outcomes.items()):
        for label in labels if isinstance(labels, list | tuple) else [labels]:
            check_kind(label, str | float | bool, ("outcomes", outcome))
            if label in classes:
                refuse(f"the label {label!r} has two outcomes: remove one.", "outcomes", outcome)
            classes[label] = code
    return classes


def _cost(plain: Mapping[str, Any]) -> CostMatrix:
    if "cost" not in plain:
        return EVEN
    with placed("cost"):
        return CostMatrix(**arguments(CostMatrix, table_at(plain, "cost"), ("cost",)))


def _derived(plain: Mapping[str, Any]) -> tuple[Any, ...]:
    made = []
    for name in table_at(plain, "derived"):
        place = ("derived", name)
        line = dict(table_at(plain["derived"], *place))
        kind = _made(line, DERIVED_KINDS, place)
        reasons = line.pop("reason_for", {})
        check_kind(reasons, Mapping[str, str], (*place, "reason_for"))
        with placed(*place):
            column = kind(name=name, **arguments(kind, line, place, ("name", "reason_for")))
            sentences = {column.value_of(key): sentence for key, sentence in reasons.items()}
            made.append(replace(column, reason_for=sentences) if sentences else column)
    return tuple(made)


def _groups(plain: Mapping[str, Any]) -> tuple[GroupBy, ...]:
    groups = table_at(plain, "groups")
    for name, cuts in groups.items():
        check_kind(cuts, tuple[float, ...], ("groups", name))
    return tuple(GroupBy(feature=name, cuts=tuple(cuts)) for name, cuts in groups.items())


def _gates(plain: Mapping[str, Any]) -> tuple[Gate, ...] | None:
    if "gates" not in plain:
        return None
    gates = table_at(plain, "gates")
    check_keys(gates, GATES, ("gates",))
    for kind, bounds in gates.items():
        check_kind(bounds, Mapping[str, float], ("gates", kind))
    return tuple(GATES[kind](name, bound) for kind, bounds in gates.items() for name, bound in bounds.items())


def _baseline(plain: Mapping[str, Any], algorithms: Mapping[str, Algorithm]) -> Algorithm | None:
    baseline = plain.get("baseline")
    if baseline is None:
        return None
    if isinstance(baseline, str):
        found: Algorithm = chosen(baseline, algorithms, "the algorithm", ("baseline",))
        return found
    table = dict(table_at(plain, "baseline"))
    name = table.pop("name", "baseline")
    check_kind(name, str, ("baseline", "name"))
    return _algorithm(name, table, "baseline", place=("baseline",))


def _algorithm(name: str, table: Any, *above: str, place: tuple[str, ...] = ()) -> Algorithm:
    place = place or (*above, name)
    table = table_at({place[-1]: table}, *place)
    check_keys(table, ALGORITHM_KEYS, place)
    if "model" not in table:
        refuse(f"'{name}' needs a model, one of: {', '.join(MODELS)}.", *place)
    kind = chosen(table["model"], MODELS, "the model", (*place, "model"))
    check_kind(table.get("parameters_from", ""), str, (*place, "parameters_from"))
    with placed(*place):
        return Algorithm(
            name=name,
            model=kind(**arguments(kind, table_at(table, *place, "parameters"), (*place, "parameters"))),
            transformers=_steps(table, place),
            search_space=_search_space(table, place) if "search" in table else None,
            parameters_from=table.get("parameters_from", ""),
        )


def _steps(table: Mapping[str, Any], place: tuple[str, ...]) -> tuple[Any, ...]:
    place = (*place, "transformers")
    check_kind(table.get("transformers", []), tuple[str | Mapping[str, Any], ...], place)
    steps = []
    for step in table.get("transformers", []):
        line = {"kind": step} if isinstance(step, str) else dict(step)
        kind = _made(line, TRANSFORMERS, place)
        steps.append(kind(**arguments(kind, line, place)))
    return tuple(steps)


def _search_space(table: Mapping[str, Any], place: tuple[str, ...]) -> dict[str, Dimension]:
    place = (*place, "search")
    return {
        name: _dimension(table_at(table["search"], *place, name), (*place, name)) for name in table_at(table, *place)
    }


def _dimension(line: Mapping[str, Any], place: tuple[str, ...]) -> Dimension:
    """A range: of whole numbers where both ends are, else of numbers; false and true are a choice of both."""
    check_keys(line, ("low", "high", "log"), place)
    ends = [line.get("low"), line.get("high")]
    if ends == [False, True] and all(isinstance(end, bool) for end in ends):
        return Flag()
    for name, end in zip(("low", "high"), ends, strict=True):
        check_kind(end, float, (*place, name))
    check_kind(line.get("log", False), bool, (*place, "log"))
    kind = Whole if all(isinstance(end, int) for end in ends) else Real
    with placed(*place):
        return kind(line["low"], line["high"], line.get("log", False))
