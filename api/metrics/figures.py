"""Figures: what a process counts, in the service's own terms."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from http import HTTPMethod
from typing import Any, NamedTuple

import numpy as np

from tabserve.api.metrics import catalogue, folder
from tabserve.api.metrics.catalogue import SECONDS, Metric
from tabserve.api.metrics.sheet import Sheet
from tabserve.evaluation.distribution import SCORE
from tabserve.predict import Prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.model_id import ModelId
from tabserve.resolver import Resolver
from tabserve.tables.checking import MISSING, UNKNOWN

METHODS = frozenset(HTTPMethod)
REASONS = ("busy", "clients", "slow", "malformed", "broken")  # why something is refused before any work
NOT_KNOWN = "(unknown)"  # in the place of a name that a client made up
NONE = "(none)"  # in the place of the route and method of what was no request
# an array: its numbers lie side by side, and after a prediction they must come from memory again
_SECONDS = array("d", SECONDS)
_SUM_OF_SECONDS = len(SECONDS) + 1  # where the sum of a histogram of seconds is
MOST_KEPT = 1000  # series of requests whose places are remembered

Route = tuple[str, str, int]  # with the method and the status


class _OfModel(NamedTuple):
    """The places of a model's series, each that of its first value."""

    score: int
    edges: "array[float]"
    decisions: Mapping[Any, int]
    has_room: bool


class Figures:
    """What this process counts; any of its threads may call the methods.

    Parameters
    ----------
    sheet : Sheet
        Where it is counted.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet, self._values, self._lock = sheet, sheet.values, sheet.lock
        self._requests: dict[Route, tuple[int, int]] = {}
        self._models: dict[str, _OfModel] = {}
        self._rows: dict[str, tuple[str, int, int, int, array[float], Mapping[Any, int]]] = {}
        self._failures: Counter[str] = Counter()
        self._dropped = 0
        for reason in REASONS:
            sheet.place(catalogue.REFUSED, (reason,))

    @classmethod
    def of_process(cls, name: str) -> "Figures":
        """The figures of this process, in the folder of its service; those of a worker that has ended are continued."""
        sheet = folder.open_sheet(name)
        if sheet.was_used and name == folder.WORKER:
            sheet.add(sheet.place(catalogue.RESTARTS))
        return cls(sheet)

    @classmethod
    def of_companion(cls, name: str) -> "Figures | None":
        """The figures of a process beside a service; None where there are no metrics."""
        return cls.of_process(name) if folder.found() else None

    # requests

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request and the time it took."""
        key = (route, method, status)
        count, times = self._requests.get(key) or self._places_of(key)
        if min(count, times) < 0:
            self._sheet.add(-1)
            return
        values = self._values
        with self._lock:
            values[count] += 1
            values[times + bisect_left(_SECONDS, seconds)] += 1
            values[times + _SUM_OF_SECONDS] += seconds

    def refused(self, reason: str, status: int = 0) -> None:
        """Count a refusal; with a status, that of something that was no whole request, or a connection."""
        self.count(catalogue.REFUSED, (reason,))
        if status:
            self.count(catalogue.REQUESTS, (NONE, NONE, str(status)))

    def _places_of(self, key: Route) -> tuple[int, int]:
        route, method, status = key
        labels = (route, method if method in METHODS else NOT_KNOWN, str(status))
        times = self._sheet.place(catalogue.REQUEST_SECONDS, (route,), SECONDS)
        places = self._sheet.place(catalogue.REQUESTS, labels), times
        if len(self._requests) >= MOST_KEPT:  # of methods that clients made up
            self._requests.clear()
        if min(places) >= 0:
            self._requests[key] = places
        return places

    # predictions

    def one_row(
        self, path: str, route_of: Callable[[str], str], artifact: Artifact, prediction: Prediction, seconds: float
    ) -> None:
        """Count a POST that was answered with predictions, as `answered` and `decided` do together.

        For one row it takes a quarter of their time, without the lock: no other thread may write to the sheet. Places
        are remembered by path: it is one that found a model.
        """
        known = self._rows.get(path)
        columns = prediction.columns
        results = columns["result"]
        if known is None or known[0] != artifact.manifest.model_id or len(results) > 1:
            self.answered(route_of(path), "POST", 200, seconds)
            self.decided(artifact, prediction)
            if prediction.predictions.ndim == 1:
                self._remember(path, route_of(path), artifact)
            return
        _, count, times, at, edges, decisions = known
        score = columns["probability"][0] if "probability" in columns else prediction.predictions.item()
        time, bucket = times + bisect_left(_SECONDS, seconds), at + bisect_left(edges, score)
        values = self._values
        values[count] += 1.0
        values[time] += 1.0
        values[times + _SUM_OF_SECONDS] += seconds
        values[bucket] += 1.0
        values[at + len(edges) + 1] += score
        if decisions:
            values[decisions[results[0]]] += 1.0

    def _remember(self, path: str, route: str, artifact: Artifact) -> None:
        places, model = self._requests.get((route, "POST", 200)), self._models.get(artifact.model_id)
        if len(self._rows) >= MOST_KEPT:
            self._rows.clear()
        if places and model and model.has_room:
            self._rows[path] = (artifact.model_id, *places, model.score, model.edges, model.decisions)

    def decided(self, artifact: Artifact, prediction: Prediction) -> None:
        """Count the rows of a prediction, its results and its scores."""
        scores = prediction.predictions
        if not len(scores):
            return
        model = self._places_of_model(artifact)
        if not model.has_room:
            self._sheet.add(-1, len(scores))
            return
        if scores.ndim > 1:
            scores = scores.max(axis=1)
        buckets = np.bincount(np.searchsorted(model.edges, scores)).tolist()
        results = Counter(prediction.columns["result"]) if model.decisions else {}
        values = self._values
        with self._lock:
            values[model.score + len(model.edges) + 1] += float(scores.sum())
            for place, amount in enumerate(buckets, model.score):
                values[place] += amount
            for result, place in model.decisions.items():
                values[place] += results.get(result, 0)

    def _places_of_model(self, artifact: Artifact) -> _OfModel:
        known = self._models.get(artifact.model_id)
        if known:
            return known
        labels = (artifact.manifest.use_case, artifact.model_id)
        result, *_ = artifact.task.answer_parts
        results = result.schema.get("enum", ())  # a regression has none
        edges = catalogue.PROBABILITIES if results else _deciles(artifact) or catalogue.VALUES
        score = self._sheet.place(catalogue.SCORE, labels, edges)
        decisions = {one: self._sheet.place(catalogue.PREDICTIONS, (*labels, str(one))) for one in results}
        has_room = min(score, *decisions.values(), score) >= 0
        known = self._models[artifact.model_id] = _OfModel(score, array("d", edges), decisions, has_room)
        return known

    def at_fault(self, artifact: Artifact, by_field: Mapping[str, Any]) -> None:
        """Count what is wrong with a record or with rows.

        Parameters
        ----------
        artifact : Artifact
            The model that was asked.
        by_field : mapping
            As in `InvalidFieldsError`.
        """
        rows: Iterable[Mapping[str, Any]] = by_field["rows"].values() if _is_of_rows(by_field) else [by_field]
        for (field, kind), amount in faults_of(artifact, rows).items():
            self.count(catalogue.FAULTS, (artifact.manifest.use_case, field, kind), amount)

    # what is

    def watch(self, resolver: Resolver) -> None:
        """Tell which models a resolver holds, and what it could not load; nothing is waited for."""
        readiness = resolver.known_readiness()
        self.set(catalogue.REGISTRY_AWAY, float(readiness is not None and readiness.registry == "away"))
        trained: dict[tuple[str, ...], float] = {
            (one.manifest.use_case, one.model_id): datetime.fromisoformat(one.manifest.created).timestamp()
            for one in resolver.held()
        }
        self.replace(catalogue.MODEL_LOADED, dict.fromkeys(trained, 1.0))
        self.replace(catalogue.MODEL_TRAINED, trained)
        failures = Counter(one.use_case for one in map(ModelId.parse, [*resolver.failures.elements()]) if one)
        for use_case, amount in (failures - self._failures).items():
            self.count(catalogue.LOAD_FAILURES, (use_case,), amount)
        self._failures = failures

    def dropped(self, decisions: int) -> None:
        """Count the decisions that were not logged, of which this process has had so many."""
        self.count(catalogue.LOG_DROPPED, amount=decisions - self._dropped)
        self._dropped = decisions

    def count(self, metric: Metric, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add to a counter."""
        self._sheet.add(self._sheet.place(metric, labels), amount)

    def set(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Set a gauge of this process."""
        self._sheet.set(self._sheet.place(metric, labels), value)

    def replace(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> None:
        """Set all gauges of a metric; those that are not given vanish."""
        for labels, value in values.items():
            self.set(metric, value, labels)
        self._sheet.clear_gauges(metric, values)


def faults_of(artifact: Artifact, rows: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """How often each field was missing, unknown or invalid, by field and kind; unknown fields have one name."""
    declared = {one.name for one in (*artifact.features, *artifact.declared.extras, artifact.target.feature)}
    faults: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for field, sentences in row.items():
            kind = {MISSING: "missing", UNKNOWN: "unknown"}.get(sentences[0], "invalid")
            faults[field if field in declared else NOT_KNOWN, kind] += 1
    return faults


def _deciles(artifact: Artifact) -> tuple[float, ...]:
    """Of the values that a model gave when it was trained, as far as its manifest holds them."""
    scores = artifact.manifest.distributions.scores
    return scores[SCORE].edges if SCORE in scores else ()


def _is_of_rows(by_field: Mapping[str, Any]) -> bool:
    return by_field.keys() == {"rows", "count"} and isinstance(by_field["rows"], Mapping)
