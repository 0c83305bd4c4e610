"""Defaults: what a use case is where its declaration does not say it."""

from typing import Any

from tabserve.columns.boolean import Boolean
from tabserve.columns.features import Category, Number
from tabserve.declaration.declaration import Algorithm, Declaration
from tabserve.evaluation.gates import ChampionMargin, Gate, LargestGap, SmallestMetric
from tabserve.models.base import Model
from tabserve.models.blend import BlendClassifier
from tabserve.models.lightgbm import LgbClassifier, LgbMulticlassClassifier, LgbRegressor
from tabserve.models.linear import LogisticRegression, MultinomialRegression, Ridge
from tabserve.tasks.base import Task
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.tasks.multiclass import Multiclass
from tabserve.tasks.regression import Regression
from tabserve.transformers import OneHot, RemapTarget, Standardize, Target

EVEN = CostMatrix(missed=1, false_alarm=1)

# What guessing reaches in the headline metric, and how much worse the hold-out may be than the training part. Trees
# learn a small table by heart, so the gap is bounded only where nothing of what was learnt holds.
GUESSING = {"roc_auc": 0.5, "roc_auc_ovr": 0.5, "r2": 0.0}
GAP = {"roc_auc": 0.45, "roc_auc_ovr": 0.45, "r2": 0.9}
MARGIN = 0.02


def unsaid(declared: Declaration) -> dict[str, Any]:
    """The fields that a declaration leaves open, with their defaults.

    Parameters
    ----------
    declared : Declaration
        Its target and its features are of the right kinds.

    Returns
    -------
    dict
    """
    task = declared.task or task_for(declared.target)
    found: dict[str, Any] = {"task": task}
    if declared.title == "":
        found["title"] = declared.name.replace("_", " ").capitalize()
    if declared.gates is None:
        found["gates"] = gates_for(task)
    if declared.baseline is None or not declared.algorithms:
        found |= _algorithms(declared, task)
    return found


def task_for(target: Target) -> Task:
    """The task that a target calls for: a number is predicted as one unless it is only 0 or 1."""
    codes = target.codes()
    is_class = isinstance(target, RemapTarget) or codes == {0.0, 1.0} or not isinstance(target.feature, Number)
    if not is_class or codes is None:
        return Regression()
    outcomes = outcomes_of(target)
    if len(outcomes) > 2:
        return Multiclass(outcomes=outcomes)
    return Binary(cost=EVEN, outcomes=(outcomes[0], outcomes[1])) if len(outcomes) == 2 else Binary(cost=EVEN)


def outcomes_of(target: Target) -> tuple[str, ...]:
    """What the classes of a target are called when nobody says it: like their labels, in the order of their codes."""
    codes = sorted(target.codes() or ())
    if isinstance(target, RemapTarget):
        labels = [[str(label) for label, of in target.classes.items() if of == code] for code in codes]
        return tuple(" or ".join(of) for of in labels)
    if isinstance(target.feature, Category):
        return tuple(target.feature.values)
    if isinstance(target.feature, Boolean):
        return tuple(target.feature.words)
    return tuple(f"{code:g}" for code in codes)


def gates_for(task: Task) -> tuple[Gate, ...]:
    """Gates that a first model of any table can pass, if it is better than guessing."""
    metric = task.headline
    return (
        SmallestMetric(metric, GUESSING.get(metric, 0.0)),
        LargestGap(metric, GAP.get(metric, 1.0)),
        ChampionMargin(metric, MARGIN),
    )


def _algorithms(declared: Declaration, task: Task) -> dict[str, Any]:
    """Algorithms and baseline: a linear model competes unless a column is monotone, which it cannot promise.

    Of two classes, a blend competes, too. It takes over the parameters of LightGBM, and so costs little.
    """
    trees, linear = models_for(task, declared.target)
    named = {algorithm.name.lower(): algorithm for algorithm in declared.algorithms}
    default = Algorithm(name="linear", model=linear, transformers=(OneHot(), Standardize()))
    baseline = declared.baseline or named.get("linear", default)
    competes = not any(column.monotone for column in declared.columns)
    lightgbm = Algorithm(name="lightgbm", model=trees)
    blends = isinstance(trees, LgbClassifier)
    blend = Algorithm(name="blend", model=BlendClassifier(), parameters_from=lightgbm.name)
    defaults = (lightgbm, *((blend,) if blends else ()), *((baseline,) if competes else ()))
    return {"baseline": baseline, "algorithms": declared.algorithms or defaults}


def models_for(task: Task, target: Target) -> tuple[Model, Model]:
    """LightGBM and a linear model, unfitted, for a task and its target."""
    if issubclass(LgbClassifier, task.kind_of_model):
        return LgbClassifier(), LogisticRegression()
    if issubclass(LgbMulticlassClassifier, task.kind_of_model):
        return LgbMulticlassClassifier(), MultinomialRegression()
    low = target.feature.low if isinstance(target.feature, Number) else -1
    return LgbRegressor(), Ridge(floor=0 if low >= 0 else None)
