"""The route of logged decisions, and the log's database as the service opens it."""

from functools import cache
from typing import TYPE_CHECKING

from apiflask import APIBlueprint, APIFlask
from apiflask.fields import Dict, Float, Integer, List, Nested, Raw, String
from flask import Response

from tabserve.api import auth, current
from tabserve.api.controller import problems
from tabserve.api.schemas import AnswerSchema
from tabserve.api.users import AUDIT
from tabserve.decisions.plain import dumped
from tabserve.errors import NoDecisionLogError, UnknownDecisionError
from tabserve.settings import Settings

if TYPE_CHECKING:
    from tabserve.decisions.store import DecisionStore

blueprint = APIBlueprint("decisions", __name__, tag="Decisions")
blueprint.before_request(auth.require_scope(AUDIT))  # whatever AUTH_REQUIRED is: records of people are shown


class OutcomeSchema(AnswerSchema):
    """What really happened."""

    outcome = Raw(required=True, metadata={"description": "As the target column holds it"})
    time = String(required=True, metadata={"format": "date-time", "description": "When it was reported"})
    client = String(required=True, metadata={"description": "Who reported it; empty without users"})
    reports = Integer(required=True, metadata={"description": "How often it was reported"})
    contradicted = Integer(required=True, metadata={"description": "How often something else was reported"})


class DecisionSchema(AnswerSchema):
    """A decision in the log; null is what was erased, or what a whole table does not have."""

    id = String(required=True)
    kind = String(required=True, metadata={"description": "`decision`, `shadow`, `table` or `refused`"})
    time = String(required=True, metadata={"format": "date-time"})
    request_id = String(required=True)
    client = String(required=True, metadata={"description": "Who asked; empty without users"})
    use_case = String(required=True)
    model_id = String(required=True)
    digest = String(required=True, metadata={"description": "SHA-256 of the model's manifest"})
    route = String(required=True)
    arm = String(required=True, metadata={"description": "The arm of a split; empty without one"})
    record = Dict(required=True, allow_none=True)
    score = Raw(required=True, allow_none=True, metadata={"description": "The prediction"})
    decision = Raw(required=True, allow_none=True, metadata={"description": "The answer's `result`"})
    threshold = Float(required=True, allow_none=True)
    reasons = List(Dict(), required=True, allow_none=True)
    reasons_note = String(
        required=True,
        metadata={
            "description": "That reasons were worked out now, or why there are none; empty where the log has them"
        },
    )
    rows = Integer(required=True)
    answers = String(required=True, metadata={"description": "Of a shadow, the decision that was answered"})
    faults = Dict(keys=String(), values=Integer(), required=True)
    outcome = Nested(OutcomeSchema, required=True, allow_none=True)
    erased = String(required=True, allow_none=True, metadata={"format": "date-time"})
    erased_digest = String(
        required=True, allow_none=True, metadata={"description": "SHA-256 of the record that was erased"}
    )


@blueprint.get("/decisions/<id>")
@blueprint.output(DecisionSchema)
@problems(404, 501, 503)
def show_decision(id: str) -> Response:  # noqa: A002 - as the path has it
    """Show a decision with its record, its reasons and its outcome; the access is logged.

    Reasons that the log does not have, such as those of rows of tables, are worked out.
    """
    store = decision_store()
    from tabserve.decisions.accesses import note
    from tabserve.decisions.reading import one
    from tabserve.decisions.reasons import with_reasons

    kept = one(store, id)
    note(store, auth.auth.current_user or "", "show", {"id": kept.entry.id if kept else ""}, 1 if kept else 0)
    if kept is None:
        raise UnknownDecisionError
    headers = {"Cache-Control": "no-store"}  # it is asked for by GET, which browsers keep
    content = with_reasons(current.predictor().registry, kept).to_json()
    return Response(dumped(content), headers=headers, content_type="application/json")


def decision_store() -> "DecisionStore":
    """The decision log.

    Raises
    ------
    NoDecisionLogError
        When no decisions are logged.
    """
    store: DecisionStore | None = current.extension("decision_store")()
    if store is None:
        raise NoDecisionLogError
    return store


def init_app(app: APIFlask, settings: Settings) -> None:
    """Let an application read its decision log; it is opened when it is first used, in the worker process."""

    @cache
    def open_store() -> "DecisionStore | None":
        from tabserve.decisions.store import DecisionStore  # imports SQLAlchemy, which most processes do not need

        return DecisionStore(settings.decision_log) if settings.decision_log else None

    app.extensions["decision_store"] = open_store
