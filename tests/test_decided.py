"""Decisions are kept before they are answered, at once and by Flask."""

import asyncio
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tabserve.api.app import create_app
from tabserve.api.certain import Certain
from tabserve.api.front import Front
from tabserve.api.problems import problem_of
from tabserve.decisions import shadow as shadow_module
from tabserve.decisions.entry import REFUSED, SHADOW, TABLE
from tabserve.decisions.log import DecisionLog
from tabserve.decisions.mover import Mover
from tabserve.decisions.plain import loaded
from tabserve.decisions.reading import Logged, logged
from tabserve.decisions.schema import decisions
from tabserve.decisions.shadow import MOST, Shadows
from tabserve.decisions.spool import Spool
from tabserve.decisions.store import DecisionStore
from tabserve.errors import DecisionLogFullError, InvalidSettingError
from tabserve.jobs.runner import Limits, Runner
from tabserve.jobs.store import Store
from tabserve.predictor import Predictor
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.table import Table
from tabserve.tables.writer import write_csv
from tests.artifacts import copy_of
from tests.asgi import answered_at_once, scope_of
from tests.conftest import ALICE, wait_until
from tests.test_layout import modules_after


@dataclass
class Place:
    """A service that keeps its decisions, and their database."""

    settings: Settings
    registry: Registry

    def __post_init__(self) -> None:
        self.app = create_app(self.settings)
        for name in ("credit", "bikes", "champion"):
            self.app.extensions["predictor"].resolve(name)
        self.client = self.app.test_client()
        self.store = DecisionStore(self.settings.decision_log or "sqlite:///nowhere.db")

    def rows(self) -> list[dict[str, Any]]:
        """What is in the database, after all of it was moved."""
        self.move()
        with self.store.database.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(sql.select(decisions).order_by(decisions.c.id))]

    def logged(self) -> list[Logged]:
        self.move()
        return [*logged(self.store, "credit")]

    def move(self) -> None:
        mover = Mover(self.settings.decision_spool_folder, self.store, self.registry)
        mover.move()
        while mover.work_out_reasons():
            pass
        mover.close()

    @property
    def log(self) -> DecisionLog:
        log: DecisionLog = self.app.extensions["decision_log"]
        return log

    def at_once(self, path: str, content: Any, **headers: str) -> Any:
        """The front's answer as JSON; None when it leaves the request to Flask."""
        front = Front(self.app)
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"method": "POST", "path": path, "query_string": b"", "headers": given, "client": ("127.0.0.1", 1)}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        answer = answered_at_once(front, scope, body)
        return answer and (json.loads(answer.body) if answer.status == 200 else answer.status)

    def in_one_turn(self, path: str, bodies: Sequence[Any], *, apart: bool = False) -> list[Certain]:
        """The front's answers to requests that come together, or each in a turn of its own before any is answered."""
        front = Front(self.app)

        async def answers() -> list[Certain]:
            answered: list[asyncio.Future[Certain]] = []
            for body in bodies:
                scope = scope_of("POST", path)
                answered.append(asyncio.get_running_loop().create_future())
                assert front.at_once(scope, json.dumps(body).encode(), answered[-1].set_result)
                await asyncio.sleep(0.001) if apart else None
            return await asyncio.wait_for(asyncio.gather(*answered), 30)

        return asyncio.run(answers())


@pytest.fixture
def make(tmp_path: Path, trained: Registry) -> Iterator[Callable[..., Place]]:
    places: list[Place] = []

    def make(**values: Any) -> Place:
        settings = Settings(
            model_registry=trained.location,
            auth_required=False,
            decision_log=f"sqlite:///{tmp_path / 'decisions.db'}",
            decision_spool_folder=tmp_path / "spool",
        )
        places.append(Place(replace(settings, **values), trained))
        return places[-1]

    yield make
    for place in places:
        if place.settings.decision_log:
            place.log.close()


@pytest.fixture
def place(make: Callable[..., Place]) -> Place:
    return make()


def test_nothing_is_kept_unless_it_is_asked_for(
    make: Callable[..., Place], record: dict[str, Any], tmp_path: Path
) -> None:
    place = make(decision_log=None)
    assert "decision_ids" not in place.at_once("/output/credit", record)
    assert "decision_ids" not in place.client.post("/output/credit", json=[record]).json
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("path", ["/output/credit", "/predict"])
def test_a_record_is_kept_as_it_came_and_was_answered(place: Place, record: dict[str, Any], path: str) -> None:
    answers = [
        place.at_once(path, record, x_request_id="one"),
        place.client.post(path, json=record, headers={"X-Request-Id": "two"}).json,
    ]
    rows = place.rows()
    for row, answer, request_id in zip(rows, answers, ["one", "two"], strict=True):
        assert answer["decision_ids"] == [row["id"]]
        assert (row["kind"], row["use_case"], row["model_id"]) == ("decision", "credit", answer["model"])
        assert (row["score"], [loaded(row["decision"])]) == (*answer["probability"], answer["result"])
        assert loaded(row["record"]) == record
        assert row["request_id"] == request_id
        assert row["route"] == ("/predict" if path == "/predict" else "/output/<model_id>")
        assert row["digest"] == place.registry.load(row["model_id"]).digest
        assert row["threshold"] == place.registry.manifest(row["model_id"]).threshold
        assert loaded(row["reasons"])
        assert abs(row["time"] - time.time()) < 60


def test_a_list_is_one_entry_with_its_records_beside_it(place: Place, records: list[dict[str, Any]]) -> None:
    some = records[:5]
    for is_at_once in (True, False):
        answer = (
            place.at_once("/output/credit", some)
            if is_at_once
            else place.client.post("/outputs/credit", json=some).json
        )
        rows = place.rows()
        assert (rows[-1]["kind"], rows[-1]["rows"], rows[-1]["record"]) == (TABLE, 5, None)
        assert answer["decision_ids"] == [f"{rows[-1]['id']}.{number}" for number in range(5)]
        kept = place.logged()[-1]
        assert kept.ids == answer["decision_ids"]
        assert kept.records == some
        assert [*kept.scores] == answer["probability"]
        assert kept.decisions == answer["result"]


def test_rows_at_fault_leave_nothing(place: Place, records: list[dict[str, Any]]) -> None:
    some = [records[0], {**records[1], "age": "SECRET"}, records[2]]
    answer = place.client.post("/output/credit?partial=true", json=some).json
    (kept,) = place.logged()
    assert answer["decision_ids"] == [kept.ids[0], None, kept.ids[1]]
    assert kept.records == [some[0], some[2]]
    place.log.close()
    place.move()
    assert b"SECRET" not in Path(str(place.settings.decision_log).removeprefix("sqlite:///")).read_bytes()


def test_columns_are_kept_like_a_list(place: Place, records: list[dict[str, Any]]) -> None:
    columns = {name: [record.get(name) for record in records[:3]] for name in records[0]}
    answer = place.client.post("/output/credit", json={"columns": columns}).json
    (kept,) = place.logged()
    assert kept.ids == answer["decision_ids"]
    assert kept.records == records[:3]


def test_outcomes_that_are_sent_along_are_not_kept(place: Place, records: list[dict[str, Any]]) -> None:
    sent = [{**record, "default": 1} for record in records[:3]]
    assert place.client.post("/outputs/credit", json=sent).status_code == 200
    (kept,) = place.logged()
    assert kept.records == records[:3]


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
def test_a_file_is_one_entry(place: Place, records: list[dict[str, Any]], accept: str) -> None:
    file = {"fileupload": (io.BytesIO(write_csv([*records[0]], records[:4]).encode()), "new.csv")}
    answer = place.client.post("/outputs_upload/credit", data=file, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    (kept,) = place.logged()
    assert len(kept.ids) == 4
    if accept == "text/csv":
        assert kept.ids[0] == f"{answer.headers['Decision-Id']}.0"
    else:
        assert kept.ids == answer.json["decision_ids"]
    again = place.client.post("/output/credit", json=kept.records).json
    assert again["probability"] == [*kept.scores]
    assert not [*place.settings.decision_spool_folder.glob("*.parquet")]


def test_several_classes_and_numbers_are_kept(place: Place, bikes: Any) -> None:
    answer = place.at_once("/output/bikes", dict(bikes.example))
    (row,) = place.rows()
    assert (row["score"], loaded(row["decision"]), row["threshold"]) == (*answer["result"], *answer["result"], None)


def test_the_hold_out_is_not_kept(place: Place) -> None:
    answer = place.client.post("/outputs/credit").json
    assert "decision_ids" not in answer
    assert place.rows() == []


def test_who_asked_is_kept(make: Callable[..., Place], users_file: Path, record: dict[str, Any]) -> None:
    place = make(auth_required=True, auth_users_file=users_file)
    assert place.client.post("/output/credit", json=record, auth=ALICE).status_code == 200
    assert [row["client"] for row in place.rows()] == ["alice"]


def test_nothing_is_decided_that_cannot_be_kept(make: Callable[..., Place], record: dict[str, Any]) -> None:
    place = make(decision_spool=100)
    assert place.client.post("/output/credit", json=record).status_code == 200
    answer = place.client.post("/output/credit", json=record)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "logged" in answer.json["detail"]
    assert place.at_once("/output/credit", record) == 503
    assert place.at_once("/output/credit", [record]) == 503
    assert len(place.rows()) == 1


def test_what_cannot_be_kept_is_counted_when_it_may_be_dropped(
    make: Callable[..., Place], record: dict[str, Any]
) -> None:
    place = make(decision_spool=100, decision_log_full="drop")
    assert place.at_once("/output/credit", record)["decision_ids"] != [None]
    assert place.at_once("/output/credit", record)["decision_ids"] == [None]
    assert place.at_once("/output/credit", [record, record])["decision_ids"] == [None, None]
    assert place.client.post("/output/credit", json=record).json["decision_ids"] == [None]
    assert (place.log.logged, place.log.dropped) == (1, 3)
    assert len(place.rows()) == 1


def test_a_folder_that_cannot_be_used_refuses(
    make: Callable[..., Place], record: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    place = make(decision_spool_folder=tmp_path / "file" / "spool")
    assert place.at_once("/output/credit", record) == 503
    assert place.client.post("/output/credit", json=record).status_code == 503


def test_what_is_decided_in_one_turn_is_kept_with_one_write(
    place: Place, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    appended: list[int] = []
    append = Spool.append

    def counted(spool: Spool, *payloads: bytes) -> None:
        appended.append(len(payloads))
        append(spool, *payloads)

    monkeypatch.setattr(Spool, "append", counted)
    bodies = [record, [record, record], record]
    answers = place.in_one_turn("/output/credit", bodies)
    assert appended == [3]
    ids = [id_ for answer in answers for id_ in json.loads(answer.body)["decision_ids"]]
    assert [one.partition(".")[2] for one in ids] == ["", "0", "1", ""]
    assert len({*ids}) == 4
    assert sorted(row["rows"] for row in place.rows()) == [1, 1, 2]


def test_a_turn_that_cannot_be_kept_is_refused_as_a_whole(
    place: Place, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise DecisionLogFullError

    place.at_once("/output/credit", record)
    monkeypatch.setattr(Spool, "append", full)
    answers = place.in_one_turn("/output/credit", [record, [record], record])
    assert [answer.status for answer in answers] == [503] * 3
    assert len(place.rows()) == 1


def test_whoever_waits_is_answered_when_keeping_fails_for_a_reason_that_nobody_thought_of(
    place: Place, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*arguments: Any) -> None:
        raise ZeroDivisionError("of a record")

    monkeypatch.setattr(Spool, "append", failing)
    answers = place.in_one_turn("/output/credit", [record, record])
    assert [answer.status for answer in answers] == [500, 500]
    assert "ZeroDivisionError" in caplog.text
    assert "of a record" not in caplog.text


def test_the_loop_does_not_wait_for_a_disk_and_what_waits_goes_there_together(
    make: Callable[..., Place], record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make(decision_fsync="each")
    threads, forced = set[int](), list[int]()

    def slow(file: int) -> None:
        threads.add(threading.get_ident())
        forced.append(file)
        time.sleep(0.2)

    place.at_once("/output/credit", record)
    monkeypatch.setattr(os, "fdatasync", slow)
    answers = place.in_one_turn("/output/credit", [record] * 20, apart=True)
    assert {answer.status for answer in answers} == {200}
    assert threading.get_ident() not in threads
    assert len(forced) < 10
    assert len(place.rows()) == 21


def test_keeping_a_record_or_a_list_imports_neither_arrow_nor_sqlalchemy(
    trained: Registry, tmp_path: Path, record: dict[str, Any]
) -> None:
    settings = (
        f"Settings(model_registry=Path({str(trained.location)!r}), auth_required=False, "
        f"decision_log='sqlite:///{tmp_path}/d.db', decision_spool_folder=Path({str(tmp_path / 'spool')!r}))"
    )
    code = f"""
from pathlib import Path
from tabserve.api.app import create_app
from tabserve.settings import Settings
client = create_app({settings}).test_client()
assert client.post("/output/credit", json={record!r}).json["decision_ids"]
assert client.post("/output/credit", json=[{record!r}]).json["decision_ids"]
"""
    assert not modules_after(code) & {"pyarrow", "sqlalchemy", "alembic", "pandas", "sklearn"}


def test_refusals_are_kept_by_field_and_kind_and_nothing_of_the_record(
    place: Place, records: list[dict[str, Any]]
) -> None:
    at_fault = {**records[0], "age": "SECRET", "SECRET": 1}
    del at_fault["purpose"]
    assert place.at_once("/output/credit", at_fault) is None  # Flask says it
    assert place.client.post("/output/credit", json=at_fault).status_code == 422
    assert place.client.post("/output/credit?partial=true", json=[at_fault, records[0]]).status_code == 200
    rows = {row["kind"]: row for row in place.rows()}
    assert rows.keys() == {REFUSED, TABLE}
    assert loaded(rows[REFUSED]["faults"]) == {"age:invalid": 1, "purpose:missing": 1, "(unknown):unknown": 1}
    assert (rows[REFUSED]["record"], rows[REFUSED]["rows"]) == (None, 1)
    assert "SECRET" not in str(rows[REFUSED])


def test_a_shadow_predicts_what_was_answered(
    make: Callable[..., Place], records: list[dict[str, Any]], trained: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "LATE", 60)  # it loads its model first, and the machine may be busy
    model_id = trained.latest("credit")
    place = make(shadow=(("credit", model_id),))
    single = place.at_once("/output/credit", records[0])
    many = place.client.post("/output/credit", json=records[:2]).json
    place.at_once("/output/bikes", records[0])
    wait_until(lambda: place.log.logged == 2 and len(place.rows()) == 5, 60, "The shadow does not predict.")
    shadows = [row for row in place.rows() if row["kind"] == SHADOW]
    answered = [*single["decision_ids"], *many["decision_ids"]]
    assert sorted(row["answers"] for row in shadows) == sorted(answered)
    by_id = dict(zip(answered, [*single["probability"], *many["probability"]], strict=True))
    assert {row["answers"]: row["score"] for row in shadows} == by_id
    assert {row["model_id"] for row in shadows} == {model_id}


def test_a_shadow_that_has_too_much_to_do_leaves_answers_out(
    make: Callable[..., Place], record: dict[str, Any], trained: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make(shadow=(("credit", trained.latest("credit")),))
    shadows = place.log.shadow
    assert isinstance(shadows, Shadows)
    monkeypatch.setattr(shadows, "_start", lambda: None)  # its thread never gets a turn
    for _ in range(MOST + 10):
        assert place.at_once("/output/credit", record)["decision_ids"]
    assert shadows.dropped == 10
    assert len(place.rows()) == MOST + 10


def test_a_shadow_that_is_not_there_is_said_once(
    make: Callable[..., Place], record: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    place = make(shadow=(("credit", "credit-lightgbm_v9-9.9"),))
    for _ in range(3):
        place.at_once("/output/credit", record)
    wait_until(lambda: "no shadow of credit" in caplog.text, 30, "It is not said.")
    time.sleep(0.2)
    assert caplog.text.count("no shadow") == 1


def test_a_shadow_needs_the_log() -> None:
    with pytest.raises(InvalidSettingError, match="DECISION_LOG"):
        Settings.from_environment({"SHADOW": "credit:credit-x"})


@pytest.mark.parametrize("kind", ["file", "list"])
def test_a_job_is_kept_once_however_often_it_is_begun(
    make: Callable[..., Place], records: list[dict[str, Any]], tmp_path: Path, kind: str, trained: Registry
) -> None:
    place = make(database_url=f"sqlite:///{tmp_path / 'jobs.db'}")
    store = Store(place.settings.database_url, 24)
    runner = Runner(store, Predictor(trained, "credit"), Limits(1000, 60), problem_of, log=place.log)
    if kind == "file":
        content = write_csv([*records[0]], records[:4]).encode()
        sent = place.client.post("/jobs/credit", data={"fileupload": (io.BytesIO(content), "new.csv")})
    else:
        sent = place.client.post("/jobs/credit", json=records[:4])
    job = store.get(sent.json["id"])
    assert job
    answer = Predictor(trained, "credit").predict_table(trained.load(job.model_id), Table.of(records[:4]))
    runner._kept(job, answer)  # by a worker that was killed then
    assert runner.run_next()
    done = store.get(job.id)
    assert done
    assert done.summary
    (row,) = place.rows()
    assert (row["id"], row["kind"], row["rows"], row["route"]) == (
        done.summary["decision_id"],
        TABLE,
        4,
        "/jobs/<name>",
    )
    (kept,) = place.logged()
    assert kept.records == records[:4]


def test_a_split_is_sticky_and_each_decision_is_logged_with_its_arm(
    make: Callable[..., Place], registry: Registry, records: list[dict[str, Any]]
) -> None:
    champion, challenger = registry.latest("credit"), copy_of(registry)
    registry.histories.promote(champion)
    registry.histories.split("credit", {champion: 70, challenger: 30})
    place = make(model_registry=registry.location)
    some = records[:200]
    at_once = [place.at_once("/output/credit", record) for record in some]
    by_flask = [place.client.post("/output/credit", json=record).json for record in some]
    arms = [answer["model"] for answer in at_once]
    assert [answer["model"] for answer in by_flask] == arms
    assert 40 <= arms.count(challenger) <= 80
    assert arms.count(champion) + arms.count(challenger) == 200
    rows = place.rows()
    assert [row["model_id"] for row in rows] == [row["arm"] for row in rows] == arms + arms
    assert {row["digest"] for row in rows} == {registry.load(champion).digest, registry.load(challenger).digest}
    explained = place.client.post("/explain/credit", json=some[arms.index(challenger)]).json
    assert explained["model"] == challenger
    for path, content in ((f"/output/{champion}", some[0]), ("/output/credit", some), ("/output/latest", some[0])):
        answer = place.client.post(path, json=content).json
        assert answer["model"] == (challenger if path.endswith("latest") else champion)
    assert {row["arm"] for row in place.rows()[400:]} == {""}
