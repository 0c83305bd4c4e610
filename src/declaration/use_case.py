"""UseCase: a declaration that can be trained and served."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Feature
from tabserve.columns.kinds import check_kinds, fits
from tabserve.declaration.checks import check
from tabserve.declaration.declaration import Algorithm, Declaration
from tabserve.declaration.defaults import unsaid
from tabserve.declaration.reading import nearest, placed
from tabserve.declaration.vocabulary import GATES, word_for
from tabserve.errors import InvalidUseCaseError, UnknownAlgorithmError
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
        for place, problem in self._problems():
            raise InvalidUseCaseError(f"{self.name}: {problem}", place)
        by_name = {feature.name: feature for feature in self.features}
        for column in self.derived:
            with placed("derived", column.name):
                column.check(by_name)
        check(self)

    def _problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is wrong with the names, and with what they refer to."""
        if not _is_part_of_a_model_id(use_case=self.name):
            yield (
                (),
                f"a use case cannot have the name '{self.name:.60}': it begins with a lower-case letter and holds "
                "lower-case letters, digits and underscores, 50 at most.",
            )
        for algorithm in (*self.algorithms, self.baseline):
            if not _is_part_of_a_model_id(algorithm=algorithm.name):
                yield (
                    ("baseline",) if algorithm is self.baseline else ("algorithms", algorithm.name),
                    f"an algorithm cannot have the name '{algorithm.name:.60}': it begins with a letter and holds "
                    "letters, digits and hyphens, 50 at most.",
                )
        names = {algorithm.name.lower() for algorithm in self.algorithms}  # names of folders, where case may not matter
        if len(names) < len(self.algorithms):
            yield ("algorithms",), "each algorithm needs a name of its own."
        columns = Counter(column.name for column in (*self.columns, *self.extras, self.target.feature))
        for name, times in columns.items():
            if times > 1:
                yield ("columns", name), f"two columns share a name, '{name}'."
        if self.target.feature.optional:
            name = self.target.feature.name
            yield ("columns", name), f"the target '{name}' can be neither missing nor have a default."
        features = {feature.name for feature in self.features}
        for group in self.groups:
            if group.feature not in features:
                sentence = f"there is no feature '{group.feature}' to group by: {nearest(group.feature, features)}"
                yield ("groups", group.feature), sentence
        grouped = {group.feature for group in self.groups}
        for gate in self.gates:
            if gate.of_groups and gate.name not in grouped:
                sentence = f"a gate is on the groups by '{gate.name}', which are not declared."
                yield ("gates", word_for(gate, GATES), gate.name), sentence
        for name, problem in self._problems_of_example():
            yield ("example", name), f"the example does not fit the features. {name}: {problem}"

    def _problems_of_example(self) -> Iterator[tuple[str, str]]:
        if not self.example:
            return
        known = {feature.name: feature for feature in self.features}
        known |= {extra.name: replace(extra, missing=True, default=None) for extra in self.extras}
        for name in self.example:
            if name not in known:
                yield name, f"There is no such feature: {nearest(name, known)}"
        for name, feature in known.items():
            if problem := feature.problem(self.example.get(name)):
                yield name, problem

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


def _is_part_of_a_model_id(use_case: str = "x", algorithm: str = "x") -> bool:
    model_id = ModelId(use_case, algorithm, "1.0.0", "1.000000")
    return ModelId.parse(str(model_id)) == model_id
