"""Declaration: what is said about one prediction problem, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tabserve.aliases import Record
from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Feature
from tabserve.columns.kinds import check_kinds
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import Gate
from tabserve.models.base import Model
from tabserve.search_space import Dimension
from tabserve.tasks.base import Task
from tabserve.transformers import Target, Transformer

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
    search_space : mapping, optional
        Range of each parameter that is tuned; empty when none is. By default the model's own for so many rows and
        columns.
    """

    name: str
    model: Model
    transformers: tuple[Transformer, ...] = ()
    search_space: Mapping[str, Dimension] | None = None

    def __post_init__(self) -> None:
        check_kinds(self)

    def searched(self, n_rows: int, n_columns: int) -> Mapping[str, Dimension]:
        """The search space for a matrix of so many rows and columns."""
        if self.search_space is None:
            return self.model.default_search_space(n_rows, n_columns)
        return self.search_space


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is said about one prediction problem: all that training, serving and documentation need to know about it.

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

    @property
    def path(self) -> Path:
        """The data file that ships with the project."""
        return DATASETS / self.source

    @property
    def columns(self) -> tuple[Feature | DerivedColumn, ...]:
        """The columns of the encoded records: the features, then the derived ones."""
        return (*self.features, *self.derived)

    @property
    def protected(self) -> tuple[str, ...]:
        """Names of the protected features and of the columns derived from them."""
        features = {feature.name for feature in self.features if feature.protected}
        return tuple(column.name for column in self.columns if not features.isdisjoint(column.sources))

    @property
    def can_exclude_protected(self) -> bool:
        """Whether there are protected columns, and other columns to predict from."""
        return 0 < len(self.protected) < len(self.columns)
