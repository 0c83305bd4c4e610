"""Tuning: Bayesian optimisation of a model's parameters by cross-validation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabserve.columns.kinds import fits
from tabserve.errors import InterruptedTrainingError, InvalidUseCaseError

if TYPE_CHECKING:
    from bayes_opt.acquisition import AcquisitionFunction
    from tabserve.models.base import CrossValidation


@dataclass(frozen=True)
class Dimension(ABC):
    """The range of one parameter.

    Parameters
    ----------
    low, high : float
        The smallest and the largest value.
    log : bool
        Whether to search on a logarithmic scale.

    Raises
    ------
    InvalidUseCaseError
        When a bound is not finite, `low` is above `high`, or `low` is not above 0 on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        is_range = fits([self.low, self.high], tuple[float, ...]) and self.low <= self.high
        if not is_range or (self.log and self.low <= 0):
            raise InvalidUseCaseError(
                f"{self} needs two finite bounds, the smaller one first, and above 0 on a logarithmic scale."
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """The range, on the scale that is searched."""
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)

    def value(self, position: float) -> Any:
        """The parameter at a position.

        Parameters
        ----------
        position : float
            On the scale that is searched, within `bounds`.

        Returns
        -------
        float, int or bool
            Depending on the kind of dimension.
        """
        return self._typed(math.exp(position) if self.log else position)

    @abstractmethod
    def _typed(self, value: float) -> Any: ...


class Real(Dimension):
    """A parameter that is a real number."""

    def _typed(self, value: float) -> float:
        return min(max(value, self.low), self.high)  # exp(log(x)) may differ from x by rounding


class Whole(Dimension):
    """A parameter that is a whole number."""

    def _typed(self, value: float) -> int:
        return round(value)


class Flag(Dimension):
    """A parameter that is true or false."""

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)

    def _typed(self, value: float) -> bool:
        return value >= 0.5


@dataclass(frozen=True)
class Trial:
    """One point of the search and how good it is.

    Parameters
    ----------
    parameters : mapping
        A value for each parameter of the search space.
    cross_validation : CrossValidation
        The result of a model with these parameters.
    """

    parameters: Mapping[str, Any]
    cross_validation: "CrossValidation"


class BayesianSearch:
    """Bayesian optimisation over a search space (bayesian-optimization 3).

    Parameters
    ----------
    search_space : mapping
        Range of each parameter.
    initial_points : int
        How many trials are at random points, before the surrogate model chooses.
    iterations : int
        How many trials the surrogate model chooses.
    seed : int
        The same seed and objective give the same trials.
    """

    def __init__(self, search_space: Mapping[str, Dimension], initial_points: int, iterations: int, seed: int) -> None:
        self.search_space = search_space
        self.initial_points = initial_points
        self.iterations = iterations
        self.seed = seed

    def run(
        self,
        objective: Callable[[Mapping[str, Any]], "CrossValidation"],
        progress: Callable[[Sequence[Trial]], None] = lambda trials: None,
    ) -> list[Trial]:
        """Search for the parameters with the highest score.

        Parameters
        ----------
        objective : callable
            Cross-validates a model with the given parameters.
        progress : callable
            Called after each trial, with all trials so far.

        Returns
        -------
        list of Trial
            In the order they were made.

        Raises
        ------
        InterruptedTrainingError
            On Ctrl-C.
        """
        from bayes_opt import BayesianOptimization

        names = list(self.search_space)
        optimizer = BayesianOptimization(
            f=None,
            pbounds={name: self.search_space[name].bounds for name in names},
            acquisition_function=_thrifty_acquisition(),
            random_state=self.seed,
            allow_duplicate_points=True,
            verbose=0,
        )
        # A score is a mean over few folds: the surrogate must smooth (alpha) and need not be fitted exactly.
        optimizer.set_gp_params(alpha=0.1, n_restarts_optimizer=1)
        initial = optimizer.random_sample(self.initial_points)
        trials: list[Trial] = []
        try:
            for number in range(1, self.initial_points + self.iterations + 1):
                point = initial[number - 1] if number <= self.initial_points else optimizer.suggest()
                parameters = {name: self.search_space[name].value(float(point[name])) for name in names}
                trials.append(Trial(parameters, objective(parameters)))
                optimizer.register(params=point, target=trials[-1].cross_validation.score)
                progress(trials)
        except KeyboardInterrupt:
            raise InterruptedTrainingError(len(trials), self.initial_points + self.iterations) from None
        return trials


def _thrifty_acquisition() -> "AcquisitionFunction":
    from bayes_opt.acquisition import UpperConfidenceBound

    class ThriftyUpperConfidenceBound(UpperConfidenceBound):
        """The library's own, with a tenth of its search for the next point, which took longer than the trials."""

        def suggest(self, *args: Any, **kwargs: Any) -> Any:
            return super().suggest(*args, **{"n_random": 2000, "n_smart": 2, **kwargs})

    return ThriftyUpperConfidenceBound(kappa=2.576)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score; the earliest of equals.

    Parameters
    ----------
    trials : sequence of Trial
        At least one.

    Returns
    -------
    Trial
    """
    return max(trials, key=lambda trial: trial.cross_validation.score)
