"""Errors: each is a problem response, and none reveals more than it should."""

import inspect
import logging
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from werkzeug.exceptions import TooManyRequests, Unauthorized

import tabserve.errors
from tabserve.api.errors import (
    PROBLEM_TYPE,
    STATUS,
    LargeTableError,
    init_app,
    problem,
)
from tabserve.api.threads import BusyError
from tabserve.api.users import UsersFileError
from tabserve.errors import Fault, InvalidFieldsError, TabserveError
from tests.conftest import ROOT

SECRET = "Grete Muster, 35, /srv/grete/loan.xlsx"

# raised in training and commands only, or turned into an error of STATUS before a client sees it
NOT_FOR_CLIENTS = {
    tabserve.errors.NotFittedError,
    tabserve.errors.InvalidUseCaseError,
    tabserve.errors.InvalidRecordsError,
    tabserve.errors.InvalidSettingError,
    tabserve.errors.TooFewRowsError,
    tabserve.errors.InvalidTargetError,
    tabserve.errors.UnknownAlgorithmError,
    tabserve.errors.UniformTargetError,
    tabserve.errors.UniformTimeError,
    tabserve.errors.WarnedError,
    tabserve.errors.NoEarlierChampionError,
    tabserve.errors.UnknownExecutorError,
    tabserve.errors.ClusterAwayError,
    tabserve.errors.DifferentVersionsError,
    tabserve.errors.LostWorkerError,
    tabserve.errors.InterruptedTrainingError,
    tabserve.errors.DatabaseError,
    tabserve.errors.ScoringError,
    tabserve.errors.BusyDestinationError,
    tabserve.errors.RefusedRowsError,
    tabserve.errors.DraftError,
    tabserve.errors.UnavailableError,  # one of its subclasses is raised
    tabserve.errors.UnsavedError,
    tabserve.errors.NoRoomError,
    tabserve.errors.MissingExtraError,
    tabserve.errors.NoEarlierChampionError,
    tabserve.errors.LostJobError,
    tabserve.errors.BusyHistoryError,
    tabserve.errors.DivergedHistoryError,
    tabserve.errors.UnsignedHistoryError,
    tabserve.errors.InvalidSplitError,
    tabserve.errors.NotApprovedError,
    tabserve.errors.ReasonNeededError,
    tabserve.errors.NothingLoggedError,
}
EVERY_STATUS = [
    (tabserve.errors.InvalidBodyError("The body is not JSON."), 400),
    (tabserve.errors.NothingToPredictError(), 400),
    (tabserve.errors.UnknownModelError(), 404),
    (tabserve.errors.UnknownUseCaseError(["bikes", "credit"]), 404),
    (tabserve.errors.NoDefaultUseCaseError(["churn", "loans"]), 404),
    (tabserve.errors.UnapprovedModelError("credit-x"), 404),
    (tabserve.errors.NoApprovedModelError("credit"), 503),
    (tabserve.errors.NoHoldOutError(), 404),
    (LargeTableError(10_000), 413),
    (tabserve.errors.UnknownJobError(), 404),
    (tabserve.errors.NoResultError(), 404),
    (tabserve.errors.AbandonedJobError(3), 500),
    (tabserve.errors.TooManyJobsError("100 jobs are waiting already."), 503),
    (tabserve.errors.JobsAwayError(), 503),
    (tabserve.errors.DecisionLogAwayError(), 503),
    (tabserve.errors.NoDecisionLogError(), 501),
    (tabserve.errors.UnknownDecisionError(), 404),
    (tabserve.errors.DecisionLogFullError(), 503),
    (tabserve.errors.NewerDecisionLogError(), 503),
    (tabserve.errors.NoMemoryError(), 503),
    (tabserve.errors.TooManyRowsError(5), 413),
    (tabserve.errors.FileLimitError("Too wide."), 413),
    (tabserve.errors.UnsupportedFileError("Neither."), 415),
    (InvalidFieldsError({"age": ["Not a valid integer."]}), 422),
    (tabserve.errors.InvalidTableError("a.csv", [Fault("age", "Not a valid integer.", 2, SECRET)]), 422),
    (tabserve.errors.NotExplainableError("SVR", "its kernel has no such sum"), 501),
    (tabserve.errors.NoModelError("credit"), 503),
    (tabserve.errors.BrokenArtifactError("credit-x", "a byte was changed"), 503),
    (tabserve.errors.StoreAwayError("EndpointConnectionError"), 503),
    (BusyError(), 503),
    (UsersFileError("line 7 is not a name, a colon and an argon2id hash"), 503),
]


class Raiser:
    """A service whose only route raises a given exception."""

    def __init__(self) -> None:
        self.error: BaseException = RuntimeError()
        app = APIFlask(__name__, enable_openapi=False)
        init_app(app)

        @app.get("/")
        def view() -> Any:
            raise self.error

        self.client: FlaskClient = app.test_client()

    def answer(self, error: Exception) -> Any:
        self.error = error
        return self.client.get("/")


@pytest.fixture
def raiser() -> Raiser:
    return Raiser()


def test_an_unexpected_exception_is_a_500_that_tells_nothing(raiser: Raiser) -> None:
    answer = raiser.answer(RuntimeError(SECRET))
    assert answer.status_code == 500
    assert answer.content_type == PROBLEM_TYPE
    assert answer.json == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "Something went wrong here; it has been logged.",
    }


def test_an_unexpected_exception_is_logged_with_its_place_but_neither_message_nor_path(
    raiser: Raiser, caplog: pytest.LogCaptureFixture
) -> None:
    raiser.answer(KeyError(SECRET))
    (line,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "KeyError" in line.getMessage()
    assert f"{__name__.rpartition('.')[2]}.view" in line.getMessage()
    assert SECRET not in caplog.text
    assert str(ROOT) not in caplog.text
    assert "/" not in line.getMessage()
    assert line.exc_info is None


def test_every_exception_of_src_has_a_status_or_never_reaches_a_client() -> None:
    exceptions = {
        thing
        for _, thing in inspect.getmembers(tabserve.errors, inspect.isclass)
        if issubclass(thing, TabserveError) and thing is not TabserveError
    }
    assert exceptions - NOT_FOR_CLIENTS == exceptions & STATUS.keys()
    assert not NOT_FOR_CLIENTS & STATUS.keys()


@pytest.mark.parametrize(("error", "status"), EVERY_STATUS, ids=lambda value: type(value).__name__)
def test_an_expected_exception_is_a_problem_of_its_status(raiser: Raiser, error: Exception, status: int) -> None:
    answer = raiser.answer(error)
    assert answer.status_code == status
    assert answer.content_type == PROBLEM_TYPE
    assert (
        {"type", "title", "status", "detail"} <= answer.json.keys() <= {"type", "title", "status", "detail", "errors"}
    )
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["detail"]


def test_the_table_of_statuses_is_tested_in_full() -> None:
    assert {type(error) for error, _ in EVERY_STATUS} == STATUS.keys()


def test_fields_and_rows_at_fault_are_given(raiser: Raiser) -> None:
    assert raiser.answer(InvalidFieldsError({"age": ["Bad."]})).json["errors"] == {"age": ["Bad."]}


def test_a_file_at_fault_is_described_by_row_and_column_without_its_values(raiser: Raiser) -> None:
    faults = [Fault("age", "Not a valid integer.", 7, SECRET), Fault("job", "This column is missing.")]
    answer = raiser.answer(tabserve.errors.InvalidTableError(f"{SECRET}.csv", faults))
    assert answer.json["errors"] == {"age": ["Row 7: Not a valid integer."], "job": ["This column is missing."]}
    assert "Muster" not in answer.text


def test_a_long_column_name_is_not_given_back_in_full(raiser: Raiser) -> None:
    answer = raiser.answer(
        tabserve.errors.InvalidTableError("a.csv", [Fault("x" * 100_000, "There is no such column.")])
    )
    assert answer.status_code == 422
    assert len(answer.text) < 1000


def test_an_expected_exception_without_a_status_is_a_500_that_tells_nothing(raiser: Raiser) -> None:
    answer = raiser.answer(tabserve.errors.InvalidTargetError(SECRET))
    assert answer.status_code == 500
    assert "Muster" not in answer.text


def test_headers_that_belong_to_a_status_are_kept(raiser: Raiser) -> None:
    assert raiser.client.post("/").status_code == 405
    assert "GET" in raiser.client.post("/").headers["Allow"]
    assert raiser.answer(TooManyRequests(retry_after=7)).headers["Retry-After"] == "7"


def test_an_answer_that_an_exception_brings_is_given_as_it_is(raiser: Raiser) -> None:
    answer = raiser.answer(TooManyRequests(response=problem(429, "Come again.", headers={"Retry-After": "7"})))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert answer.content_type == PROBLEM_TYPE
    assert answer.json["detail"] == "Come again."


def test_an_http_exception_is_a_problem_of_its_status(raiser: Raiser) -> None:
    answer = raiser.answer(Unauthorized("Who are you?"))
    assert answer.status_code == 401
    assert answer.content_type == PROBLEM_TYPE
    assert answer.json["detail"] == "Who are you?"


def test_a_fault_of_a_whole_file_is_a_sentence_without_a_place() -> None:
    error = tabserve.errors.InvalidTableError("a.csv", [Fault(None, "It has no sheet 'x'.")])
    assert str(error).splitlines() == ["a.csv: 1 fault(s)", "  It has no sheet 'x'."]
