"""Evidence: how good candidates are, and the verdicts that follow; what a manifest says of them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from tabserve.aliases import Predictions
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.example import with_example
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.bootstrap import bootstrap_difference, bootstrap_intervals
from tabserve.evaluation.distribution import Distribution
from tabserve.evaluation.fairness import GroupComparison, compare_groups, smallest_ratios
from tabserve.evaluation.gates import Evidence, Verdict, judge
from tabserve.evaluation.metrics import CHRONOLOGICAL, CROSS_VALIDATION, HOLD_OUT, TRAIN, Metrics
from tabserve.models.base import on_cpus
from tabserve.registry.manifest import (
    ChampionComparison,
    DataWarning,
    Kept,
    Manifest,
    ProtectedComparison,
    ThresholdOutcome,
    Tried,
)
from tabserve.tasks.base import pooled
from tabserve.training.candidate import Candidate
from tabserve.training.champion import Champion, NotCompared
from tabserve.training.data_checks import check_decisions
from tabserve.training.distributions import columns_of, distributions_of
from tabserve.training.folds import folds_of
from tabserve.training.parts import MOST_KEPT, Part, Parts, sample
from tabserve.training.plan import Plan
from tabserve.training.provenance import provenance
from tabserve.tuning import best_of


@dataclass(frozen=True)
class Measured:
    """A candidate, and how good it is.

    Parameters
    ----------
    candidate : Candidate
        The fitted model.
    predictions : ndarray, shape (n_test_rows,) or (n_test_rows, n_classes)
        Its predictions of the hold-out.
    metrics : mapping of dict
        By part: on the training part, out of fold (the mean over repeats), on the hold-out and, where rows stand in
        the order of time, on the last of them by a model of the first.
    """

    candidate: Candidate
    predictions: Predictions
    metrics: Mapping[str, Metrics]


def measure(use_case: UseCase, candidates: Sequence[Candidate], parts: Parts, plan: Plan) -> dict[str, Measured]:
    """Measure candidates; by the names of their algorithms."""
    with ThreadPoolExecutor(plan.jobs) as pool:
        measured = pool.map(lambda candidate: _measure(use_case, candidate, parts), candidates)
        return {one.candidate.algorithm.name: one for one in measured}


def _measure(use_case: UseCase, candidate: Candidate, parts: Parts) -> Measured:
    task, decision = use_case.task, candidate.decision
    predictions = candidate.predict(parts.test)
    repeats = [task.metrics(*pooled(parts.train.y, repeat[None]), decision) for repeat in candidate.out_of_fold]
    metrics = {
        TRAIN: task.metrics(parts.train.y, candidate.predict(parts.train), decision),
        CROSS_VALIDATION: {name: float(np.mean([repeat[name] for repeat in repeats])) for name in repeats[0]},
        HOLD_OUT: task.metrics(parts.test.y, predictions, decision),
    }
    if use_case.chronological:
        past, future = parts.whole.split_by_time()
        metrics[CHRONOLOGICAL] = task.metrics(future.y, candidate.refit(past).predict(future), decision)
    return Measured(candidate, predictions, metrics)


def best_first(use_case: UseCase, algorithms: Sequence[Algorithm], measured: Mapping[str, Measured]) -> list[Measured]:
    """Those of some algorithms, by the headline metric in cross-validation."""
    headline = use_case.task.headline
    ours = [measured[algorithm.name] for algorithm in algorithms]
    return sorted(ours, key=lambda one: one.metrics[CROSS_VALIDATION][headline], reverse=True)


def describe(
    use_case: UseCase,
    ranked: Sequence[Measured],
    measured: Mapping[str, Measured],
    champion: Champion | NotCompared | None,
    parts: Parts,
    plan: Plan,
    warnings: Sequence[DataWarning] = (),
) -> list[Manifest]:
    """All that is known of candidates before they are judged.

    Parameters
    ----------
    use_case : UseCase
        What they were trained for.
    ranked : sequence of Measured
        The candidates, the best first: it gets the newest model_id.
    measured : mapping of Measured
        Those and the baseline, by algorithm.
    champion : Champion, NotCompared or None
        The model that answers today.
    parts : Parts
        What they were fitted on and measured by.
    plan : Plan
        How they were trained.
    warnings : sequence of DataWarning
        What was found in the data.

    Returns
    -------
    list of Manifest
        As many as candidates, without verdicts.
    """
    now = time.time_ns() // 1000
    columns = columns_of(parts)
    return [
        _describe(use_case, one, measured, champion, parts, plan, warnings, columns, created=now - place)
        for place, one in enumerate(ranked)
    ]


def _describe(
    use_case: UseCase,
    one: Measured,
    measured: Mapping[str, Measured],
    champion: Champion | NotCompared | None,
    parts: Parts,
    plan: Plan,
    warnings: Sequence[DataWarning],
    columns: Mapping[str, Distribution],
    created: int,
) -> Manifest:
    task, candidate, test = use_case.task, one.candidate, parts.test
    better_than = _compare(use_case, one, test, plan)
    with_one = with_example(use_case, parts.train.table)
    return Manifest(
        **provenance(with_one, candidate.algorithm, created, parts.source, plan.seed, parts.split),
        threads=plan.jobs,
        hold_out=_kept(use_case, one, test, plan),
        headline=task.headline,
        parameters=candidate.model.get_params(),
        trials=_tried(candidate),
        search_notes=tuple(candidate.notes),
        **_thresholds(use_case, one, parts),
        intervals=_intervals(use_case, one, test, plan),
        groups=_groups(use_case, one, test),
        baseline=use_case.baseline.name,
        baseline_difference=better_than(measured[use_case.baseline.name].predictions, slice(None)),
        champion=_beside_champion(champion, better_than),
        metrics=one.metrics,
        comparison={name: other.metrics for name, other in measured.items()},
        protected=without_protected(use_case, one, parts, plan),
        distributions=distributions_of(candidate, parts, columns),
        warnings=(*warnings, *_doubts(use_case, one)),
    )


def _kept(use_case: UseCase, one: Measured, test: Part, plan: Plan) -> Kept:
    """How many rows of the hold-out will be saved, and how good the candidate is on these."""
    rows = sample(len(test.y), MOST_KEPT, plan.seed)
    score = use_case.task.metric(test.y[rows], one.predictions[rows])
    return Kept(len(rows), len(test.y), None if math.isnan(score) else score)


def _doubts(use_case: UseCase, one: Measured) -> tuple[DataWarning, ...]:
    """What is odd about a candidate's decisions on the hold-out."""
    candidate = one.candidate
    return check_decisions(use_case, candidate.algorithm.name, candidate.decision, one.predictions)


def _tried(candidate: Candidate) -> tuple[Tried, ...]:
    return tuple(
        Tried({**trial.parameters, **trial.cross_validation.parameters}, trial.cross_validation.score, trial.is_sampled)
        for trial in candidate.trials
    )


def _thresholds(use_case: UseCase, one: Measured, parts: Parts) -> dict[str, Any]:
    """The threshold, and what each would lead to, out of fold and on the hold-out: arguments of `Manifest`."""
    candidate = one.candidate
    out_of_fold = pooled(parts.train.y, candidate.out_of_fold)
    rows = {CROSS_VALIDATION: out_of_fold, HOLD_OUT: (parts.test.y, one.predictions)}
    found = use_case.task.thresholds(candidate.decision, rows)
    return {**found, "thresholds": {name: ThresholdOutcome(**outcome) for name, outcome in found["thresholds"].items()}}


def _intervals(use_case: UseCase, one: Measured, test: Part, plan: Plan) -> dict[str, tuple[float, float]]:
    task, decision = use_case.task, one.candidate.decision
    return bootstrap_intervals(task.measure(test.y, one.predictions, decision), len(test.y), plan.seed)


def _groups(use_case: UseCase, one: Measured, test: Part) -> dict[str, GroupComparison]:
    """How groups of the hold-out are treated, by feature."""
    decisions = one.candidate.decision.decide(one.predictions)
    return {
        group.feature: compare_groups(test.y, one.predictions, decisions, group.labels(test.table))
        for group in use_case.groups
    }


BetterThan = Callable[[Predictions, Any], dict[str, tuple[float, float, float]]]


def _compare(use_case: UseCase, one: Measured, test: Part, plan: Plan) -> BetterThan:
    """A function that says how much better a candidate is than other predictions of the same rows of the hold-out."""

    def better_than(others: Predictions, rows: Any) -> dict[str, tuple[float, float, float]]:
        task, y = use_case.task, test.y[rows]
        own, of_others = task.scorer(y, one.predictions[rows]), task.scorer(y, others)
        return {task.headline: bootstrap_difference(own, of_others, len(y), plan.seed)}

    return better_than


def _beside_champion(champion: Champion | NotCompared | None, better_than: BetterThan) -> ChampionComparison | None:
    if champion is None:
        return None
    if isinstance(champion, NotCompared):
        return ChampionComparison(champion.model_id, not_compared=champion.reason)
    difference = better_than(champion.predictions, champion.rows)
    return ChampionComparison(champion.model_id, int(np.sum(champion.rows)), champion.metrics, difference)


def without_protected(use_case: UseCase, one: Measured, parts: Parts, plan: Plan) -> ProtectedComparison | None:
    """The headline metric with and without the protected columns; None when there are none, or no others.

    The other model has the candidate's parameters: what it would gain by a search of its own is not known.
    """
    if not use_case.can_exclude_protected:
        return None
    chosen = {
        CROSS_VALIDATION: best_of(one.candidate.trials).cross_validation.score,
        HOLD_OUT: use_case.task.metric(parts.test.y, one.predictions),
    }
    other = _the_other_way(use_case, one.candidate, parts, plan)
    with_them, without_them = (other, chosen) if plan.exclude_protected else (chosen, other)
    return ProtectedComparison(
        use_case.protected, plan.exclude_protected, use_case.task.headline, with_them, without_them
    )


def _the_other_way(use_case: UseCase, candidate: Candidate, parts: Parts, plan: Plan) -> Metrics:
    """The headline metric without the protected columns, if the candidate has them, and else with them."""
    task, train, test = use_case.task, candidate.fitted_on(parts.train), parts.test
    pipeline = clone(use_case.pipeline(candidate.algorithm, exclude_protected=not plan.exclude_protected))
    X = pipeline.fit_transform_encoded(train.X)
    folds, columns, weights = folds_of(use_case, train, plan.seed), pipeline.columns_, train.weights
    validation = clone(candidate.model).cross_validate(X, train.y, folds, task.metric, plan.jobs, columns, weights)
    with on_cpus(plan.jobs):
        model = clone(candidate.model).set_params(**validation.parameters).fit(X, train.y, columns, weights)
    predictions = model.predict(pipeline.transform_encoded(test.X))
    return {CROSS_VALIDATION: validation.score, HOLD_OUT: task.metric(test.y, predictions)}


def judge_in_turn(
    use_case: UseCase,
    manifests: Sequence[Manifest],
    measured: Mapping[str, Measured],
    champion: Champion | NotCompared | None,
    test: Part,
    plan: Plan,
) -> list[Manifest]:
    """Judge candidates by the gates; the first that passes is the one that takes the champion's place.

    Parameters
    ----------
    use_case : UseCase
        Whose gates.
    manifests : sequence of Manifest
        Of the candidates, the best first.
    measured : mapping of Measured
        All candidates by algorithm, the baseline among them.
    champion : Champion, NotCompared or None
        The model that answers today.
    test : Part
        The hold-out.
    plan : Plan
        Whether a model may be worse than the champion, and whether warnings are faults.

    Returns
    -------
    list of Manifest
        With verdicts.
    """
    judged = []
    to_replace = champion
    for manifest in manifests:
        one = measured[manifest.algorithm]
        evidence = Evidence(
            one.metrics,
            measured[use_case.baseline.name].metrics,
            **_replaced(use_case, to_replace, one, test),
            group_ratios=smallest_ratios(manifest.groups),
            accept_worse=plan.accept_worse,
        )
        strict = _strictly(manifest) if plan.strict else ()
        judged.append(replace(manifest, gates=(*judge(use_case.gates, evidence), *strict)))
        if judged[-1].passed:
            to_replace = None  # this one will answer: those after it replace nothing
    return judged


def _strictly(manifest: Manifest) -> tuple[Verdict, ...]:
    """The verdict on a model's warnings where none may be left."""
    number = len(manifest.warnings)
    return (Verdict("no warnings, as --strict demands", float(number), 0.0, not number),)


def _replaced(use_case: UseCase, champion: Champion | NotCompared | None, one: Measured, test: Part) -> dict[str, Any]:
    """What the gates need to know of the model that a candidate would replace: arguments of `Evidence`."""
    if champion is None:
        return {}
    if isinstance(champion, NotCompared):
        return {"not_compared": champion.reason}
    rows = champion.rows
    own = use_case.task.metrics(test.y[rows], one.predictions[rows], one.candidate.decision)
    return {"champion": champion.metrics, "beside_champion": own, "flattered": champion.flattered}
