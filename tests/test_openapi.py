"""The OpenAPI document: valid, complete, exact, and with examples that work as they stand."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate

import tabserve
from tabserve.api.app import create_app
from tabserve.columns.features import Category, Number
from tabserve.declaration.discovery import all_use_cases
from tabserve.declaration.use_case import UseCase
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE

ROUTES = {
    ("/health", "get"),
    ("/ready", "get"),
    ("/ready/{use_case}", "get"),
    ("/version", "get"),
    ("/models", "get"),
    ("/models/{model_id}", "get"),
    ("/models/{model_id}/report", "get"),
    ("/status", "get"),
}
PREDICTIONS = {
    ("/predict", "post"),
    ("/output/{model_id}", "post"),
    ("/explain/{model_id}", "post"),
    ("/outputs/{model_id}", "post"),
    ("/outputs_upload/{model_id}", "post"),
    ("/jobs/{name}", "post"),
    ("/predictions", "post"),
}
SCORES = {("/scores/{name}", "post")}
OUTCOMES = {("/outcomes", "post")}
DECISIONS = {("/decisions/{id}", "get")}
JOBS = {("/jobs/{name}", "get"), ("/jobs/{name}", "delete"), ("/jobs/{name}/result.{kind}", "get")}
NOT_IN_THE_CONTRACT = ("monitor.", "openapi.", "docs.", "page.")
USE_CASES = list(all_use_cases().values())


class Sent(NamedTuple):
    """A request made of examples alone."""

    url: str
    query: dict[str, Any]
    json: Any
    media_type: str | None


@pytest.fixture(scope="module")
def service(trained: Registry, users_file: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A client of a service whose predictions need a user."""
    jobs = f"sqlite:///{tmp_path_factory.mktemp('jobs') / 'jobs.db'}"
    settings = Settings(model_registry=trained.location, auth_users_file=users_file, database_url=jobs)
    return create_app(settings).test_client()


@pytest.fixture(scope="module")
def document(service: FlaskClient) -> dict[str, Any]:
    return document_of(service.application)


def document_of(app: Any) -> dict[str, Any]:
    answer: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return answer


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def examples(described: dict[str, Any]) -> dict[str, Any]:
    """Examples of a parameter or a body by name, the one that is shown first at the beginning."""
    if "examples" in described:
        return {name: example["value"] for name, example in described["examples"].items()}
    schema = described["schema"]
    values = [one["example"] for one in (described, schema) if "example" in one]
    return {str(value): value for value in [*values, *schema.get("examples", [])]}


def requests(path: str, operation: dict[str, Any]) -> Iterator[Sent]:
    """Every request that an operation's examples make, as they stand.

    A body's example goes with the parameter's example of the same name, else with its first.
    """
    parameters = {parameter["name"]: (parameter, examples(parameter)) for parameter in operation.get("parameters", [])}
    body = operation.get("requestBody", {})
    bodies = [
        (name, value, media_type)
        for media_type, media in body.get("content", {}).items()
        for name, value in examples(media).items()
    ]
    without = [(name, None, None) for _, found in parameters.values() for name in found] or [("", None, None)]
    for name, value, media_type in [*bodies, *(without if not body.get("required") else [])]:
        url, query = path, {}
        for parameter, found in parameters.values():
            assert found or not parameter.get("required"), f"{path}: {parameter['name']} has no example"
            if not found:
                continue
            chosen = found.get(name, next(iter(found.values())))
            if parameter["in"] == "path":
                url = url.replace(f"{{{parameter['name']}}}", chosen)
            else:
                query[parameter["name"]] = chosen
        yield Sent(url, query, value, media_type)


def assert_fits(document: dict[str, Any], operation: dict[str, Any], answer: Any) -> None:
    """An answer is as the document says."""
    response = operation["responses"][str(answer.status_code)]
    schema = {**response["content"][answer.mimetype]["schema"], "components": document["components"]}
    content = answer.json if answer.is_json else answer.text
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)
    assert set(response.get("headers", ())) <= set(answer.headers.keys())


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == tabserve.__version__
    validate(document)


def test_every_route_is_documented_and_nothing_else(service: FlaskClient, document: dict[str, Any]) -> None:
    rules = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in service.application.url_map.iter_rules()
        if not rule.endpoint.startswith(NOT_IN_THE_CONTRACT)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    documented = {(path, method) for path, method, _ in operations(document)}
    assert documented == rules == ROUTES | PREDICTIONS | SCORES | JOBS | OUTCOMES | DECISIONS


def test_every_operation_says_what_it_does_and_which_problems_it_answers_with(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        assert operation["summary"].endswith(".")
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (path, status)


def test_every_answer_in_json_has_known_fields_alone(document: dict[str, Any]) -> None:
    answers = {
        media["schema"]["$ref"].rpartition("/")[2]
        for _, _, operation in operations(document)
        for response in operation["responses"].values()
        for media_type, media in response.get("content", {}).items()
        if media_type.endswith("json") and "$ref" in media["schema"]
    }
    assert {"Problem", "Prediction", "ScoredPrediction", "Model"} <= answers
    for name in answers:
        assert document["components"]["schemas"][name]["additionalProperties"] is False


def test_every_example_works_as_it_stands(service: FlaskClient, document: dict[str, Any]) -> None:
    sent = 0
    for path, method, operation in operations(document):
        for request in requests(path, operation):
            answer = service.open(
                request.url,
                method=method,
                query_string=request.query,
                json=request.json,
                content_type=request.media_type,
                auth=ALICE if "security" in operation else None,
            )
            expected = {("/jobs/{name}", "post"): 202} | dict.fromkeys(JOBS, 404)  # nobody has the id of an example
            expected |= {**dict.fromkeys(OUTCOMES, 501), **dict.fromkeys(DECISIONS, 403)}  # no log, and no scope
            assert answer.status_code == expected.get((path, method), 200), (path, request, answer.text)
            assert_fits(document, operation, answer)
            sent += 1
    assert sent >= 8 + 4 * len(USE_CASES)  # four routes take a model's name


def test_each_prediction_has_an_example_for_each_use_case_the_default_one_first(document: dict[str, Any]) -> None:
    names = ["credit", *(use_case.name for use_case in USE_CASES if use_case.name != "credit")]
    for path in ("/output/{model_id}", "/outputs/{model_id}"):
        operation = document["paths"][path]["post"]
        (model_id,) = [parameter for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert list(examples(operation["requestBody"]["content"]["application/json"])) == names
        assert list(examples(model_id)) == names
    assert list(examples(document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"])) == [
        "credit"
    ]


def test_the_default_use_case_is_the_one_that_predict_documents(trained: Registry) -> None:
    for use_case in USE_CASES:
        app = create_app(Settings(model_registry=trained.location, auth_required=False, default_use_case=use_case.name))
        body = document_of(app)["paths"]["/predict"]["post"]["requestBody"]
        assert examples(body["content"]["application/json"]) == {use_case.name: dict(use_case.example)}


@pytest.mark.parametrize("use_case", USE_CASES, ids=lambda use_case: use_case.name)
def test_the_columns_that_the_document_names_for_uploads_make_a_file_that_works(
    service: FlaskClient, document: dict[str, Any], use_case: UseCase
) -> None:
    operation = document["paths"]["/outputs_upload/{model_id}"]["post"]
    field = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["fileupload"]
    (named,) = re.findall(rf"\bfor {use_case.name}: ([^;]+)", field["description"])
    columns = [column for column in named.split(", ") if column in use_case.example]
    content = ",".join(columns) + "\n" + ",".join(str(use_case.example[column]) for column in columns) + "\n"
    upload = {"fileupload": (io.BytesIO(content.encode()), "new.csv")}
    answer = service.post(f"/outputs_upload/{use_case.name}", data=upload, auth=ALICE)
    assert answer.status_code == 200, answer.text
    assert_fits(document, operation, answer)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", b"no JSON"),
        ("/output/nothing", b"{}"),
        ("/output/credit", b"{}"),
        ("/outputs/credit", b"[]"),
        ("/outputs/credit", b"[{}]"),
        ("/outputs_upload/credit", b""),
    ],
)
def test_problems_are_as_documented(service: FlaskClient, document: dict[str, Any], path: str, body: bytes) -> None:
    operation = document["paths"][re.sub(r"/(credit|nothing)$", "/{model_id}", path)]["post"]
    answer = service.post(path, data=body, auth=ALICE)
    assert answer.status_code in (400, 404, 422)
    assert_fits(document, operation, answer)


def test_where_a_user_is_needed_the_document_says_so_and_what_happens_without_one(
    service: FlaskClient, document: dict[str, Any]
) -> None:
    locked = {(path, method) for path, method, operation in operations(document) if "security" in operation}
    assert locked == PREDICTIONS | SCORES | JOBS | OUTCOMES | DECISIONS
    for path, method in locked - JOBS - DECISIONS:
        operation = document["paths"][path][method]
        assert operation["security"] == [{"BasicAuth": []}]
        url = next(requests(path, operation), Sent("/outputs_upload/credit", {}, None, None)).url
        answer = service.post(url)
        assert answer.status_code == 401
        assert_fits(document, operation, answer)
        assert "429" in operation["responses"]
    assert document["components"]["securitySchemes"]["BasicAuth"]["scheme"] == "basic"


def test_where_no_user_is_needed_there_is_no_padlock(trained: Registry) -> None:
    open_document = document_of(create_app(Settings(model_registry=trained.location, auth_required=False)))
    locked = {path for path, _, operation in operations(open_document) if "security" in operation}
    assert locked == {"/predictions", "/scores/{name}", "/decisions/{id}"}
    for path, _, operation in operations(open_document):
        assert ("401" in operation["responses"]) == ("429" in operation["responses"]) == (path in locked)


def test_a_limit_is_documented_where_it_counts(trained: Registry, record: dict[str, Any]) -> None:
    settings = Settings(model_registry=trained.location, auth_required=False, rate_limit="1/minute")
    client = create_app(settings).test_client()
    limited = document_of(client.application)
    counted = {(path, method) for path, method, operation in operations(limited) if "429" in operation["responses"]}
    assert counted == PREDICTIONS | SCORES | OUTCOMES | DECISIONS
    assert client.post("/predict", json=record).status_code == 200
    answer = client.post("/predict", json=record)
    assert answer.status_code == 429
    assert_fits(limited, limited["paths"]["/predict"]["post"], answer)


def test_a_password_tried_too_often_is_answered_as_documented(
    trained: Registry, users_file: Path, document: dict[str, Any]
) -> None:
    client = create_app(Settings(model_registry=trained.location, auth_users_file=users_file)).test_client()
    answers = [client.post("/predict", auth=(ALICE[0], "wrong password")) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {401, 429}
    for answer in answers:
        assert_fits(document, document["paths"]["/predict"]["post"], answer)


@pytest.mark.parametrize("use_case", USE_CASES, ids=lambda use_case: use_case.name)
def test_the_record_is_documented_with_allowed_values_bounds_and_meaning(
    document: dict[str, Any], use_case: UseCase
) -> None:
    record = document["components"]["schemas"][f"{use_case.name.title()}Record"]
    assert list(record["properties"]) == [feature.name for feature in use_case.features]
    assert record["additionalProperties"] is False
    for feature in use_case.features:
        described = record["properties"][feature.name]
        assert described["description"] == feature.description
        if isinstance(feature, Category):
            assert described["enum"][: len(feature.values)] == list(feature.values)
        else:
            assert isinstance(feature, Number)
            assert (described["minimum"], described["maximum"]) == (feature.low, feature.high)


@pytest.mark.parametrize("use_case", USE_CASES, ids=lambda use_case: use_case.name)
def test_the_outcome_is_documented_where_it_may_be_sent(document: dict[str, Any], use_case: UseCase) -> None:
    name = f"{use_case.name.title()}Record"
    schemas, target = document["components"]["schemas"], use_case.target.feature.name
    assert target not in schemas[name]["properties"]
    assert schemas[f"Labelled{name}"]["required"] == schemas[name]["required"]  # it may still be open
    assert "null" in schemas[f"Labelled{name}"]["properties"][target]["type"]
    bodies = {
        path: str(document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])
        for path in ("/output/{model_id}", "/outputs/{model_id}")
    }
    assert f"schemas/Labelled{name}" in bodies["/outputs/{model_id}"]
    assert f"schemas/Labelled{name}" not in bodies["/output/{model_id}"]


def test_the_most_rows_of_a_request_are_documented(trained: Registry) -> None:
    app = create_app(Settings(model_registry=trained.location, auth_required=False, max_rows=7))
    body = document_of(app)["paths"]["/predict"]["post"]["requestBody"]
    _, many, columns = body["content"]["application/json"]["schema"]["anyOf"]
    of_one = columns["properties"]["columns"]["properties"]["age"]
    assert (many["minItems"], many["maxItems"]) == (of_one["minItems"], of_one["maxItems"]) == (1, 7)
