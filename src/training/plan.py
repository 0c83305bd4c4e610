"""Plan: how a training is run, and which algorithms take part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import joblib

from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import WarnedError
from tabserve.executors import Pool
from tabserve.registry.manifest import DataWarning
from tabserve.tuning import Trial


@dataclass(frozen=True)
class Plan:
    """How a training is run.

    The same data, seed, number of trials and versions give the same models, with any number of jobs and any executor;
    not so where minutes end a search.

    Parameters
    ----------
    trials : int
        Points of its search space that each algorithm tries.
    seed : int
        Of the split, the folds and the search.
    jobs : int
        CPUs that a training uses: for folds that are worked on at once, or for one model of many rows.
    executor : Pool, optional
        Makes the trials of a search of many rows, several at once; by default they are made here, one after the other.
    exclude_protected : bool
        Whether the models must do without the protected features.
    minutes : float, optional
        How long each algorithm is searched for: after them no trial is begun, except for the first.
    sheet : str, optional
        The sheet of a workbook that holds the data; by default, the one with the known columns.
    drop_missing_target : bool
        Whether rows without a target are left out; otherwise they are refused.
    strict : bool
        Whether warnings stop a training, and keep a model from being registered.
    accept_worse : str
        The reason for which a model that is worse than the champion is registered; by default none is.
    progress : callable
        Told the algorithm, its trials so far and how many there will be: before the first and after each.
    show_warnings : callable
        Told what is odd about the data, before anything is fitted.
    """

    trials: int = 30
    seed: int = 42
    jobs: int = field(default_factory=joblib.cpu_count)
    executor: Pool | None = None
    exclude_protected: bool = False
    minutes: float | None = None
    sheet: str | None = None
    drop_missing_target: bool = False
    strict: bool = False
    accept_worse: str = ""
    progress: Callable[[Algorithm, Sequence[Trial], int], None] = lambda algorithm, trials, total: None
    show_warnings: Callable[[Sequence[DataWarning]], None] = lambda warnings: None

    def warn(self, warnings: Sequence[DataWarning]) -> None:
        """Tell what is odd about the data, or stop.

        Raises
        ------
        WarnedError
            In a strict training, when there is a warning.
        """
        if self.strict and warnings:
            raise WarnedError([str(warning) for warning in warnings])
        self.show_warnings(warnings)


def competitors(use_case: UseCase, names: Sequence[str]) -> list[Algorithm]:
    """The algorithms of these names, each once; all that the use case has when no name is given.

    Raises
    ------
    UnknownAlgorithmError
        When the use case has no such algorithm.
    """
    chosen = [use_case.algorithm(name) for name in names] or use_case.algorithms
    return list({algorithm.name: algorithm for algorithm in chosen}.values())


def entrants(use_case: UseCase, algorithms: Sequence[Algorithm]) -> list[Algorithm]:
    """Algorithms and the baseline to compare them with, each once, after those whose parameters they take over."""
    compared = [*algorithms, use_case.baseline]
    first = [use_case.algorithm(one.parameters_from) for one in compared if one.parameters_from]
    return list({algorithm.name: algorithm for algorithm in (*first, *compared)}.values())
