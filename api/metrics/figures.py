"""Figures: what a process counts, in the service's own terms."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from http import HTTPMethod
from typing import Any, NamedTuple

import numpy as np

from tabserve.api.metrics import catalogue, folder
from tabserve.api.metrics.catalogue import Metric
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
MOST_KEPT = 1000  # series of requests whose places are remembered

Route = tuple[str, str, int]  # with the method and the status


class _OfModel(NamedTuple):
    """The places of a model's series, each that of its first value."""

    rows: int
    decisions: Mapping[Any, int]
    score: int
    edges: tuple[float, ...]


class Figures:
    """What this process counts; any of its threads may call the methods.

    Parameters
    ----------
    sheet : Sheet
        Where it is counted.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._requests: dict[Route, tuple[int, int]] = {}
        self._models: dict[str, _OfModel] = {}
        self._failures: Counter[str] = Counter()
        for reason in REASONS:
            sheet.place(catalogue.REFUSED, (reason,))

    @classmethod
    def of_process(cls, name: str) -> "Figures":
        """The figures of this process, in the folder of its service; those of a worker that has ended are continued."""
        sheet = folder.open_sheet(name)
        if sheet.was_used and name == folder.WORKER:
            sheet.add(sheet.place(catalogue.RESTARTS))
        return cls(sheet)

    # requests

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request and the time it took."""
        key = (route, method, status)
        count, times = self._requests.get(key) or self._places_of(key)
        if min(count, times) < 0:
            self._sheet.add(-1)
            return
        values = self._sheet.values
        with self._sheet.lock:
            values[count] += 1
            values[times + bisect_left(catalogue.SECONDS, seconds)] += 1
            values[times + len(catalogue.SECONDS) + 1] += seconds

    def refused(self, reason: str, status: int = 0) -> None:
        """Count a refusal; with a status, that of something that was no whole request, or a connection."""
        self.count(catalogue.REFUSED, (reason,))
        if status:
            self.count(catalogue.REQUESTS, (NONE, NONE, str(status)))

    def _places_of(self, key: Route) -> tuple[int, int]:
        route, method, status = key
        labels = (route, method if method in METHODS else NOT_KNOWN, str(status))
        times = self._sheet.place(catalogue.REQUEST_SECONDS, (route,), catalogue.SECONDS)
        if len(self._requests) >= MOST_KEPT:  # of methods that clients made up
            self._requests.clear()
        places = self._requests[key] = self._sheet.place(catalogue.REQUESTS, labels), times
        return places

    # predictions

    def decided(self, artifact: Artifact, prediction: Prediction) -> None:
        """Count the rows of a prediction, its results and its scores."""
        scores, results = prediction.predictions, prediction.columns["result"]
        if not len(scores):
            return
        model = self._models.get(artifact.model_id) or self._places_of_model(artifact)
        if min(model.rows, model.score, *model.decisions.values()) < 0:
            self._sheet.add(-1, len(scores))
            return
        values, sum_ = self._sheet.values, model.score + len(model.edges) + 1
        if len(results) == 1 and scores.ndim == 1:  # in a tenth of the time
            score = scores.item()
            bucket = model.score + bisect_left(model.edges, score)
            with self._sheet.lock:
                values[model.rows] += 1
                values[bucket] += 1
                values[sum_] += score
                if model.decisions:
                    values[model.decisions[results[0]]] += 1
            return
        if scores.ndim > 1:
            scores = scores.max(axis=1)
        buckets = np.bincount(np.searchsorted(model.edges, scores)).tolist()
        decisions = Counter(results) if model.decisions else {}
        with self._sheet.lock:
            values[model.rows] += len(scores)
            values[sum_] += float(scores.sum())
            for place, amount in enumerate(buckets, model.score):
                values[place] += amount
            for result, place in model.decisions.items():
                values[place] += decisions.get(result, 0)

    def _places_of_model(self, artifact: Artifact) -> _OfModel:
        labels = (artifact.manifest.use_case, artifact.model_id)
        result, *_ = artifact.task.answer_parts
        results = result.schema.get("enum", ())  # a regression has none
        edges = catalogue.PROBABILITIES if results else _deciles(artifact) or catalogue.VALUES
        places = self._models[artifact.model_id] = _OfModel(
            rows=self._sheet.place(catalogue.ROWS, labels),
            decisions={one: self._sheet.place(catalogue.PREDICTIONS, (*labels, str(one))) for one in results},
            score=self._sheet.place(catalogue.SCORE, labels, edges),
            edges=edges,
        )
        return places

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
