"""Declaration: what is said about one prediction problem, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tabserve.aliases import Record
from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Feature
from tabserve.columns.kinds import check_kinds
from tabserve.declaration.folds import folds_for
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import Gate
from tabserve.models.base import Model
from tabserve.search_space import Dimension
from tabserve.tasks.base import Task
from tabserve.transformers import Target, Transformer

DATASETS = Path(__file__).parent.parent / "datasets"
ENDINGS = (
    "csv",
    "tsv",
    "txt",
    "xlsx",
    "xlsm",
    "xlsb",
    "xls",
    "ods",
    "parquet",
    "feather",
    "arrow",
    "arrows",
    "jsonl",
    "ndjson",
)


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
    parameters_from : str
        Name of another algorithm of the use case. The best parameters of its search are taken over, and nothing is
        searched.
    """

    name: str
    model: Model
    transformers: tuple[Transformer, ...] = ()
    search_space: Mapping[str, Dimension] | None = None
    parameters_from: str = ""

    def __post_init__(self) -> None:
        check_kinds(self)

    def searched(self, n_rows: int, n_columns: int) -> Mapping[str, Dimension]:
        """The search space for a matrix of so many rows and columns."""
        if self.parameters_from:
            return {}
        if self.search_space is None:
            return self.model.default_search_space(n_rows, n_columns)
        return self.search_space


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is said about one prediction problem: all that training, serving and documentation need to know about it.

    Only name, features and target must be said. `UseCase` fills in what is not.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores; part of the model_id and of URLs.
    features : tuple of Feature
        The input columns, in the model's order.
    target : Target
        The column to predict.
    title, description : str
        For people. By default the title is the name in words.
    task : Task
        The kind of prediction and how it is measured; by default it follows from the target.
    source : str
        The data to train on by default: a file, by its path from the declaration's folder, or the address of a
        database. By default the file in that folder that has the use case's name.
    folder : Path
        Where the declaration is; by default the data that ship with the project.
    file : Path, optional
        Where it is declared.
    query, sheet : str
        What is read of a database, and of a workbook.
    dialect : mapping of str
        How a file is written, where that is not to be recognised: `separator`, `decimal`, `encoding`.
    markers : tuple of str
        Texts that mean a missing value in any column of a file.
    derived : tuple of DerivedColumn
        The columns after the features, which are computed from them.
    extras : tuple of Feature
        Columns that records and files may hold and no model sees.
    weight, group, time : str
        Names of a feature or an extra: how much a row counts, which rows belong together, and when a row happened.
    algorithms : tuple of Algorithm
        The algorithms that compete. By default LightGBM, of two classes its blend with a linear
        model, and, unless a column is monotone, a linear model.
    baseline : Algorithm
        The simple algorithm that gates compare with; it may be one of `algorithms`. By default the linear model.
    gates : tuple of Gate
        What a candidate must pass to be registered; by default, that it is better than guessing, and hardly worse than
        the champion.
    example : mapping
        A valid record; without one, training makes one from typical values.
    splits, repeats : int
        Folds of cross-validation, and how often the rows are assigned to folds. With few rows, both should be large,
        because a single pass ranks trials by noise; with many rows, both may be small. One split is one model, judged
        by a quarter of the rows, whatever the repeats. 0: by the number of rows.
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
    features: tuple[Feature, ...]
    target: Target
    title: str = ""
    description: str = ""
    task: Task = None  # type: ignore[assignment]
    source: str = ""
    folder: Path = DATASETS
    file: Path | None = None
    query: str = ""
    sheet: str = ""
    dialect: Mapping[str, str] = field(default_factory=dict)
    markers: tuple[str, ...] = ()
    derived: tuple[DerivedColumn, ...] = ()
    extras: tuple[Feature, ...] = ()
    weight: str = ""
    group: str = ""
    time: str = ""
    algorithms: tuple[Algorithm, ...] = ()
    baseline: Algorithm = None  # type: ignore[assignment]
    gates: tuple[Gate, ...] = None  # type: ignore[assignment]
    example: Record = field(default_factory=dict)
    splits: int = 0
    repeats: int = 0
    groups: tuple[GroupBy, ...] = ()
    limits: tuple[str, ...] = ()
    chronological: bool = False

    @property
    def path(self) -> Path:
        """The file to train on by default."""
        if self.source:
            return self.folder / self.source
        beside = (self.folder / f"{self.name}.{ending}" for ending in ENDINGS)
        return next((path for path in beside if path.is_file()), self.folder / f"{self.name}.csv")

    def folds_of(self, n_rows: int) -> tuple[int, int]:
        """Splits and repeats of cross-validation for so many rows to train on."""
        splits, repeats = folds_for(n_rows)
        return self.splits or splits, self.repeats or repeats

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
