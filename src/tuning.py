"""Tuning: Bayesian optimisation of a model's parameters by cross-validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabserve.errors import InterruptedTrainingError
from tabserve.models.base import CrossValidation
from tabserve.search_space import Dimension

if TYPE_CHECKING:
    from bayes_opt.acquisition import AcquisitionFunction


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
    cross_validation: CrossValidation


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
        objective: Callable[[Mapping[str, Any]], CrossValidation],
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
