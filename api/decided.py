"""Decided: the decision log of the requests that Flask answers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from apiflask import APIFlask
from flask import request

from tabserve.api import current
from tabserve.api.auth import auth
from tabserve.api.metrics.figures import faults_of
from tabserve.decisions.log import Answered, Decided, DecisionLog, Origin
from tabserve.decisions.shadow import Shadows
from tabserve.errors import InvalidFieldsError
from tabserve.predictor import Predictor
from tabserve.registry.artifact import Artifact
from tabserve.settings import Settings

DECISION_ID = "Decision-Id"  # header of an answer that is a file, or has no place for ids


def init_app(app: APIFlask, settings: Settings) -> None:
    """Let an application keep its decisions, when DECISION_LOG is set."""
    log = DecisionLog(settings) if settings.decision_log else None
    if log and settings.shadow:
        # a predictor of its own: a shadow may be a model that nobody has let answer yet
        predictor = Predictor(settings.open_registry(), settings.default_use_case, settings.compiled_trees)
        log.shadow = Shadows(log, predictor, dict(settings.shadow))
    app.extensions["decision_log"] = log


@contextmanager
def refusals_kept(log: DecisionLog | None, artifact: Artifact) -> Iterator[None]:
    """Keep that a request is refused for its fields, if it is."""
    try:
        yield
    except InvalidFieldsError as error:
        if log:
            keep_refusal(log, artifact, error.by_field)
        raise


def keep_refusal(log: DecisionLog, artifact: Artifact, by_field: Mapping[str, Any] | None) -> None:
    """Keep how many records had which fault: see `InvalidFieldsError`; None where there was none."""
    if by_field:
        is_of_rows = by_field.keys() == {"rows", "count"} and isinstance(by_field["rows"], Mapping)
        rows, count = ([*by_field["rows"].values()], by_field["count"]) if is_of_rows else ([by_field], 1)
        faults = {f"{field}:{kind}": amount for (field, kind), amount in faults_of(artifact, rows).items()}
        log.keep_refusal(artifact, faults, count, origin())


def keep_answered(log: DecisionLog, answered: Answered, body: bytes) -> None:
    """Keep what was decided about a body, add its ids to the answer, and keep what was refused of it."""
    log.keep_answers([Decided(answered, body, origin())])
    keep_refusal(log, answered.artifact, answered.content["errors"])


def checked_log() -> DecisionLog | None:
    """Where decisions are kept, if they are and may be: see `DecisionLog.check`."""
    log: DecisionLog | None = current.extension("decision_log")
    if log:
        log.check()
    return log


def origin() -> Origin:
    """Where Flask's request comes from."""
    route = request.url_rule.rule if request.url_rule else ""
    return Origin(route, auth.current_user or "", current.request_id())
