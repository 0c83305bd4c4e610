"""UseCase: one prediction problem, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabserve.aliases import Record
from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Feature
from tabserve.columns.kinds import check_kinds
from tabserve.declaration.checks import check
from tabserve.errors import InvalidUseCaseError, UnknownAlgorithmError
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import Gate, SmallestGroupRatio
from tabserve.models.base import Model
from tabserve.pipeline import Pipeline
from tabserve.registry.model_id import ModelId
from tabserve.tasks.base import Task
from tabserve.transformers import Drop, RecordEncoder, Target, Transformer
from tabserve.tuning import Dimension

DATASETS = Path(__file__).parent.parent / "datasets"


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One way to solve a use case.

    Parameters
    ----------
    name : str
        Letters, digits and hyphens; part of the model_id.
    model : Model
        Unfitted, with the parameters that are not tuned.
    transformers : tuple of Transformer
        Unfitted; the steps between the encoded records and the model.
    search_space : mapping
        Range of each parameter that is tuned; empty when none is.
    """

    name: str
    model: Model
    transformers: tuple[Transformer, ...] = ()
    search_space: Mapping[str, Dimension] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kinds(self)


@dataclass(frozen=True, kw_only=True)
class UseCase:
    """One prediction problem: all that training, serving and documentation need to know about it.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores; part of the model_id and of URLs.
    title, description : str
        For people.
    task : Task
        The kind of prediction and how it is measured.
    source : str
        File in `src/datasets` to train on by default.
    features : tuple of Feature
        The input columns, in the model's order.
    derived : tuple of DerivedColumn
        The columns after them, which are computed from features.
    target : Target
        The column to predict.
    algorithms : tuple of Algorithm
        The algorithms that compete, at least one.
    baseline : Algorithm
        The simple algorithm that gates compare with; it may be one of `algorithms`.
    gates : tuple of Gate
        What a candidate must pass to be registered.
    example : mapping
        A valid record.
    splits, repeats : int
        Folds of cross-validation, and how often the rows are assigned to folds. With few rows, both should be large,
        because a single pass ranks trials by noise; with many rows, both may be small.
    groups : tuple of GroupBy
        Groups of people for whom decisions are compared.
    limits : tuple of str
        What people must know before they trust a model: faults of the data, and what it must not be used for. One or
        more sentences each, for the report.
    chronological : bool
        Whether the rows of the data are in the order of time; then a model is also judged by fitting it on the first
        rows and scoring the last.

    Raises
    ------
    InvalidUseCaseError
        When the example does not fit the features, two columns or algorithms share a name, a derived column cannot be
        computed, a group has no feature, a gate has no group, the target may be missing, or anything else could not
        be trained or would be silently ignored (`src/declaration/checks.py`).
    """

    name: str
    title: str
    description: str
    task: Task
    source: str
    features: tuple[Feature, ...]
    target: Target
    algorithms: tuple[Algorithm, ...]
    baseline: Algorithm
    gates: tuple[Gate, ...]
    example: Record
    derived: tuple[DerivedColumn, ...] = ()
    splits: int = 10
    repeats: int = 2
    groups: tuple[GroupBy, ...] = ()
    limits: tuple[str, ...] = ()
    chronological: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        if not isinstance(self.target.feature, Feature):
            raise InvalidUseCaseError(f"{self.name}: the target needs a feature.")
        for algorithm in (*self.algorithms, self.baseline):
            if ModelId.parse(str(ModelId(self.name, algorithm.name, "1.0.0", "1.000000"))) is None:
                raise InvalidUseCaseError(
                    f"A model_id cannot hold '{self.name}' and '{algorithm.name}': use letters and digits, those of "
                    "the use case in lower case."
                )
        names = {algorithm.name.lower() for algorithm in self.algorithms}  # names of folders, where case may not matter
        if not names or len(names) < len(self.algorithms):
            raise InvalidUseCaseError(f"{self.name} needs an algorithm, and each needs a name of its own.")
        columns = [feature.name for feature in (*self.features, self.target.feature)]
        columns += [column.name for column in self.derived]
        if len(set(columns)) < len(columns):
            raise InvalidUseCaseError(f"{self.name}: two columns share a name.")
        if self.target.feature.optional:
            raise InvalidUseCaseError(f"{self.name}: the target can have neither missing=True nor a default.")
        grouped = {group.feature for group in self.groups}
        if any(isinstance(gate, SmallestGroupRatio) and gate.name not in grouped for gate in self.gates):
            raise InvalidUseCaseError(f"{self.name}: a gate is on groups that are not declared.")
        if unknown := grouped - {feature.name for feature in self.features}:
            raise InvalidUseCaseError(f"{self.name}: there is no feature to group by: {', '.join(sorted(unknown))}.")
        by_name = {feature.name: feature for feature in self.features}
        for column in self.derived:
            column.check(by_name)
        problems = [f"{name}: There is no such feature." for name in self.example.keys() - by_name.keys()]
        problems += [
            f"{feature.name}: {problem}"
            for feature in self.features
            if (problem := feature.problem(self.example.get(feature.name)))
        ]
        if problems:
            raise InvalidUseCaseError(f"{self.name}: the example does not fit the features. {' '.join(problems)}")
        check(self)

    @property
    def path(self) -> Path:
        """The data file that ships with the project."""
        return DATASETS / self.source

    def algorithm(self, name: str) -> Algorithm:
        """The algorithm of that name; case does not matter.

        Raises
        ------
        UnknownAlgorithmError
            With the names of all algorithms.
        """
        for algorithm in self.algorithms:
            if algorithm.name.lower() == name.lower():
                return algorithm
        raise UnknownAlgorithmError(self.name, [algorithm.name for algorithm in self.algorithms])

    @property
    def protected(self) -> tuple[str, ...]:
        """Names of the protected features and of the columns derived from them."""
        features = {feature.name for feature in self.features if feature.protected}
        return tuple(column.name for column in self.columns if not features.isdisjoint(column.sources))

    @property
    def can_exclude_protected(self) -> bool:
        """Whether there are protected columns, and other columns to predict from."""
        return 0 < len(self.protected) < len(self.columns)

    @property
    def encoder(self) -> RecordEncoder:
        """From records to a matrix: the first step of all pipelines of this use case."""
        return RecordEncoder(self.features, self.derived)

    def pipeline(self, algorithm: Algorithm, *, exclude_protected: bool = False) -> Pipeline:
        """A pipeline from records to the matrix of an algorithm. Clone it to fit it: the declaration owns its parts.

        Raises
        ------
        InvalidUseCaseError
            When protected columns are to be excluded, and there are no others.
        """
        if exclude_protected and len(self.protected) == len(self.columns):
            raise InvalidUseCaseError(f"{self.name}: all columns are protected, and without them none are left.")
        drop = (Drop(self.protected),) if exclude_protected and self.protected else ()
        return Pipeline(self.encoder, (*drop, *algorithm.transformers))

    @property
    def columns(self) -> tuple[Feature | DerivedColumn, ...]:
        """The columns of the encoded records: the features, then the derived ones."""
        return (*self.features, *self.derived)


def signature(use_case: UseCase) -> dict[str, Any]:
    """Features, derived columns and target as plain data, for a manifest."""
    target = use_case.target.feature
    return {
        "features": tuple(
            {"name": feature.name, "kind": type(feature).__name__, **feature.json_schema()}
            for feature in use_case.features
        ),
        "derived": tuple(column.declaration() for column in use_case.derived),
        "target": {"name": target.name, **target.json_schema()},
    }
