"""UseCase: a declaration that can be trained and served."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Feature
from tabserve.columns.kinds import check_kinds, fits
from tabserve.declaration.checks import check
from tabserve.declaration.declaration import Algorithm, Declaration
from tabserve.declaration.defaults import unsaid
from tabserve.errors import InvalidUseCaseError, UnknownAlgorithmError
from tabserve.evaluation.gates import SmallestGroupRatio
from tabserve.pipeline import Pipeline
from tabserve.registry.model_id import ModelId
from tabserve.transformers import Drop, RecordEncoder, Target


@dataclass(frozen=True, kw_only=True)
class UseCase(Declaration):
    """A declaration that was checked: it can be trained and served.

    Raises
    ------
    InvalidUseCaseError
        When the example does not fit the features, two columns or algorithms share a name, a derived column cannot be
        computed, a group has no feature, a gate has no group, the target may be missing, or anything else could not
        be trained or would be silently ignored (`src/declaration/checks.py`).
    """

    def __post_init__(self) -> None:
        if not isinstance(self.target, Target) or not isinstance(self.target.feature, Feature):
            raise InvalidUseCaseError(f"{self.name}: the target must be a Target with a feature.")
        if fits(self.features, tuple[Feature, ...]) and fits(self.derived, tuple[DerivedColumn, ...]):
            for name, value in unsaid(self).items():
                object.__setattr__(self, name, value)  # once: nothing has seen the declaration yet
        check_kinds(self)
        for algorithm in (*self.algorithms, self.baseline):
            if ModelId.parse(str(ModelId(self.name, algorithm.name, "1.0.0", "1.000000"))) is None:
                raise InvalidUseCaseError(
                    f"A model_id cannot hold '{self.name}' and '{algorithm.name}': use letters and digits, those of "
                    "the use case in lower case."
                )
        names = {algorithm.name.lower() for algorithm in self.algorithms}  # names of folders, where case may not matter
        if len(names) < len(self.algorithms):
            raise InvalidUseCaseError(f"{self.name}: each algorithm needs a name of its own.")
        columns = [feature.name for feature in (*self.features, *self.extras, self.target.feature)]
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
        if self.example:
            self._check_example(by_name)
        check(self)

    def _check_example(self, by_name: Mapping[str, Feature]) -> None:
        known = {**by_name} | {extra.name: replace(extra, missing=True) for extra in self.extras}
        problems = [f"{name}: There is no such feature." for name in self.example.keys() - known.keys()]
        problems += [
            f"{name}: {problem}"
            for name, feature in known.items()
            if (problem := feature.problem(self.example.get(name)))
        ]
        if problems:
            raise InvalidUseCaseError(f"{self.name}: the example does not fit the features. {' '.join(problems)}")

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
    def encoder(self) -> RecordEncoder:
        """From records to a matrix: the first step of all pipelines of this use case."""
        return RecordEncoder(self.features, self.derived, self.extras)

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
