"""Tuning: Bayesian optimisation of a model's parameters by cross-validation."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from tabserve.errors import InterruptedTrainingError
from tabserve.models.base import CrossValidation
from tabserve.search_space import Dimension

if TYPE_CHECKING:
    from bayes_opt import BayesianOptimization
    from bayes_opt.acquisition import AcquisitionFunction


WIDENED_TRIALS = 0.25  # of the trials, more for each time that ranges are widened
MOST_WIDENINGS = 2
EXPLORING, EXPLOITING = 2.576, 1.0  # standard deviations that an unknown point is given the benefit of

# cross-validates models with the given parameters, in their order
Judge: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], Iterable[CrossValidation]]


@dataclass(frozen=True)
class Trial:
    """One point of the search and how good it is.

    Parameters
    ----------
    parameters : mapping
        A value for each parameter of the search space.
    cross_validation : CrossValidation
        The result of a model with these parameters.
    is_sampled : bool
        Whether the model was fitted on a sample of the rows, to choose what is tried on all of them.
    """

    parameters: Mapping[str, Any]
    cross_validation: CrossValidation
    is_sampled: bool = False


@dataclass(frozen=True)
class Found:
    """What a search led to.

    Parameters
    ----------
    trials : sequence of Trial
        In the order in which they were made.
    notes : sequence of str
        What a person should know of the search, in sentences.
    """

    trials: Sequence[Trial]
    notes: Sequence[str] = ()


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
    start : mapping, optional
        Parameters of the first trial, which takes the place of a random one.
    limits : mapping of (float, float)
        Between what the parameters make sense: a range that ends there has no edge there.
    adapts : bool
        Whether ranges are widened, within the limits, when the best trial stands at an edge of theirs; more trials
        follow then. The surrogate model measures distances as shares of the ranges and explores less: there may be
        many dimensions, and their corners are far from everything.
    seconds : float, optional
        After this time no trial is begun, except for the first.
    batch : int
        How many points are chosen before any of them is judged. The surrogate model takes those without a score for
        mean ones.
    """

    def __init__(
        self,
        search_space: Mapping[str, Dimension],
        initial_points: int,
        iterations: int,
        seed: int,
        start: Mapping[str, Any] | None = None,
        limits: Mapping[str, tuple[float, float]] = MappingProxyType({}),
        adapts: bool = False,
        seconds: float | None = None,
        batch: int = 1,
    ) -> None:
        self.search_space = search_space
        self.initial_points = initial_points
        self.iterations = iterations
        self.seed = seed
        self.start = start
        self.limits = limits
        self.adapts = adapts
        self.seconds = seconds
        self.batch = batch

    def run(
        self,
        judge: Judge,
        progress: Callable[[Sequence[Trial]], None] = lambda trials: None,
    ) -> Found:
        """Search for the parameters with the highest score.

        Parameters
        ----------
        judge : callable
            Cross-validates models with the given parameters, a batch at a time, and gives the results in that order.
        progress : callable
            Called after each trial, with all trials so far.

        Returns
        -------
        Found

        Raises
        ------
        InterruptedTrainingError
            On Ctrl-C.
        """
        total = self.initial_points + self.iterations
        ends = time.monotonic() + (math.inf if self.seconds is None else self.seconds)
        space = dict(self.search_space)
        units = {name: one.width if self.adapts and one.width else 1.0 for name, one in space.items()}
        optimizer = _optimizer(
            _scaled(space, units), EXPLOITING if self.adapts else EXPLORING, self.seed, self.batch > 1
        )
        points = optimizer.random_sample(self.initial_points)
        if self.start is not None:
            points[0] = {name: one.position(self.start[name]) / units[name] for name, one in space.items()}
        trials: list[Trial] = []
        notes: list[str] = []

        def chosen(place: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
            """The point of a trial, and its parameters."""
            point = points[place] if place < len(points) else optimizer.suggest()
            if not place and self.start is not None:
                return point, dict(self.start)
            return point, {name: one.value(float(point[name]) * units[name]) for name, one in space.items()}

        def make_trials(most: int) -> None:
            while len(trials) < most:
                end = min(len(trials) + self.batch, self.initial_points if len(trials) < self.initial_points else most)
                batch = [chosen(place) for place in range(len(trials), end)]
                results = judge([parameters for _, parameters in batch])
                for (point, parameters), result in zip(batch, results, strict=False):
                    trials.append(Trial(parameters, result))
                    optimizer.register(params=point, target=result.score)
                    progress(trials)
                    if time.monotonic() >= ends:  # those of the batch that are not begun are not asked for
                        return

        try:
            make_trials(total)
            for _ in range(MOST_WIDENINGS if self.adapts else 0):
                widened = self._widened(space, best_of(trials).parameters)
                if not widened or time.monotonic() >= ends:
                    break
                notes += [_widened_note(name, space[name], one) for name, one in widened.items()]
                space |= widened
                optimizer.set_bounds(_scaled(widened, units))
                make_trials(len(trials) + max(1, round(total * WIDENED_TRIALS)))
        except KeyboardInterrupt:
            raise InterruptedTrainingError(len(trials), total) from None
        if len(trials) < total:
            notes.append(f"The time for the search was over after {len(trials)} of {total} trials.")
        return Found(trials, [*notes, *self._edge_notes(space, best_of(trials).parameters)])

    def _widened(self, space: Mapping[str, Dimension], best: Mapping[str, Any]) -> dict[str, Dimension]:
        """The dimensions at whose edges a point stands, and that can be wider."""
        found = {name: one.widened_at(best[name], *self._limits_of(name)) for name, one in space.items()}
        return {name: one for name, one in found.items() if one != space[name]}

    def _edge_notes(self, space: Mapping[str, Dimension], best: Mapping[str, Any]) -> list[str]:
        return [
            f"{name} stands at the edge of what was searched, {best[name]:.4g}: a wider range may be better."
            for name in self._widened(space, best)
        ]

    def _limits_of(self, name: str) -> tuple[float, float]:
        return self.limits.get(name, (-math.inf, math.inf))


def _widened_note(name: str, before: Dimension, after: Dimension) -> str:
    """In words, how a range was widened."""
    ends = (("up", before.high, after.high), ("down", before.low, after.low))
    way, old, new = next(end for end in ends if end[1] != end[2])
    return f"{name} stands at the edge {old:.4g}: searched {way} to {new:.4g}."


def _scaled(space: Mapping[str, Dimension], units: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """The bounds of dimensions in units of their own."""
    return {name: (one.bounds[0] / units[name], one.bounds[1] / units[name]) for name, one in space.items()}


def _optimizer(
    bounds: dict[str, tuple[float, float]], kappa: float, seed: int, in_batches: bool
) -> "BayesianOptimization":
    from bayes_opt import BayesianOptimization
    from bayes_opt.acquisition import ConstantLiar

    acquisition = _thrifty_acquisition(kappa)
    optimizer = BayesianOptimization(
        f=None,
        pbounds=bounds,
        acquisition_function=ConstantLiar(acquisition, "mean") if in_batches else acquisition,
        random_state=seed,
        allow_duplicate_points=True,
        verbose=0,
    )
    # A score is a mean over few folds: the surrogate must smooth (alpha) and need not be fitted exactly.
    optimizer.set_gp_params(alpha=0.1, n_restarts_optimizer=1)
    return optimizer


def _thrifty_acquisition(kappa: float) -> "AcquisitionFunction":
    from bayes_opt.acquisition import UpperConfidenceBound

    class ThriftyUpperConfidenceBound(UpperConfidenceBound):
        """The library's own, with a tenth of its search for the next point, which took longer than the trials."""

        def suggest(self, *args: Any, **kwargs: Any) -> Any:
            return super().suggest(*args, **{**kwargs, "n_random": 2000, "n_smart": 2})

    return ThriftyUpperConfidenceBound(kappa=kappa)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score, of those on all rows if there are any; the earliest of equals.

    Parameters
    ----------
    trials : sequence of Trial
        At least one.

    Returns
    -------
    Trial
    """
    return max(trials, key=lambda trial: (not trial.is_sampled, trial.cross_validation.score))
