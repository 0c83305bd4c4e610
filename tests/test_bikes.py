"""The bikes routes, as their clients use them: over HTTP, from models of the real data."""

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from flask.testing import FlaskClient
from sklearn.metrics import r2_score

from tabserve.api.app import create_app
from tabserve.decisions import entry
from tabserve.decisions.reading import Wanted, found, one
from tabserve.decisions.store import DecisionStore
from tabserve.declaration.use_case import UseCase
from tabserve.predict import make_prediction
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tests.artifacts import edit_manifest
from tests.conftest import ALICE, ROOT, Server, made_once, running_server, wait_until, write_users

BOB = ("bob", "a longer passphrase: 日本")
AFTERNOON = {"hour": 15, "weekday": "Friday", "month": "June", "weather": "Cloudy"}
MORNING = {"hour": 8, "weekday": "Monday", "month": "October", "weather": "Rainy"}
ALGORITHMS = "Lasso, SVR, LinearRegression, DecisionTreeRegressor, LGBMRegressor"


@pytest.fixture(scope="module")
def full(
    trained: Registry, bikes: UseCase, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Registry:
    """Models of all the real data, with fewer trials than by default and without the slow algorithm."""
    registry = Registry(tmp_path_factory.mktemp("full") / "models")
    with made_once(request.config, "bikes", __file__) as (folder, is_there):
        if not is_there:
            algorithms = ["Lasso", "DecisionTreeRegressor", "LGBMRegressor"]
            run_training(bikes, Registry(folder), bikes.path, Plan(trials=4), algorithms)
        shutil.copytree(folder, registry.location)
    credit = trained.latest("credit")
    shutil.copytree(trained.location / credit, registry.location / credit)
    return registry


@pytest.fixture(scope="module")
def service(full: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    write_users(folder / "users.txt", ALICE, BOB)
    environment = {"MODEL_REGISTRY": str(full.location), "AUTH_USERS_FILE": str(folder / "users.txt")}
    with running_server(folder / "log.txt", {**environment, "WEB_CONCURRENCY": "1"}) as running:
        yield running


def post(server: Server, path: str, user: tuple[str, str] | None = None, **query: Any) -> tuple[int, Any]:
    """The status and JSON of an answer."""
    headers = {}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
    return send(server, f"{path}?{urlencode(query)}", headers)


def send(server: Server, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
        connection.request("POST", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize(("user", "record"), [(ALICE, AFTERNOON), (BOB, MORNING)])
def test_a_user_gets_the_count_that_the_best_model_predicts(
    service: Server, full: Registry, user: tuple[str, str], record: dict[str, Any]
) -> None:
    status, answer = post(service, "/predictions", user, **record)
    assert status == 200
    assert answer.keys() == {"user", "bikes"}
    assert answer["user"] == user[0]
    assert 50 < answer["bikes"] < 900
    artifact = full.load(full.latest("bikes"))
    assert artifact.manifest.algorithm == "LGBMRegressor"
    assert answer["bikes"] == make_prediction(artifact, [record]).columns["result"][0]


def test_decisions_and_refusals_are_kept_like_those_of_other_routes(trained: Registry, tmp_path: Path) -> None:
    write_users(tmp_path / "users.txt", ALICE)
    address = f"sqlite:///{tmp_path / 'decisions.db'}"
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "AUTH_USERS_FILE": str(tmp_path / "users.txt"),
        "WEB_CONCURRENCY": "1",
        "DECISION_LOG": address,
        "DECISION_SPOOL_FOLDER": str(tmp_path / "spool"),
    }
    token = "Basic " + base64.b64encode(":".join(ALICE).encode()).decode()
    with running_server(tmp_path / "log.txt", environment) as server:
        with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
            connection.request("POST", f"/predictions?{urlencode(AFTERNOON)}", headers={"Authorization": token})
            answer = connection.getresponse()
            id_, bikes = answer.headers["Decision-Id"], json.loads(answer.read())["bikes"]
        assert post(server, "/predictions", ALICE, **{**AFTERNOON, "weather": "Frogs"})[0] == 422
        store = DecisionStore(address)
        wait_until(lambda: [*found(store, Wanted(kind=entry.REFUSED))] != [], 20, "Nothing is moved.")
    kept = one(store, id_)
    assert kept
    assert (kept.entry.record, kept.entry.decision, kept.entry.score) == (AFTERNOON, bikes, bikes)
    assert (kept.entry.route, kept.entry.client, kept.entry.use_case) == ("/predictions", "alice", "bikes")
    (refused,) = found(store, Wanted(kind=entry.REFUSED))
    assert refused.entry.faults == {"weather:invalid": 1}
    assert refused.entry.route == "/predictions"


def test_an_afternoon_in_june_sees_more_bikes_than_a_night_in_january(service: Server) -> None:
    night = {"hour": 3, "weekday": "Tuesday", "month": "January", "weather": "Rainy"}
    counts = [post(service, "/predictions", ALICE, **record)[1]["bikes"] for record in (AFTERNOON, night)]
    assert counts[0] > 10 * counts[1] >= 0


@pytest.mark.parametrize(
    ("name", "low", "high"), [("Lasso", 0, 0.3), ("DecisionTreeRegressor", 0.83, 1), ("LGBMRegressor", 0.9, 1)]
)
def test_the_scores_of_the_models_are_those_of_their_hold_out(
    service: Server, full: Registry, name: str, low: float, high: float
) -> None:
    status, answer = post(service, f"/scores/{name}", ALICE)
    assert (status, answer["user"]) == (200, "alice")
    assert low < answer["model"] < high
    model_id = full.latest("bikes", name)
    assert answer["model"] == full.manifest(model_id).headline_of("hold_out")
    assert post(service, f"/outputs/{model_id}")[1]["r2_score"] == pytest.approx(answer["model"], abs=1e-12)


@pytest.mark.parametrize("path", ["/scores/Lasso", "/scores/lasso/", "/scores/SVR", "/scores/nothing"])
def test_the_query_wins_over_the_path(service: Server, path: str) -> None:
    expected = post(service, "/scores/LGBMRegressor", BOB)
    assert post(service, path, BOB, model="LGBMRegressor") == expected
    assert expected[0] == 200


@pytest.mark.parametrize(("path", "query"), [("/scores/Ridge", {}), ("/scores/Lasso", {"model": "Ridge"})])
def test_an_unknown_model_is_refused_with_those_there_are(service: Server, path: str, query: dict[str, str]) -> None:
    status, answer = post(service, path, ALICE, **query)
    assert status == 422
    assert answer["errors"] == {"model": [f"bikes has no such algorithm; choose one of: {ALGORITHMS}."]}


def test_a_model_that_was_not_trained_is_missed_by_name(service: Server) -> None:
    status, answer = post(service, "/scores/SVR", ALICE)
    assert (status, answer["detail"]) == (503, "There is no bikes SVR model yet; train one.")


REFUSED = {
    "no header": {},
    "an unknown user": {"Authorization": "Basic " + base64.b64encode(b"mallory:correct horse battery").decode()},
    "a wrong password": {"Authorization": "Basic " + base64.b64encode(b"alice:wrong horse battery").decode()},
    "another user's password": {"Authorization": "Basic " + base64.b64encode(f"alice:{BOB[1]}".encode()).decode()},
    "no base64": {"Authorization": "Basic alice:secret"},
    "no colon": {"Authorization": "Basic " + base64.b64encode(b"alice").decode()},
    "another scheme": {"Authorization": "Bearer alice"},
    "nothing in it": {"Authorization": ""},
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("path", [f"/predictions?{urlencode(AFTERNOON)}", "/scores/Lasso", "/predictions", "/scores/x"])
def test_who_is_no_user_gets_401_though_other_routes_are_open(
    app_of_the_small_models: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    answer = app_of_the_small_models.post(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Tabserve"'
    assert answer.content_type == "application/problem+json"
    assert app_of_the_small_models.post("/output/bikes", json=AFTERNOON).status_code == 200


def test_who_is_no_user_gets_401_from_gunicorn(service: Server) -> None:
    for headers in ({}, REFUSED["a wrong password"], REFUSED["an unknown user"], REFUSED["no base64"]):
        assert send(service, f"/predictions?{urlencode(AFTERNOON)}", headers)[0] == 401
    assert post(service, "/predictions", ALICE, **AFTERNOON)[0] == 200


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"weather": "Foggy"}, {"weather": ["Must be one of: Clear, Cloudy, Rainy, Stormy."]}),
        ({"hour": 25}, {"hour": ["Must be between 0 and 24."]}),
        ({"hour": -1}, {"hour": ["Must be between 0 and 24."]}),
        ({"hour": "abc"}, {"hour": ["Not a valid integer."]}),
        ({"hour": "8.5"}, {"hour": ["Not a valid integer."]}),
        ({"hour": "NaN"}, {"hour": ["Not a valid integer."]}),
        ({"hour": ""}, {"hour": ["Field may not be null."]}),
        ({"month": None}, {"month": ["Missing data for required field."]}),
        ({"month": "june"}, None),
        ({"weekday": "Friyay"}, None),
        ({"year": 2013}, {"year": ["Must be between 2011 and 2012."]}),
        ({"season": "summer"}, {"season": ["Unknown field."]}),
    ],
)
def test_what_is_wrong_with_a_query_is_named(service: Server, changes: dict[str, Any], errors: Any) -> None:
    query = {name: value for name, value in {**AFTERNOON, **changes}.items() if value is not None}
    status, answer = post(service, "/predictions", ALICE, **query)
    assert status == 422
    assert answer["errors"].keys() == changes.keys()
    if errors:
        assert answer["errors"] == errors


def test_what_is_given_twice_is_refused_and_not_taken_once(service: Server) -> None:
    path = f"/predictions?{urlencode(AFTERNOON)}&hour=3"
    status, _ = post(service, path.partition("?")[0], ALICE, **AFTERNOON)
    assert status == 200
    headers = {"Authorization": "Basic " + base64.b64encode(":".join(ALICE).encode()).decode()}
    assert send(service, path, headers)[1]["errors"] == {"hour": ["Given more than once."]}
    assert send(service, "/scores/SVR?model=Lasso&model=SVR", headers)[0] == 422


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"hour": 0}, {"hour": 24}),
        ({"hour": 7}, {"hour": "7.0"}),
        ({}, {"year": 2012}),
        ({"weather": "Clear"}, {"weather": "Clear", "year": "2012"}),
    ],
)
def test_two_ways_to_say_the_same_get_the_same_answer(
    service: Server, one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = (post(service, "/predictions", ALICE, **{**AFTERNOON, **changes}) for changes in (one, other))
    assert first == second
    assert first[0] == 200
    assert post(service, "/predictions", ALICE, **{**AFTERNOON, **one, "year": 2011}) != first


@pytest.fixture
def app_of_the_small_models(registry: Registry, users_file: Path) -> FlaskClient:
    settings = Settings(model_registry=registry.location, auth_required=False, auth_users_file=users_file)
    return create_app(settings).test_client()


def test_the_status_is_1_and_needs_no_model(tmp_path: Path) -> None:
    client = create_app(Settings(model_registry=tmp_path / "none", auth_required=False)).test_client()
    for path in ("/status", "/status/"):
        assert client.get(path).get_data() == b"1"


def test_the_champion_answers_and_each_algorithm_keeps_its_score(
    app_of_the_small_models: FlaskClient, registry: Registry
) -> None:
    lasso = registry.latest("bikes", "Lasso")
    registry.histories.promote(lasso, reason="a test")
    answer = app_of_the_small_models.post("/predictions", query_string=AFTERNOON, auth=ALICE).json
    assert answer["bikes"] == make_prediction(registry.load(lasso), [AFTERNOON]).columns["result"][0]
    assert app_of_the_small_models.post("/output/bikes", json=AFTERNOON).json["model"] == lasso
    scores = {
        name: app_of_the_small_models.post(f"/scores/{name}", auth=ALICE).json["model"]
        for name in ALGORITHMS.split(", ")
    }
    assert scores["Lasso"] < scores["LGBMRegressor"]
    assert len(set(scores.values())) == 5


def test_a_score_from_a_changed_manifest_is_refused(app_of_the_small_models: FlaskClient, registry: Registry) -> None:
    model_id = registry.latest("bikes", "Lasso")
    path = registry.location / model_id / "manifest.json"
    path.write_text(path.read_text().replace('"r2": 0.', '"r2": 0.9'))
    answer = app_of_the_small_models.post("/scores/Lasso", auth=ALICE)
    assert answer.status_code == 503
    assert "its manifest is not the one that training wrote" in answer.json["detail"]


def test_a_score_needs_no_model_that_this_service_could_load(
    app_of_the_small_models: FlaskClient, registry: Registry
) -> None:
    model_id = registry.latest("bikes", "SVR")
    libraries = registry.manifest(model_id).libraries
    edit_manifest(registry, model_id, libraries={**libraries, "scikit-learn": "0.1"})
    assert app_of_the_small_models.post(f"/output/{model_id}", json=AFTERNOON).status_code == 503
    assert app_of_the_small_models.post("/scores/SVR", auth=ALICE).status_code == 200


def test_the_generic_routes_serve_bikes(app_of_the_small_models: FlaskClient, registry: Registry) -> None:
    client = app_of_the_small_models
    many = client.post("/output/bikes", json=[AFTERNOON, {**MORNING, "year": 2011}]).json
    assert len(many["result"]) == 2
    assert "probability" not in many
    hold_out = client.post("/outputs/bikes").json
    expected = registry.manifest(registry.latest("bikes")).metrics["hold_out"]["r2"]
    assert hold_out["r2_score"] == pytest.approx(expected, abs=1e-12)
    assert "auc_score" not in hold_out
    labelled = client.post("/outputs/bikes", json=[{**AFTERNOON, "count": 300}, {**MORNING, "count": 100}]).json
    y, scores = [300, 100], labelled["result"]
    assert labelled["r2_score"] == pytest.approx(r2_score(y, scores), abs=1e-12)
    text = b"month,hour,weather,weekday\nJune,15,Cloudy,Friday\nOctober,8,Rainy,Monday\n"
    upload = {"fileupload": (io.BytesIO(text), "hours.csv")}
    uploaded = client.post("/outputs_upload/bikes", data=upload).json
    assert uploaded["result"] == client.post("/output/bikes", json=[AFTERNOON, MORNING]).json["result"]


def test_nothing_of_bikes_is_outside_its_own_files() -> None:
    own = {"src/use_cases/bikes.py", "src/datasets/make_bikes.py", "api/bikes.py"}
    kinds = (".py", ".html", ".js", ".css")
    files = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("src", "api")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in kinds
    }
    assert own <= files.keys()
    naming = {name: text for name, text in files.items() if "bike" in text.lower() and name not in own}
    assert list(naming) == ["api/app.py"]  # which registers the routes, by the name of their module
    assert "bike" not in naming["api/app.py"].replace('"bikes": "tabserve.api.bikes"', "").lower()


def test_without_a_bikes_model_its_routes_are_not_found_and_not_documented(
    registry: Registry, users_file: Path
) -> None:
    for model_id in registry.list("bikes"):
        registry.delete(model_id)
    settings = Settings(model_registry=registry.location, auth_required=False, auth_users_file=users_file)
    client = create_app(settings).test_client()
    for path in (f"/predictions?{urlencode(AFTERNOON)}", "/scores/Lasso"):
        answer = client.post(path, auth=ALICE)
        assert (answer.status_code, answer.json["detail"]) == (404, "There is no such use case; choose one of: credit.")
        assert client.post(path).status_code == 401
    paths = client.get("/openapi.json").json["paths"]
    assert "/status" in paths
    assert not {"/predictions", "/scores/{name}"} & paths.keys()


def test_the_routes_are_there_exactly_when_the_use_case_is_declared(tmp_path: Path) -> None:
    shutil.copy(ROOT / "src" / "use_cases" / "credit.py", tmp_path)
    code = f"""if True:
        import tabserve.use_cases
        tabserve.use_cases.__path__ = [{str(tmp_path)!r}]
        from pathlib import Path
        from tabserve.api.app import create_app
        from tabserve.settings import Settings
        client = create_app(Settings(model_registry=Path("none"), auth_required=False)).test_client()
        asked = [client.get("/status"), client.post("/predictions"), client.post("/scores/Lasso")]
        print([answer.status_code for answer in asked], "Bike" in client.get("/openapi.json").text)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[404, 404, 404] False\n"
