"""Vocabulary: what the words in a declaration's plain form stand for."""

from collections.abc import Mapping
from typing import TypeVar

from tabserve.evaluation.gates import (
    BaselineMargin,
    ChampionMargin,
    Gate,
    LargestGap,
    LargestMetric,
    SmallestGroupRatio,
    SmallestMetric,
)
from tabserve.models.base import Model
from tabserve.models.blend import BlendClassifier
from tabserve.models.lightgbm import LgbClassifier, LgbCountRegressor, LgbMulticlassClassifier, LgbRegressor
from tabserve.models.linear import LogisticRegression, MultinomialRegression, Ridge
from tabserve.models.scikit import SVR, DecisionTreeRegressor, Lasso, LinearRegression
from tabserve.tasks.base import Task
from tabserve.tasks.binary import Binary
from tabserve.tasks.multiclass import Multiclass
from tabserve.tasks.regression import Regression
from tabserve.transformers import Drop, MinMax, OneHot, Standardize, Transformer

Kind = TypeVar("Kind")


def _by_name(*kinds: type[Kind]) -> Mapping[str, type[Kind]]:
    return {kind.__name__: kind for kind in kinds}


TASKS: Mapping[str, type[Task]] = {"binary": Binary, "multiclass": Multiclass, "regression": Regression}
GATES: Mapping[str, type[Gate]] = {
    "smallest": SmallestMetric,
    "largest": LargestMetric,
    "largest_gap": LargestGap,
    "baseline_margin": BaselineMargin,
    "champion_margin": ChampionMargin,
    "smallest_ratio": SmallestGroupRatio,
}
MODELS: Mapping[str, type[Model]] = {
    **_by_name(BlendClassifier, LgbClassifier, LgbMulticlassClassifier, LgbRegressor, LgbCountRegressor),
    **_by_name(LogisticRegression, MultinomialRegression, LinearRegression, Ridge),
    **_by_name(Lasso, SVR, DecisionTreeRegressor),
}
TRANSFORMERS: Mapping[str, type[Transformer]] = _by_name(OneHot, MinMax, Standardize, Drop)


def word_for(thing: object, words: Mapping[str, type]) -> str:
    """The word for the class of a thing; for somebody's own class, its name."""
    return next((word for word, kind in words.items() if kind is type(thing)), type(thing).__name__)
