"""A registry serves a use case that is declared nowhere: form, schema, OpenAPI, predictions, files, reasons, report."""

import io
import json
import random
from datetime import datetime
from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate
from openpyxl import load_workbook
from pyarrow.parquet import read_table

import tabserve.declaration.discovery
from tabserve.api.app import create_app
from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id, Ignored
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.derived import DatePart
from tabserve.columns.features import Category, Integer, Number
from tabserve.columns.texts import Text
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.models.linear import LogisticRegression
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.writer import write_csv
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tabserve.transformers import OneHot, RemapTarget, Standardize
from tests.test_page import Parser

CLINICS = tuple(f"clinic {number:03}" for number in range(400))
LINE = Algorithm(name="line", model=LogisticRegression(), transformers=(OneHot(("clinic",)), Standardize()))
FEATURES = (
    Integer(name="age", description="Age of the patient", low=0, high=120, unit="years"),
    Number(name="distance", description="From home to the clinic", low=0, unit="km", missing=True),
    Boolean(name="reminded", description="Was there a reminder?", words=("nein", "ja")),
    Date(name="day", description="Day of the visit", low="2020-01-01"),
    Datetime(name="booked", description="When it was booked", missing=True),
    Category(name="clinic", description="Where", values=CLINICS, other="another clinic"),
    Text(name="remark", description="What was said on the phone", missing=True, buckets=8),
)
VISITS = UseCase(
    name="visits",
    title="Missed visits",
    description="Will a patient miss a visit?",
    features=FEATURES,
    derived=(DatePart(name="weekday", description="Day of the week", date="day", part="weekday"),),
    extras=(Id(name="patient", description="Number of the patient"), Ignored(name="ward", description="-")),
    target=RemapTarget(Category(name="missed", description="What happened", values=("no", "yes")), {"no": 0, "yes": 1}),
    task=Binary(CostMatrix(1, 1), outcomes=("Comes", "Stays away")),
    algorithms=(LINE,),
    baseline=LINE,
    gates=(),
    splits=2,
    repeats=1,
    dialect={"encoding": "cp1252"},
    example={
        "age": 40,
        "distance": 3.5,
        "reminded": True,
        "day": "2024-03-01",
        "booked": "2024-02-01T09:30:00",
        "clinic": CLINICS[7],
        "remark": "asked twice",
    },
)
RECORD = dict(VISITS.example)
NAMES = [*RECORD, "patient", "ward"]


def rows(count: int) -> list[dict[str, Any]]:
    """Visits, of which those of young patients are missed."""
    draw = random.Random(7)
    visits = [
        {
            "age": draw.randint(18, 90),
            "distance": round(draw.uniform(0, 40), 1),
            "reminded": draw.choice(["ja", "nein"]),
            "day": f"2024-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}",
            "booked": f"2024-01-{draw.randint(1, 28):02}T10:00:00",
            "clinic": draw.choice(CLINICS[:5]),
            "remark": draw.choice(["asked twice", "was late", "=1+1"]),
            "patient": number,
            "ward": "w",
        }
        for number in range(count)
    ]
    return [{**visit, "missed": "yes" if visit["age"] + draw.gauss(0, 8) < 45 else "no"} for visit in visits]


def csv_of(names: list[str], visits: list[dict[str, Any]]) -> str:
    return write_csv(names, [{name: visit[name] for name in names} for visit in visits])


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with a model of a use case that no folder declares."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "visits.csv").write_text(csv_of([*RECORD, "missed"], rows(200)))
    registry = Registry(folder / "models")
    run_training(VISITS, registry, folder / "visits.csv", Plan(trials=1, jobs=1))
    return registry


@pytest.fixture(scope="module")
def client(foreign: Registry) -> FlaskClient:
    return create_app(Settings(model_registry=foreign.location, auth_required=False)).test_client()


@pytest.fixture(autouse=True)
def no_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a declaration fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a declaration was read")

    for name in ("all_use_cases", "get_use_case"):
        monkeypatch.setattr(tabserve.declaration.discovery, name, refuse)


@pytest.fixture(scope="module")
def document(client: FlaskClient) -> dict[str, Any]:
    content: dict[str, Any] = client.get("/openapi.json").json
    return content


def assert_fits(document: dict[str, Any], path: str, answer: Any) -> None:
    content = document["paths"][path]["post"]["responses"][str(answer.status_code)]["content"]
    schema = {**content[answer.mimetype]["schema"], "components": document["components"]}
    jsonschema.validate(answer.json, schema, cls=jsonschema.Draft202012Validator)


def upload(client: FlaskClient, content: bytes, name: str = "new.csv", accept: str = "*/*") -> Any:
    data = {"fileupload": (io.BytesIO(content), name)}
    return client.post("/outputs_upload/visits?partial=true", data=data, headers={"Accept": accept})


def test_it_is_ready_listed_and_described(client: FlaskClient, foreign: Registry) -> None:
    model_id = foreign.latest("visits")
    assert client.get("/ready").json["models"] == {"visits": model_id}
    assert client.get("/models?use_case=visits").json["models"] == [model_id]
    described = client.get("/models/visits").json
    assert [feature["name"] for feature in described["features"]] == [feature.name for feature in FEATURES]
    assert client.get("/models/visits/report").status_code == 200
    assert client.get("/ready/credit").status_code == client.get("/models/credit").status_code == 404


@pytest.mark.parametrize("name", ["visits", "latest", "champion"])
def test_the_only_use_case_is_the_default_one(client: FlaskClient, name: str) -> None:
    assert client.post(f"/output/{name}", json=RECORD).data == client.post("/predict", json=RECORD).data


def test_the_document_is_valid_and_describes_records_and_answers(client: FlaskClient, document: dict[str, Any]) -> None:
    validate(document)
    properties = document["components"]["schemas"]["VisitsRecord"]["properties"]
    assert list(properties) == NAMES
    assert len(json.dumps(document)) < 100_000
    assert document["paths"]["/models"]["get"]["parameters"][0]["schema"]["enum"] == ["visits"]
    for path, body in (
        ("/output/{model_id}", RECORD),
        ("/output/{model_id}", [RECORD, {**RECORD, "patient": 7}]),
        ("/output/{model_id}", {**RECORD, "patient": "A-7"}),
        ("/outputs/{model_id}", [{**RECORD, "missed": "yes"}, {**RECORD, "missed": "no"}]),
        ("/explain/{model_id}", RECORD),
        ("/output/{model_id}", {}),
    ):
        answer = client.post(path.replace("{model_id}", "visits"), json=body)
        assert_fits(document, path, answer)
        of_one = {**document["components"]["schemas"]["VisitsRecord"], "components": document["components"]}
        if type(body) is dict:
            is_valid = jsonschema.Draft202012Validator(of_one).is_valid(body)
            assert is_valid == (answer.status_code == 200)


def test_ids_come_back_and_change_nothing(client: FlaskClient) -> None:
    plain = client.post("/output/visits", json=RECORD).json
    assert "ids" not in plain
    answer = client.post("/output/visits", json={**RECORD, "patient": "A-7", "ward": "x"}).json
    assert answer == {**plain, "ids": {"patient": ["A-7"]}}
    many = client.post("/output/visits", json=[RECORD, {**RECORD, "patient": 7}]).json
    assert many["ids"] == {"patient": [None, 7]}
    assert many["result"] == plain["result"] * 2


def test_what_is_wrong_is_said_in_words(client: FlaskClient) -> None:
    answer = client.post("/output/visits", json={**RECORD, "reminded": "ja", "day": "1.3.2024", "patient": [], "x": 1})
    assert answer.status_code == 422
    assert answer.json["errors"].keys() == {"reminded", "day", "patient", "x"}


def test_a_file_is_answered_with_its_ids_and_how_it_was_read(client: FlaskClient, document: dict[str, Any]) -> None:
    visits = rows(5)
    answer = upload(client, csv_of([*NAMES, "missed"], visits).encode())
    assert_fits(document, "/outputs_upload/{model_id}", answer)
    assert answer.json["ids"] == {"patient": [str(visit["patient"]) for visit in visits]}
    assert answer.json["read_as"]["format"] == "csv"
    assert answer.json["errors"] is None


def test_a_file_comes_back_with_ids_in_place_outcomes_in_words_and_no_formula(client: FlaskClient) -> None:
    visits = [{**visit, "remark": "=1+1", "ward": "@w"} for visit in rows(3)]
    names = ["ward", *[name for name in NAMES if name != "ward"]]
    header, *lines = upload(client, csv_of(names, visits).encode(), accept="text/csv").text.splitlines()
    assert header.split(",") == [*names, "result", "outcome", "probability"]
    for line, visit in zip(lines, visits, strict=True):
        cells = dict(zip(header.split(","), line.split(","), strict=True))
        assert (cells["patient"], cells["remark"], cells["ward"]) == (str(visit["patient"]), "'=1+1", "'@w")
        assert cells["outcome"] == {"0": "Comes", "1": "Stays away"}[cells["result"]]


XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PARQUET = "application/vnd.apache.parquet"


def test_csv_comes_back_in_the_dialect_that_was_sent(client: FlaskClient) -> None:
    """In an encoding that only the declaration names."""
    visits = [{**visit, "remark": "käse", "distance": str(visit["distance"]).replace(".", ",")} for visit in rows(3)]
    lines = [line.split(",") for line in csv_of([name for name in NAMES if name != "distance"], visits).splitlines()]
    distances = ["distance", *[visit["distance"] for visit in visits]]
    content = "\r\n".join(";".join([*cells, distance]) for cells, distance in zip(lines, distances, strict=True))
    answer = upload(client, content.encode("cp1252"), accept="text/csv")
    assert (answer.status_code, answer.mimetype_params) == (200, {"charset": "windows-1252"}), answer.text
    read_as = json.loads(answer.headers["Read-As"])
    assert {"format": "csv", "separator": ";", "decimal": ",", "encoding": "cp1252"}.items() <= read_as.items()
    header, first, *_ = answer.data.decode("cp1252").splitlines()
    cells = dict(zip(header.split(";"), first.split(";"), strict=True))
    names = ("remark", "distance", "reminded")
    assert [cells[name] for name in names] == [visits[0][name] for name in names]
    assert 0 <= float(cells["probability"].replace(",", ".")) <= 1


@pytest.mark.parametrize("accept", [XLSX, PARQUET, "application/jsonl"])
def test_a_table_is_answered_as_the_kind_of_file_that_is_asked_for(client: FlaskClient, accept: str) -> None:
    visits = [{**visit, "remark": "=1+1"} for visit in rows(4)]
    visits[1]["age"] = "old"
    content = csv_of(NAMES, visits).encode()
    expected = upload(client, content).json
    answer = upload(client, content, accept=accept)
    assert (answer.status_code, answer.mimetype) == (200, accept)
    if accept == XLSX:
        header, *found = load_workbook(io.BytesIO(answer.data)).active.values
        table = [dict(zip(header, row, strict=True)) for row in found]
        assert {type(row["remark"]) for row in table} == {str}
    elif accept == PARQUET:
        table = read_table(io.BytesIO(answer.data)).to_pylist()
    else:
        table = [json.loads(line) for line in answer.data.splitlines()]
    assert list(table[0]) == [*NAMES, "result", "outcome", "probability", "errors"]
    assert [row["result"] for row in table] == expected["result"]
    assert [row["probability"] for row in table] == expected["probability"]
    assert table[1]["outcome"] is None
    assert table[1]["errors"].startswith("age: ")
    assert json.loads(answer.headers["Read-As"])["format"] == "csv"


def test_dates_stay_dates_in_workbooks_and_parquet_unless_one_is_wrong(client: FlaskClient) -> None:
    visits = [{**visit, "day": "2024-02-29", "booked": "2024-02-01T09:30:00"} for visit in rows(2)]
    content = csv_of(NAMES, visits).encode()
    header, first, _ = load_workbook(io.BytesIO(upload(client, content, accept=XLSX).data)).active.values
    expected = (datetime(2024, 2, 29), datetime(2024, 2, 1, 9, 30))
    assert (first[header.index("day")], first[header.index("booked")]) == expected
    table = read_table(io.BytesIO(upload(client, content, accept=PARQUET).data)).to_pylist()
    assert (table[0]["day"], table[0]["booked"]) == (expected[0].date(), expected[1])
    visits[1]["day"] = "29.2."
    answer = upload(client, csv_of(NAMES, visits).encode(), accept=PARQUET)
    assert [row["day"] for row in read_table(io.BytesIO(answer.data)).to_pylist()] == ["2024-02-29", "29.2."]
    assert ",2024-02-29,2024-02-01T09:30:00," in upload(client, content, accept="text/csv").text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "text/html, */*;q=0.8"])
def test_whoever_asks_for_nothing_else_gets_json(client: FlaskClient, accept: str) -> None:
    assert upload(client, csv_of(NAMES, rows(2)).encode(), accept=accept).mimetype == "application/json"


def test_reasons_read_well(client: FlaskClient) -> None:
    record = {**RECORD, "clinic": "a clinic nobody knows", "age": 20}
    (one,) = client.post("/explain/visits", json=record).json["explanations"]
    said = {reason["feature"]: reason["reason"] for reason in (*one["reasons"], *one["counter_reasons"])}
    assert said["age"] == "Age: 20 years"
    assert sum(one["contributions"].values()) + one["base_value"] == pytest.approx(one["raw_score"])
    assert not [text for text in said.values() if "nan" in text or "True" in text]


def test_the_form_asks_for_each_kind_in_its_own_way(client: FlaskClient) -> None:
    text = client.get("/").text
    html = Parser(text)
    attributes = {name: html.by_id(f"visits-field-{name}").attributes for name in (*RECORD, "patient")}
    assert {name: one.get("type", "select") for name, one in attributes.items()} == {
        "age": "number",
        "distance": "number",
        "reminded": "select",
        "day": "date",
        "booked": "datetime-local",
        "clinic": "text",
        "remark": "text",
        "patient": "text",
    }
    options = html.options(html.by_id("visits-field-reminded"))
    assert [(option.attributes["value"], option.text) for option in options] == [("true", "ja"), ("false", "nein")]
    assert "selected" in options[0].attributes
    assert (attributes["day"]["min"], attributes["day"]["value"]) == ("2020-01-01", "2024-03-01")
    assert attributes["booked"]["value"] == "2024-02-01T09:30:00"
    assert "max" not in attributes["distance"]
    suggested = html.options(html.by_id(attributes["clinic"]["list"]))
    assert 0 < len(suggested) < len(CLINICS)
    assert "Distance (km)" in text
    assert "Where. Any other value is treated as another clinic." in text
    assert "Missed visits" in text
    assert len(text) < 60_000


def test_a_declaration_that_changed_since_changes_nothing(
    client: FlaskClient, foreign: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Integer(name="shoe_size", description="-", low=1, high=60)
    other = UseCase(name="visits", features=(size,), target=VISITS.target)
    monkeypatch.setattr(tabserve.declaration.discovery, "all_use_cases", lambda: {"visits": other})
    fresh = create_app(Settings(model_registry=foreign.location, auth_required=False)).test_client()
    assert fresh.post("/output/visits", json=RECORD).data == client.post("/output/visits", json=RECORD).data
    assert fresh.post("/output/visits", json={"shoe_size": 40}).status_code == 422


def test_an_artifact_says_what_was_declared(foreign: Registry) -> None:
    artifact: Artifact = foreign.load(foreign.latest("visits"))
    declared = artifact.declared
    assert (declared.name, declared.title, declared.description) == ("visits", VISITS.title, VISITS.description)
    assert declared.example == RECORD
    assert declared.extras == VISITS.extras


def test_a_damaged_champion_of_one_use_case_leaves_the_others_answering(foreign: Registry, registry: Registry) -> None:
    model_id = foreign.latest("visits")
    foreign.copy(model_id, registry)
    registry.histories.promote(model_id, reason="a test")
    (registry.location / model_id / "model.pkl").write_bytes(b"damaged")
    client = create_app(Settings(model_registry=registry.location, auth_required=False)).test_client()
    ready = client.get("/ready").json
    assert (list(ready["models"]), list(ready["unavailable"])) == (["credit", "bikes"], ["visits"])
    assert client.post("/output/visits", json=RECORD).status_code == 503
    assert "is refused" in client.get("/").text
    assert "VisitsRecord" not in client.get("/openapi.json").text
