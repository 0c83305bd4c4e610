"""Manifest: what an artifact says about itself, to JSON and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from tabserve.evaluation.distribution import Distributions
from tabserve.evaluation.fairness import GroupComparison
from tabserve.evaluation.gates import Verdict, group_gate
from tabserve.evaluation.metrics import Metrics

Built = TypeVar("Built")

FAILED, PASSED_WITH_WARNINGS, PASSED = "failed", "passed with warnings", "passed"  # verdicts on models
REPORT = "report.html"  # of the files of an artifact, the one for people


@dataclass(frozen=True)
class Source:
    """The data that were trained on.

    Parameters
    ----------
    sha256 : str
        Of the file, in hexadecimal digits.
    rows : int
        How many rows were split.
    dropped : int
        How many more the file has, which were left out because their target is missing.
    """

    sha256: str
    rows: int
    dropped: int = 0


@dataclass(frozen=True)
class Split:
    """How the hold-out was split off.

    Parameters
    ----------
    by : str
        ``features``, ``group`` or ``time``.
    columns : mapping of str
        The columns that decided on which side a row is, with their kinds.
    cut : object
        Where time decided: the first time that was held out, as it stands in the data.
    """

    by: str
    columns: Mapping[str, str] = field(default_factory=dict)
    cut: Any = None


@dataclass(frozen=True)
class Kept:
    """How much of the hold-out is kept with the model.

    Parameters
    ----------
    rows : int
        How many of its rows are in the model's file.
    of : int
        How many rows were held out.
    score : float or None
        The headline metric of the rows that are kept; None where it is undefined, as without rows of a rare class.
    """

    rows: int
    of: int
    score: float | None


@dataclass(frozen=True)
class DataWarning:
    """Something in the data, or in what a model makes of them, that a person should look at.

    Parameters
    ----------
    found : str
        What was found, as a sentence.
    advice : str
        What to do about it, as a sentence.
    algorithm : str
        Whose model it is about; empty when it is about the data.
    """

    found: str
    advice: str
    algorithm: str = ""

    def __str__(self) -> str:
        return f"{self.found} {self.advice}"


@dataclass(frozen=True)
class Tried:
    """A trial: its parameters, including those that cross-validation chose, and its cross-validated score.

    A sampled one was made on a sample of the rows, to choose what is tried on all of them.
    """

    parameters: Mapping[str, Any]
    score: float
    is_sampled: bool = False


@dataclass(frozen=True)
class ThresholdOutcome:
    """A threshold, and the metrics of the decisions that follow from it."""

    threshold: float
    cross_validation: Metrics
    hold_out: Metrics


@dataclass(frozen=True)
class ChampionComparison:
    """The model that answered before, on those rows of the hold-out that it accepts.

    Parameters
    ----------
    model_id : str
    rows : int or None
        How many rows these are; None when it could not be compared.
    metrics : mapping of float
        Its metrics on these rows.
    difference : mapping of tuple
        By metric, how much better the new model is, with the ends of a paired 95 % interval.
    not_compared : str or None
        Why it could not be compared.
    """

    model_id: str
    rows: int | None = None
    metrics: Metrics = field(default_factory=dict)
    difference: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    not_compared: str | None = None


@dataclass(frozen=True)
class ProtectedComparison:
    """What the protected columns are worth.

    Parameters
    ----------
    columns : tuple of str
        The protected features and the columns derived from them.
    excluded : bool
        Whether this model was trained without them.
    metric : str
        The headline metric.
    with_, without : mapping of float
        Its value in cross-validation and on the hold-out, with and without these columns.
    """

    columns: tuple[str, ...]
    excluded: bool
    metric: str
    with_: Metrics
    without: Metrics


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a model is, how it was made and how good it is.

    Its JSON has the same names and structure; a name that is a Python keyword ends in an underscore here.

    Parameters
    ----------
    model_id, use_case, algorithm, version : str
        Its name, and the parts of the name; the version is that of the program.
    commit : str or None
        Of the program.
    created : str
        ISO 8601, UTC.
    python : str
        Version.
    libraries : mapping of str
        Versions.
    data : Source
        What it was trained on.
    seed : int
        For split, folds and search.
    split : Split
        How the hold-out was split off.
    hold_out : Kept
        How many of the rows that were held out are kept with the model.
    threads : int
        The most that LightGBM trained with; its trees would be the same with any number.
    declaration : mapping
        What was declared, with everything that training learnt or filled in, as plain data (`declaration/plain.py`).
    declaration_version : str
        The commit that last changed the file with the declaration; where there is none, the file's SHA-256.
    headline : str
        The metric that models are chosen by.
    parameters : mapping
        Of the model.
    trials : tuple of Tried
        All trials of the search.
    search_notes : tuple of str
        What a person should know of the search, in sentences.
    threshold : float or None
        The cut for decisions; None for a task without a threshold.
    threshold_choice : str or None
        How it was chosen: a key of `thresholds`.
    thresholds : mapping of ThresholdOutcome
        The possible thresholds, by how each was chosen.
    intervals : mapping of (float, float)
        95 % interval of each hold-out metric.
    groups : mapping of GroupComparison
        By feature, how its groups are treated.
    baseline : str
        The algorithm that gates compare with.
    baseline_difference : mapping of (float, float, float)
        By metric, how much better this model is than the baseline, with a paired 95 % interval.
    champion : ChampionComparison or None
        The model that answered before.
    metrics : mapping of dict
        By part: train, cross_validation, hold_out and, where rows are in the order of time, chronological.
    comparison : mapping
        The metrics of all trained algorithms, by algorithm and part.
    protected : ProtectedComparison or None
        None without protected features.
    distributions : Distributions
        How often the columns of the training part, and the predictions out of fold, have which values.
    gates : tuple of Verdict
        The results of the gates.
    warnings : tuple of DataWarning
        What a person should look at.
    files : mapping of str
        SHA-256 of each file, by name.
    """

    model_id: str
    use_case: str
    algorithm: str
    version: str
    commit: str | None
    created: str
    python: str
    libraries: Mapping[str, str]
    data: Source
    seed: int
    split: Split
    hold_out: Kept
    threads: int
    declaration: Mapping[str, Any]
    declaration_version: str
    headline: str
    parameters: Mapping[str, Any]
    trials: tuple[Tried, ...]
    search_notes: tuple[str, ...]
    threshold: float | None
    threshold_choice: str | None
    thresholds: Mapping[str, ThresholdOutcome]
    intervals: Mapping[str, tuple[float, float]]
    groups: Mapping[str, GroupComparison]
    baseline: str
    baseline_difference: Mapping[str, tuple[float, float, float]]
    champion: ChampionComparison | None
    metrics: Mapping[str, Metrics]
    comparison: Mapping[str, Mapping[str, Metrics]]
    protected: ProtectedComparison | None
    distributions: Distributions = field(default_factory=Distributions)
    gates: tuple[Verdict, ...] = ()
    warnings: tuple[DataWarning, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Any) -> "Manifest":
        """Build a manifest from parsed JSON; unknown keys are ignored.

        Raises
        ------
        ValueError
            When a part is missing or has the wrong type.
        """
        manifest: Manifest = from_plain(cls, content)
        return manifest

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a JSON writer."""
        plain: dict[str, Any] = as_plain(self)
        return plain

    @property
    def passed(self) -> bool:
        """Whether all gates were passed, or a person accepted what was not."""
        return all(verdict.passed or verdict.accepted for verdict in self.gates)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a person should look at before the model answers, in sentences; see docs/training.md."""
        return (
            *(() if self.gates else ("No gates are declared: nothing was demanded of this model.",)),
            *(f"{gate.gate}: failed, and accepted: {gate.accepted}." for gate in self.gates if gate.accepted),
            *(f"{gate.gate}." for gate in self.gates if gate.not_compared),
            *map(str, self.warnings),
        )

    @property
    def verdict(self) -> str:
        """Failed, passed with warnings where there are doubts, or passed."""
        if not self.passed:
            return FAILED
        return PASSED_WITH_WARNINGS if self.doubts else PASSED

    def headline_of(self, part: str) -> float:
        """The headline metric of a part, such as the hold-out."""
        return self.metrics[part][self.headline]

    def publishable(self) -> "Manifest":
        """The manifest without the figures of small groups, and without figures from which these could be computed.

        Distributions are for those who watch the model; of a month or of a rare value they may rest on few people.
        """
        groups = {name: comparison.publishable() for name, comparison in self.groups.items()}
        withheld = {group_gate(name) for name, comparison in groups.items() if comparison.withheld}
        gates = tuple(replace(gate, value=None) if gate.gate in withheld else gate for gate in self.gates)
        return replace(self, groups=groups, gates=gates, distributions=Distributions())


def as_plain(value: Any) -> Any:
    """A dataclass of this package's records as plain data, for a JSON writer."""
    if is_dataclass(value):
        return {_key(part.name): as_plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_plain(item) for item in value]
    return value


def from_plain(kind: Any, value: Any) -> Any:
    """Convert plain data to the type of an annotation; numbers and texts stay as they are.

    Raises
    ------
    ValueError
        When a part is missing or has the wrong type.
    """
    if is_dataclass(kind):
        return _build_dataclass(kind, value)
    origin, of = get_origin(kind), get_args(kind)
    if NoneType in of:
        return None if value is None else from_plain(of[0], value)
    if origin is tuple:
        kinds = of[:1] * len(_of_kind(list, value)) if of[-1] is ... else of
        return tuple(from_plain(*pair) for pair in zip(kinds, _of_kind(list, value), strict=True))
    if origin in (Mapping, dict):
        return {key: from_plain(of[1], item) for key, item in _of_kind(dict, value).items()}
    if kind is Any:
        return value
    return _of_kind(int | float if kind is float else kind, value)


def _build_dataclass(kind: Any, value: Any) -> Any:
    hints = _hints(kind)
    try:
        return kind(**{name: from_plain(hints[name], value[key]) for name, key in _keys(kind) if key in value})
    except TypeError:  # a required part is missing, or the value is not a mapping
        raise ValueError(kind.__name__) from None


def _of_kind(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(kind)
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _keys(kind: Any) -> list[tuple[str, str]]:
    return [(part.name, _key(part.name)) for part in fields(kind)]


def _key(name: str) -> str:
    return name.removesuffix("_")
