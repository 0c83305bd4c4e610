"""What OpenAPI cannot express: schemathesis is told here, so that every check stays on."""

from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.openapi.checks import RejectedPositiveData

from tabserve.api.openapi import FILE_TYPES
from tabserve.declaration.discovery import all_use_cases
from tabserve.tables.json_body import COLUMNS

DEFAULT = "credit"
BODY, PATH, QUERY = ParameterLocation.BODY, ParameterLocation.PATH, ParameterLocation.QUERY

for file_type in FILE_TYPES.split(", "):
    schemathesis.openapi.media_type(file_type, st.binary())


@schemathesis.hook
def map_case(context: Any, case: Case) -> Case:
    """Send a record to its own use case, and no wrong body that `partial` would allow."""
    meta = case.meta
    assert meta
    if meta.is_negative_at(BODY) and not meta.is_negative_at(QUERY) and case.query.get("partial") == "true":
        del case.query["partial"]  # with it, a list with invalid records is answered
    if "{model_id}" in case.path and not meta.is_negative_at(PATH) and not meta.is_negative_at(BODY):
        name = _use_case_of(case.body)
        if name and name != _use_case_named(case.path_parameters["model_id"]):
            case.path_parameters["model_id"] = name
    return case


@schemathesis.hook
def before_add_examples(context: Any, examples: list[Case]) -> None:
    """Do the same to examples."""
    for case in examples:
        map_case(context, case)


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Case, response: Response) -> bool:
    """False where the answer is right after all."""
    if isinstance(failure, RejectedPositiveData) and case.path.startswith(("/outputs_upload", "/outcomes")):
        # no schema says which bytes are a CSV or XLSX file, or which columns tell records apart
        return response.status_code not in (415, 422)
    if isinstance(failure, RejectedPositiveData) and isinstance(case.body, dict) and COLUMNS in case.body:
        return response.status_code != 400  # no schema says that lists are equally long
    if (
        isinstance(failure, RejectedPositiveData)
        and case.path.startswith("/outputs/")
        and not isinstance(case.body, list)
    ):
        return response.status_code != 413  # no schema says how many rows the hold-out has
    if isinstance(failure, AcceptedNegativeData) and case.path.startswith("/jobs/"):
        return response.status_code != 202  # what is wrong with its table, a job says later
    if isinstance(failure, RejectedPositiveData) and case.path.startswith("/jobs/"):
        # no schema says which jobs there are, what a file is called, or how large the parts of a form may be
        return response.status_code not in (404, 413, 415)
    if isinstance(failure, AcceptedNegativeData) and case.path.startswith("/scores"):
        return "model" not in case.query  # it overrides the name in the path, whatever that is
    return True


def _use_case_of(body: Any) -> str | None:
    """The use case whose record, list of records, or columns a body is."""
    if isinstance(body, dict) and isinstance(body.get(COLUMNS), dict):
        body = body[COLUMNS]
    records = body if isinstance(body, list) and body else [body]
    for name, use_case in all_use_cases().items():
        columns = {feature.name for feature in (*use_case.features, use_case.target.feature)}
        if all(isinstance(record, dict) and record and record.keys() <= columns for record in records):
            return name
    return None


def _use_case_named(model_id: str) -> str:
    return DEFAULT if model_id in ("latest", "champion") else model_id.partition("-")[0]
