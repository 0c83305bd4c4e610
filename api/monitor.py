"""`/monitor`: what models meet and decide, for those who watch them."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from apiflask import APIBlueprint
from flask import Response

from tabserve.api import auth, current
from tabserve.api.controller import REPORT_HEADERS
from tabserve.api.decisions import decision_store
from tabserve.api.users import READ

if TYPE_CHECKING:
    from tabserve.charts.parts import Section
    from tabserve.decisions.store import DecisionStore

SPANS = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0}  # seconds that traffic is counted for

blueprint = APIBlueprint("monitor", __name__, enable_openapi=False)  # a page
blueprint.before_request(auth.require_scope_if_set(READ))  # AUTH_REQUIRED


@blueprint.get("/monitor")
def monitor() -> Response:
    """Show traffic, decisions, drift and quality of each use case, a self-contained page."""
    store = decision_store()
    # drawn when it is asked for: a process that only predicts needs neither SQLAlchemy nor a template
    from tabserve.monitoring.kept import newest
    from tabserve.monitoring.page import render

    names = current.predictor().use_cases()
    results = [result for name in names if (result := newest(store, name))]
    content = render(results, [*_traffic(store, names, {result["use_case"] for result in results})])
    headers = {**REPORT_HEADERS, "Cache-Control": "no-store"}
    return Response(content, headers=headers, content_type="text/html; charset=utf-8")


def _traffic(store: "DecisionStore", names: list[str], seen: set[str]) -> "Iterator[Section]":
    from tabserve.charts.parts import ReportTable, Section
    from tabserve.monitoring.kept import traffic

    now = time.time()
    counts = {span: traffic(store, now - seconds) for span, seconds in SPANS.items()}
    rows = [[name, *(f"{counts[span].get(name, 0):,}" for span in SPANS)] for name in names]
    unseen = [name for name in names if name not in seen]
    told = [f"Nobody has looked at {name}: run tabserve monitor {name} --since 30d, once a day." for name in unseen]
    table = ReportTable("Decisions in the log", ("Use case", *(f"Last {span}" for span in SPANS)), rows)
    yield Section("Traffic", told, tables=[table])
