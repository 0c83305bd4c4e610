"""The runner: jobs are answered as requests are, faults included, and end when they should."""

import csv
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from tabserve import predictor as predictor_module
from tabserve.api.app import create_app
from tabserve.api.problems import problem_of
from tabserve.errors import JobsAwayError, NoMemoryError, StoreAwayError
from tabserve.jobs import runner as module
from tabserve.jobs.job import DONE, FAILED, FILE, HOLD_OUT, JSON, RESULTS, WAITING, Job, Order
from tabserve.jobs.runner import Limits, Runner
from tabserve.jobs.store import Store
from tabserve.predictor import Predictor
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.test_controller import bank_export, csv_of, ordinary_xlsx, upload

MARKER = "Xylophone4711"


@pytest.fixture(scope="module")
def client(trained: Registry) -> FlaskClient:
    return create_app(Settings(model_registry=trained.location, auth_required=False)).test_client()


@pytest.fixture(scope="module")
def predictor(trained: Registry) -> Predictor:
    return Predictor(trained, "credit")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'jobs.db'}", 24)


@pytest.fixture
def runner(store: Store, predictor: Predictor) -> Runner:
    return Runner(store, predictor, Limits(100_000, 60), problem_of)


def sent(
    store: Store, predictor: Predictor, kind: str, body: bytes, partial: bool = False, name: str = "credit"
) -> str:
    order = Order(owner="", client="x", model_id=predictor.resolve(name).model_id, kind=kind, partial=partial)
    return store.add(order, [body])


def answered(store: Store, runner: Runner, id_: str) -> Job:
    assert runner.run_next()
    job = store.get(id_)
    assert job
    return job


def result(store: Store, job: Job, kind: str = "csv") -> bytes:
    return b"".join(store.read(job.id, kind))


def as_summary(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("model", "result", "probability", "ids")}


def in_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def changed(records: Sequence[dict[str, Any]], faults: Sequence[int], partial_values: Sequence[Any]) -> list[Any]:
    return [
        {**record, "age": partial_values[place % len(partial_values)]} if place in faults else record
        for place, record in enumerate(records)
    ]


@given(
    count=st.integers(1, 40),
    faults=st.sets(st.integers(0, 39), max_size=5),
    values=st.lists(
        st.sampled_from([300, "x", None, [1], {"a": 1}, 1.5, True, "=1+1", 10**400]), min_size=1, max_size=4
    ),
    partial=st.booleans(),
    piece=st.integers(1, 50),
    outcomes=st.booleans(),
)
def test_a_list_is_answered_as_at_once_whatever_is_wrong_with_it(
    tmp_path_factory: pytest.TempPathFactory,
    client: FlaskClient,
    predictor: Predictor,
    records: list[dict[str, Any]],
    count: int,
    faults: set[int],
    values: list[Any],
    partial: bool,
    piece: int,
    outcomes: bool,
) -> None:
    body = changed(records[:count], sorted(faults), values)
    if outcomes:
        body = [{**record, "default": place % 2} for place, record in enumerate(body)]
    content = json.dumps(body).encode()
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('jobs') / 'jobs.db'}", 24)
    runner = Runner(store, predictor, Limits(100_000, 60), problem_of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor_module, "PIECE", piece)
        job = answered(store, runner, sent(store, predictor, JSON, content, partial))
    at_once = client.post(f"/outputs/credit?partial={str(partial).lower()}", data=content)
    if at_once.status_code != 200:
        assert (job.state, job.error) == (FAILED, at_once.json)
        return
    assert (job.state, job.rows, job.rows_done) == (DONE, count, count)
    answer: Any = at_once.json
    assert job.summary == as_summary(answer)
    rows = in_rows(result(store, job))
    assert [row["result"] and int(row["result"]) for row in rows] == [
        one if one is not None else "" for one in answer["result"]
    ]
    assert [row["probability"] for row in rows] == ["" if one is None else str(one) for one in answer["probability"]]
    assert [row["purpose"] for row in rows] == [record["purpose"] for record in body]
    assert ("default" in rows[0]) is outcomes
    assert load_workbook(io.BytesIO(result(store, job, "xlsx"))).active.max_row == count + 1
    assert pyarrow.parquet.read_table(io.BytesIO(result(store, job, "parquet"))).num_rows == count


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"1",
        b"[1]",
        b"{}",
        b'{"age": 1, "age": 2}',
        b'[{"a": 1, "a": 2}]',
        b'[{"age": NaN}]',
        b"[" * 2000,
    ],
)
def test_what_is_no_list_of_records_fails_as_at_once(
    client: FlaskClient, store: Store, runner: Runner, predictor: Predictor, body: bytes
) -> None:
    at_once = client.post("/output/credit", data=body)
    job = answered(store, runner, sent(store, predictor, JSON, body))
    assert (job.state, job.error, at_once.json) == (FAILED, at_once.json, job.error)


def test_a_single_record_is_a_table_of_one_row_and_its_faults_are_told_by_field(
    client: FlaskClient, store: Store, runner: Runner, predictor: Predictor, record: dict[str, Any]
) -> None:
    job = answered(store, runner, sent(store, predictor, JSON, json.dumps(record).encode()))
    (row,) = in_rows(result(store, job))
    assert (row["age"], row["housing"]) == (str(record["age"]), record["housing"])
    assert float(row["probability"]) == client.post("/output/credit", json=record).json["probability"][0]
    job = answered(store, runner, sent(store, predictor, JSON, json.dumps({**record, "age": "x"}).encode()))
    assert job.error
    assert job.error["errors"] == {"age": ["Not a valid integer."]}


MAKERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "CSV": csv_of,
    "semicolons": lambda rows: csv_of(rows).replace(b",", b";"),
    "XLSX": ordinary_xlsx,
    "the bank's export": bank_export,
}


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_is_answered_as_at_once(
    client: FlaskClient,
    store: Store,
    runner: Runner,
    predictor: Predictor,
    records: list[dict[str, Any]],
    kind: str,
    faulty: bool,
    partial: bool,
) -> None:
    rows = [dict(record) for record in records[:30]]
    if faulty:
        rows[7]["age"] = 300
        rows[20]["housing"] = MARKER
    content = MAKERS[kind](rows)
    query = f"?partial={str(partial).lower()}"
    name = "a.xlsx" if content.startswith(b"PK") else "a.csv"
    job = answered(store, runner, sent(store, predictor, FILE, content, partial))
    at_once = upload(client, content, name, query)
    if at_once.status_code != 200:
        assert (job.state, job.error) == (FAILED, at_once.json)
        assert MARKER not in json.dumps(job.error)
        return
    as_csv = upload(client, content, name, query, "text/csv")
    assert job.summary == {**as_summary(at_once.json), "row_numbers": as_csv.headers["Row-Numbers"]}
    assert result(store, job) == as_csv.data
    parquet = pyarrow.parquet.read_table(io.BytesIO(result(store, job, "parquet")))
    sent_as_parquet = upload(client, content, name, query, "application/vnd.apache.parquet").data
    assert parquet == pyarrow.parquet.read_table(io.BytesIO(sent_as_parquet))
    sheet = load_workbook(io.BytesIO(result(store, job, "xlsx"))).active
    assert [cell.value for cell in sheet[1]] == parquet.column_names


@pytest.mark.parametrize(
    "content", [b"", b"age\n", b"age;housing\n35;own\n", b"\x00\x01", b"PK\x03\x04broken", b"PAR1"]
)
def test_what_is_no_table_fails_as_at_once(
    client: FlaskClient, store: Store, runner: Runner, predictor: Predictor, content: bytes
) -> None:
    job = answered(store, runner, sent(store, predictor, FILE, content))
    assert (job.state, job.error) == (FAILED, upload(client, content).json)


def test_several_classes_and_numbers_are_answered_too(
    client: FlaskClient, store: Store, runner: Runner, predictor: Predictor, bikes: Any
) -> None:
    body = json.dumps([dict(bikes.example)] * 3)
    job = answered(store, runner, sent(store, predictor, JSON, body.encode(), name="bikes"))
    expected = client.post("/outputs/bikes", data=body).json["result"]
    assert [float(row["result"]) for row in in_rows(result(store, job))] == expected


def test_the_hold_out_is_measured_and_none_of_its_columns_is_answered(
    client: FlaskClient, store: Store, runner: Runner, predictor: Predictor
) -> None:
    job = answered(store, runner, sent(store, predictor, HOLD_OUT, b""))
    at_once: Any = client.post("/outputs/credit").json
    assert job.summary == as_summary(at_once)
    assert job.summary["auc_score"] > 0.5
    rows = in_rows(result(store, job))
    assert set(rows[0]) == {"result", "outcome", "probability"}
    assert [float(row["probability"]) for row in rows] == at_once["probability"]


@pytest.mark.parametrize("kind", [JSON, FILE])
def test_more_than_max_rows_fail(store: Store, predictor: Predictor, records: list[dict[str, Any]], kind: str) -> None:
    runner = Runner(store, predictor, Limits(20, 60), problem_of)
    body = json.dumps(records[:21]).encode() if kind == JSON else csv_of(records[:21])
    job = answered(store, runner, sent(store, predictor, kind, body))
    assert job.error
    assert (job.error["status"], job.error["detail"]) == (413, "More than 20 rows; send them in several requests.")


def test_a_model_that_is_gone_is_an_error_of_the_job(store: Store, runner: Runner) -> None:
    id_ = store.add(
        Order(owner="", client="x", model_id="credit-lightgbm_v9.9.9-1.000000", kind=JSON, partial=False), [b"{}"]
    )
    job = answered(store, runner, id_)
    assert job.error
    assert job.error["status"] == 404


def test_an_unexpected_error_is_logged_without_data_and_the_next_job_is_taken(
    store: Store,
    runner: Runner,
    predictor: Predictor,
    record: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    body = json.dumps([{**record, "housing": MARKER}]).encode()
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "table_of", lambda *_: {}[MARKER])
        job = answered(store, runner, sent(store, predictor, JSON, body))
    assert job.error
    assert job.error["detail"] == "Something went wrong here; it has been logged."
    assert "unexpected KeyError" in caplog.text
    assert MARKER not in caplog.text
    assert job.id not in caplog.text  # whoever knows it may see the job
    assert answered(store, runner, sent(store, predictor, JSON, json.dumps([record]).encode())).state == DONE


def test_progress_is_told_while_rows_are_predicted_and_a_deleted_job_ends(
    store: Store,
    predictor: Predictor,
    records: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictor_module, "PIECE", 10)
    monkeypatch.setattr(module, "BEAT", 0.02)
    seen: list[int] = []
    is_deleted = threading.Event()
    runner = Runner(store, predictor, Limits(1000, 60), problem_of)
    predict = predictor_module.make_prediction

    def slow(*arguments: Any, **options: Any) -> Any:
        job = store.get(id_)
        if job and job.rows_done >= 50:
            store.delete(id_)
            is_deleted.set()
        elif job:
            seen.append(job.rows_done)
            threading.Event().wait(0.05)
        else:
            threading.Event().wait(0.05)
        return predict(*arguments, **options)

    monkeypatch.setattr(predictor_module, "make_prediction", slow)
    id_ = sent(store, predictor, JSON, json.dumps(records).encode())
    assert runner.run_next()
    assert is_deleted.is_set()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert store.get(id_) is None
    assert all(store.size(id_, name) is None for name in (*RESULTS, "body"))


def test_a_job_that_is_deleted_while_its_file_is_read_ends(
    store: Store, predictor: Predictor, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.02)
    runner = Runner(store, predictor, Limits(100_000, 60), problem_of)
    id_ = sent(store, predictor, FILE, csv_of(records[:10]))
    deleted: list[bool] = []
    check = module._Watched.check

    def deleting(self: Any) -> None:
        deleted.append(deleted == [] and store.delete(id_))
        threading.Event().wait(0.1)
        check(self)

    monkeypatch.setattr(module._Watched, "check", deleting)
    assert runner.run_next()
    assert deleted[0]
    assert len(deleted) < 5  # of more than ten rows
    assert store.get(id_) is None


def test_a_worker_that_is_told_to_stop_gives_its_job_back(
    store: Store, predictor: Predictor, records: list[dict[str, Any]]
) -> None:
    calls: list[int] = []
    runner = Runner(store, predictor, Limits(1000, 60), problem_of, lambda: len(calls) > 3 or bool(calls.append(1)))
    id_ = sent(store, predictor, FILE, csv_of(records[:100]))
    assert runner.run_next()
    job = store.get(id_)
    assert job
    assert (job.state, job.attempts, job.rows_done) == (WAITING, 0, 0)
    assert answered(store, Runner(store, predictor, Limits(1000, 60), problem_of), id_).state == DONE


def test_while_the_models_are_away_a_job_waits_again(
    store: Store, runner: Runner, predictor: Predictor, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = sent(store, predictor, JSON, json.dumps(record).encode())

    def away(*_: Any) -> Any:
        raise StoreAwayError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "resolve", away)
        for _ in range(5):
            with pytest.raises(StoreAwayError):
                runner.run_next()
    job = store.get(id_)
    assert job
    assert (job.state, job.attempts) == (WAITING, 0)
    assert answered(store, runner, id_).state == DONE


def test_a_database_that_goes_away_for_a_moment_does_not_end_a_job(
    store: Store,
    predictor: Predictor,
    records: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictor_module, "PIECE", 100)
    monkeypatch.setattr(module, "BEAT", 0.01)
    runner = Runner(store, predictor, Limits(1000, 60), problem_of)
    failures: list[int] = []
    renew = Store.renew

    def sometimes_away(*arguments: Any) -> None:
        failures.append(1)
        if len(failures) < 4:
            raise JobsAwayError
        renew(*arguments)

    predict = predictor_module.make_prediction

    def slow(*arguments: Any, **options: Any) -> Any:
        threading.Event().wait(0.05)
        return predict(*arguments, **options)

    monkeypatch.setattr(predictor_module, "make_prediction", slow)
    monkeypatch.setattr(Store, "renew", sometimes_away)
    job = answered(store, runner, sent(store, predictor, JSON, json.dumps(records).encode()))
    assert (job.state, job.rows_done) == (DONE, 1000)
    assert len(failures) > 4


def test_a_job_that_ended_its_worker_again_and_again_says_so(
    store: Store, runner: Runner, predictor: Predictor, record: dict[str, Any]
) -> None:
    id_ = sent(store, predictor, JSON, json.dumps(record).encode())
    for _ in range(3):
        assert store.claim(0.001)
        threading.Event().wait(0.01)
    assert not runner.run_next()
    runner.clean()
    job = store.get(id_)
    assert job
    assert job.error
    assert job.error["status"] == 500
    assert re.match(r"The worker stopped 3 times while it worked on this job", job.error["detail"])


def test_a_job_for_which_there_is_no_memory_is_begun_again_and_fails_the_third_time(
    store: Store, runner: Runner, predictor: Predictor, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any, **__: Any) -> None:
        raise NoMemoryError

    monkeypatch.setattr(module, "NO_MEMORY", 0)
    monkeypatch.setattr(predictor, "read_table", ended)
    id_ = sent(store, predictor, FILE, csv_of([record]))
    states = []
    for _ in range(3):
        job = answered(store, runner, id_)
        states.append((job.state, job.attempts, (job.error or {}).get("status")))
    assert states == [(WAITING, 1, None), (WAITING, 2, None), (FAILED, 3, 503)]
    assert not runner.run_next()
