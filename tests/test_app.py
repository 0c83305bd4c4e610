"""The application: how it is made, and what its OpenAPI document promises."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

import src
from api.app import create_app
from api.config import Settings
from src.registry import Registry
from src.use_cases.declaration import UseCase
from src.use_cases.features import Category, Number
from tests.conftest import ROOT

ROUTES = {
    "/health": "get",
    "/ready": "get",
    "/version": "get",
    "/models": "get",
    "/models/{model_id}": "get",
    "/predict": "post",
    "/output/{model_id}": "post",
    "/outputs/{model_id}": "post",
    "/outputs_upload/{model_id}": "post",
}


@pytest.fixture(scope="module")
def service(trained: Registry) -> FlaskClient:
    return create_app(Settings(model_registry=trained.folder)).test_client()


@pytest.fixture(scope="module")
def document(service: FlaskClient) -> dict[str, Any]:
    answer: dict[str, Any] = service.get("/openapi.json").get_json()
    return answer


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def url(path: str, operation: dict[str, Any]) -> str:
    """The path with the examples of its parameters in their places."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    assert "{" not in path, "a parameter of the path has no example"
    return path


def examples(media: dict[str, Any]) -> list[Any]:
    found = [example["value"] for example in media.get("examples", {}).values()]
    return [*found, media["example"]] if "example" in media else found


def assert_fits(document: dict[str, Any], operation: dict[str, Any], answer: Any) -> None:
    """An answer is as the document says."""
    content = operation["responses"][str(answer.status_code)]["content"]
    schema = {**content[answer.mimetype]["schema"], "components": document["components"]}
    jsonschema.validate(answer.json, schema, cls=jsonschema.Draft202012Validator)


def test_settings_can_be_injected(tmp_path: Path) -> None:
    settings = Settings(model_registry=tmp_path, max_rows=1, max_content_length=50)
    app = create_app(settings)
    assert app.extensions["settings"] is settings
    assert app.test_client().get("/models").json == {"models": []}


def test_without_settings_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path))
    assert create_app().extensions["settings"].model_registry == tmp_path


def test_two_applications_share_nothing(app: APIFlask, tmp_path: Path, record: dict[str, Any]) -> None:
    empty = create_app(Settings(model_registry=tmp_path / "empty", max_content_length=10))
    assert app.test_client().post("/predict", json=record).status_code == 200
    assert empty.test_client().post("/predict").status_code == 503
    assert empty.test_client().get("/ready").status_code == 503
    assert app.test_client().get("/ready").status_code == 200
    assert app.config["MAX_CONTENT_LENGTH"] != empty.config["MAX_CONTENT_LENGTH"]


def test_no_folder_is_made_by_making_an_application(tmp_path: Path) -> None:
    create_app(Settings(model_registry=tmp_path / "models")).test_client().get("/ready")
    assert not list(tmp_path.iterdir())


def test_importing_the_entry_point_loads_no_model(trained: Registry) -> None:
    code = (
        "import joblib, application\n"
        "from pathlib import Path\n"
        "assert application.application.extensions['settings'].model_registry.is_dir()\n"
        "print('lib_lightgbm' in Path('/proc/self/maps').read_text())\n"
        "application.application.test_client().get('/ready')\n"
        "print('lib_lightgbm' in Path('/proc/self/maps').read_text())"
    )
    environment = {"MODEL_REGISTRY": str(trained.folder), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == src.__version__
    validate(document)


def test_every_route_is_documented_and_nothing_else(app: APIFlask, document: dict[str, Any]) -> None:
    rules = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("api.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    documented = {(path, method) for path, method, _ in operations(document)}
    assert documented == rules >= set(ROUTES.items())


def test_every_operation_says_what_it_does_and_which_problems_it_answers_with(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        assert operation["summary"].endswith(".")
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (path, status)


def test_every_example_of_a_body_works_when_sent(service: FlaskClient, document: dict[str, Any]) -> None:
    sent = 0
    for path, method, operation in operations(document):
        for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
            for example in examples(media):
                answer = service.open(url(path, operation), method=method, json=example, content_type=media_type)
                assert answer.status_code == 200, (path, answer.text)
                assert_fits(document, operation, answer)
                sent += 1
    assert sent >= 3


def test_every_operation_that_needs_no_body_works_with_the_examples_of_its_parameters(
    service: FlaskClient, document: dict[str, Any]
) -> None:
    for path, method, operation in operations(document):
        if not operation.get("requestBody", {}).get("required", False):
            answer = service.open(url(path, operation), method=method)
            assert answer.status_code == 200, (path, answer.text)
            assert_fits(document, operation, answer)


def test_the_example_of_every_record_works_when_sent_to_its_use_case(
    service: FlaskClient, document: dict[str, Any], credit: UseCase
) -> None:
    example = document["components"]["schemas"]["CreditRecord"]["example"]
    assert service.post(f"/output/{credit.name}", json=example).status_code == 200


def test_the_columns_that_the_document_names_for_uploads_make_a_file_that_works(
    service: FlaskClient, document: dict[str, Any]
) -> None:
    operation = document["paths"]["/outputs_upload/{model_id}"]["post"]
    field = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["fileupload"]
    columns = field["description"].rpartition(": ")[2].split(", ")
    example = document["components"]["schemas"]["CreditRecord"]["example"]
    content = ",".join(columns) + "\n" + ",".join(str(example[column]) for column in columns) + "\n"
    answer = service.post("/outputs_upload/credit", data={"fileupload": (io.BytesIO(content.encode()), "new.csv")})
    assert answer.status_code == 200, answer.text
    assert_fits(document, operation, answer)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", b"no JSON"),
        ("/output/nothing", b"{}"),
        ("/output/credit", b"{}"),
        ("/outputs/credit", b"[]"),
        ("/outputs_upload/credit", b""),
    ],
)
def test_problems_are_as_documented(service: FlaskClient, document: dict[str, Any], path: str, body: bytes) -> None:
    operation = document["paths"][re.sub(r"/(credit|nothing)$", "/{model_id}", path)]["post"]
    answer = service.post(path, data=body)
    assert answer.status_code >= 400
    assert_fits(document, operation, answer)


def test_the_record_is_documented_with_allowed_values_bounds_and_meaning(
    document: dict[str, Any], credit: UseCase
) -> None:
    record = document["components"]["schemas"]["CreditRecord"]
    assert list(record["required"]) == [feature.name for feature in credit.features]
    assert record["additionalProperties"] is False
    for feature in credit.features:
        described = record["properties"][feature.name]
        assert described["description"] == feature.description
        if isinstance(feature, Category):
            assert described["enum"] == list(feature.values)
        else:
            assert isinstance(feature, Number)
            assert described["type"] == "integer"
            assert (described["minimum"], described["maximum"]) == (feature.low, feature.high)


def test_pages_of_other_origins_may_call_only_when_they_are_named(trained: Registry, record: dict[str, Any]) -> None:
    ours, theirs = "https://forms.example.org", "https://example.com"
    closed = create_app(Settings(model_registry=trained.folder)).test_client()
    opened = create_app(Settings(model_registry=trained.folder, cors_origins=(ours,))).test_client()
    allowed = "Access-Control-Allow-Origin"
    assert allowed not in closed.post("/predict", json=record, headers={"Origin": ours}).headers
    assert allowed not in opened.post("/predict", json=record, headers={"Origin": theirs}).headers
    assert opened.post("/predict", json=record, headers={"Origin": ours}).headers[allowed] == ours
    preflight = opened.options(
        "/predict",
        headers={
            "Origin": ours,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert preflight.headers[allowed] == ours
    assert "content-type" in preflight.headers["Access-Control-Allow-Headers"]
