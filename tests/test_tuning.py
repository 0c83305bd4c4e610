"""Bayesian optimisation of parameters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.errors import InterruptedTrainingError
from tabserve.models.base import CrossValidation
from tabserve.search_space import Dimension, Flag, Real, Whole
from tabserve.tuning import BayesianSearch, Found, Judge, Trial, best_of

SPACE: dict[str, Dimension] = {"x": Real(-5.0, 5.0), "y": Real(0.001, 10.0, log=True)}


def judged(score: float) -> CrossValidation:
    return CrossValidation(score, np.empty((0, 0)))


def hill(parameters: Mapping[str, Any]) -> CrossValidation:
    """An objective whose maximum is 0, at x = 2 and y = 0.1."""
    return judged(-((parameters["x"] - 2) ** 2) - (np.log10(parameters["y"]) + 1) ** 2)


def each(objective: Callable[[Mapping[str, Any]], CrossValidation]) -> Judge:
    """What judges points one after the other, when its results are asked for."""
    return partial(map, objective)


def parameters_of(found: Found) -> list[Mapping[str, Any]]:
    return [trial.parameters for trial in found.trials]


def test_the_same_seed_gives_the_same_trials_and_another_seed_others() -> None:
    first, again, other = (BayesianSearch(SPACE, 3, 2, seed).run(each(hill)) for seed in (1, 1, 2))
    assert parameters_of(first) == parameters_of(again)
    assert all(one != two for one, two in zip(parameters_of(first), parameters_of(other), strict=True))


def test_every_trial_is_kept_in_the_order_in_which_it_was_made() -> None:
    seen = []

    def objective(parameters: Mapping[str, Any]) -> CrossValidation:
        seen.append((parameters, hill(parameters)))
        return seen[-1][1]

    trials = BayesianSearch(SPACE, 4, 3, 0).run(each(objective)).trials
    assert [(trial.parameters, trial.cross_validation) for trial in trials] == seen
    assert len(seen) == 7


@pytest.mark.parametrize(("initial_points", "iterations"), [(1, 0), (3, 0), (1, 2)])
def test_there_are_as_many_trials_as_asked_for(initial_points: int, iterations: int) -> None:
    trials = BayesianSearch(SPACE, initial_points, iterations, 0).run(each(hill)).trials
    assert len(trials) == initial_points + iterations


@pytest.mark.parametrize("seed", [0, 1])
def test_the_search_comes_nearer_to_the_best_than_its_initial_points(seed: int) -> None:
    trials = BayesianSearch(SPACE, 5, 12, seed).run(each(hill)).trials
    first = best_of(trials[:5]).cross_validation.score
    best = best_of(trials)
    assert best.cross_validation.score > first
    assert best.parameters["x"] == pytest.approx(2, abs=0.7)  # of -5 to 5
    assert 0.02 < best.parameters["y"] < 0.5  # of 0.001 to 10


def test_it_searches_flags_and_whole_numbers_too() -> None:
    space: dict[str, Dimension] = {"flag": Flag(), "whole": Whole(1, 100, log=True)}
    found = BayesianSearch(space, 5, 3, 3).run(
        each(lambda parameters: judged(float(parameters["flag"]) - abs(parameters["whole"] - 10) / 100))
    )
    assert {type(parameters["flag"]) for parameters in parameters_of(found)} == {bool}
    assert {type(parameters["whole"]) for parameters in parameters_of(found)} == {int}
    assert best_of(found.trials).parameters["flag"] is True


@settings(deadline=None, max_examples=20)
@given(
    low=st.floats(1e-3, 1), width=st.floats(0, 100), whole=st.integers(1, 50), log=st.booleans(), seed=st.integers(0, 9)
)
def test_parameters_stay_within_their_bounds(low: float, width: float, whole: int, log: bool, seed: int) -> None:
    space: dict[str, Dimension] = {
        "real": Real(low, low + width, log=log),
        "whole": Whole(whole, whole + 7, log=log),
        "flag": Flag(),
    }
    for parameters in parameters_of(BayesianSearch(space, 5, 0, seed).run(each(lambda parameters: judged(0.0)))):
        assert low <= parameters["real"] <= low + width
        assert whole <= parameters["whole"] <= whole + 7
        assert isinstance(parameters["flag"], bool)


def test_a_logarithmic_scale_spends_as_many_points_on_each_power_of_ten() -> None:
    found = BayesianSearch({"x": Real(0.001, 1000.0, log=True)}, 300, 0, 5).run(each(lambda parameters: judged(0.0)))
    powers = np.floor(np.log10([parameters["x"] for parameters in parameters_of(found)]))
    assert np.unique(powers).tolist() == [-3, -2, -1, 0, 1, 2]
    assert np.unique(powers, return_counts=True)[1].min() > 25


def test_progress_is_told_all_trials_so_far_after_each() -> None:
    scores = iter([0.2, 0.5, 0.5, 0.1])
    told: list[list[Trial]] = []

    def progress(trials: Sequence[Trial]) -> None:
        told.append(list(trials))

    trials = BayesianSearch(SPACE, 3, 1, 0).run(each(lambda parameters: judged(next(scores))), progress).trials
    assert told == [trials[:number] for number in (1, 2, 3, 4)]
    assert [best_of(trials).cross_validation.score for trials in told] == [0.2, 0.5, 0.5, 0.5]


def test_what_was_told_before_an_interruption_is_what_was_done() -> None:
    told: list[int] = []

    def progress(trials: Sequence[Trial]) -> None:
        told.append(len(trials))
        if len(trials) == 2:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedTrainingError, match=r"^Interrupted after 2 of 4 trials"):
        BayesianSearch(SPACE, 4, 0, 0).run(each(hill), progress)
    assert told == [1, 2]


def test_the_earliest_of_equally_good_trials_is_the_best() -> None:
    trials = [Trial({"x": number}, judged(score)) for number, score in enumerate([0.1, 0.5, 0.5])]
    assert best_of(trials).parameters == {"x": 1}


@pytest.mark.parametrize("done", [0, 2, 4])
def test_an_interrupted_search_says_how_far_it_got(done: int) -> None:
    results = iter([judged(0.1)] * done)

    def objective(parameters: Mapping[str, Any]) -> CrossValidation:
        result = next(results, None)
        if result is None:
            raise KeyboardInterrupt
        return result

    with pytest.raises(InterruptedTrainingError, match=f"^Interrupted after {done} of 5 trials; nothing was saved"):
        BayesianSearch(SPACE, 2, 3, 0).run(each(objective))


def test_an_error_of_the_objective_is_not_hidden() -> None:
    def objective(parameters: Mapping[str, Any]) -> CrossValidation:
        raise ValueError("no such column")

    with pytest.raises(ValueError, match="no such column"):
        BayesianSearch(SPACE, 2, 0, 0).run(each(objective))


LIMITS = {"x": (-100.0, 100.0), "y": (0.001, 20.0)}


def far(parameters: Mapping[str, Any]) -> CrossValidation:
    """An objective that rises beyond the end of `x`."""
    return judged(float(parameters["x"]))


def test_the_first_trial_is_the_one_that_the_search_starts_from() -> None:
    start = {"x": 2.0, "y": 20.0}  # of which one is outside of its range
    first, *others = BayesianSearch(SPACE, 3, 2, 0, start=start).run(each(hill)).trials
    assert first.parameters == start
    assert len(others) == 4
    assert start not in [trial.parameters for trial in others]


@pytest.mark.parametrize("seed", range(3))
def test_a_range_at_whose_edge_the_best_trial_stands_is_widened_and_that_is_said(seed: int) -> None:
    found = BayesianSearch(SPACE, 4, 8, seed, limits=LIMITS, adapts=True).run(each(far))
    assert any(note == "x stands at the edge 5: searched up to 10." for note in found.notes)
    assert best_of(found.trials).parameters["x"] > 5
    assert len(found.trials) in (15, 18)


def test_a_range_is_not_widened_beyond_what_makes_sense() -> None:
    limits = {"x": (-5.0, 7.0), "y": (0.001, 10.0)}
    found = BayesianSearch(SPACE, 4, 16, 1, limits=limits, adapts=True).run(each(far))
    assert max(trial.parameters["x"] for trial in found.trials) <= 7
    assert all("edge 7" not in note and "y stands" not in note for note in found.notes)


def test_a_declared_range_stays_as_it_is_and_its_edge_is_said() -> None:
    found = BayesianSearch(SPACE, 4, 16, 0, limits=LIMITS).run(each(far))
    assert len(found.trials) == 20
    assert best_of(found.trials).parameters["x"] == 5
    assert "x stands at the edge of what was searched, 5: a wider range may be better." in found.notes


def test_no_trial_is_begun_when_the_time_is_over_but_the_first() -> None:
    found = BayesianSearch(SPACE, 4, 4, 0, seconds=0).run(each(hill))
    assert len(found.trials) == 1
    assert found.notes[0] == "The time for the search was over after 1 of 8 trials."


def test_trials_on_all_rows_come_before_better_ones_on_a_sample() -> None:
    trials = [Trial({"x": 1}, judged(0.9), is_sampled=True), Trial({"x": 2}, judged(0.4)), Trial({"x": 3}, judged(0.5))]
    assert best_of(trials).parameters == {"x": 3}
    assert best_of(trials[:1]).parameters == {"x": 1}


def test_points_of_a_batch_differ_and_are_the_same_whoever_judges_them() -> None:
    search = BayesianSearch(SPACE, 5, 10, 3, start={"x": 0.0, "y": 1.0}, limits=LIMITS, adapts=True, batch=4)
    sizes = []

    def judge(points: Sequence[Mapping[str, Any]]) -> Iterable[CrossValidation]:
        sizes.append(len(points))
        return [hill(point) for point in points]

    found = search.run(judge)
    assert sizes[:5] == [4, 1, 4, 4, 2]  # the surrogate model does not choose before all random points are judged
    assert len({tuple(parameters.values()) for parameters in parameters_of(found)}) == len(found.trials)
    for workers in (1, 4):
        with ThreadPoolExecutor(workers) as pool:
            assert parameters_of(search.run(partial(pool.map, hill))) == parameters_of(found)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_in_batches_comes_near_to_the_best_too(seed: int) -> None:
    best = best_of(BayesianSearch(SPACE, 5, 15, seed, batch=4).run(each(hill)).trials)
    assert best.parameters["x"] == pytest.approx(2, abs=0.7)
    assert 0.02 < best.parameters["y"] < 0.5


def test_of_a_batch_no_trial_is_begun_either_when_the_time_is_over() -> None:
    begun = []

    def objective(parameters: Mapping[str, Any]) -> CrossValidation:
        begun.append(parameters)
        return hill(parameters)

    assert len(BayesianSearch(SPACE, 4, 4, 0, seconds=0, batch=4).run(each(objective)).trials) == len(begun) == 1
