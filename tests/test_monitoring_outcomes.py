"""Outcomes: joined to decisions by their ids or by an id column; late, repeated and contradicting ones."""

import threading
import time
from typing import Any

import pytest

from tabserve.columns.features import Category, Feature
from tabserve.decisions.entry import SHADOW, TABLE
from tabserve.decisions.erasing import erase
from tabserve.decisions.reading import logged, one
from tabserve.decisions.store import DecisionStore
from tabserve.decisions.tables import written
from tabserve.monitoring import outcomes as module
from tabserve.monitoring.outcomes import MOST_PROBLEMS, Counts, Given, Outcomes
from tabserve.registry.artifact import Artifact
from tests.decisions import (  # noqa: F401 - three are fixtures
    address_of_log,
    decision_store,
    decisions_postgres,
    entry_of,
    fill,
    fill_table,
    id_of,
)

TARGET = Category(name="default", values=("no", "yes"))


@pytest.fixture
def reports(store: DecisionStore) -> Outcomes:
    def target_of(model_id: str) -> Feature:
        return TARGET

    return Outcomes(store, target_of)


def counted(**counts: Any) -> Counts:
    return Counts(**counts)


def test_the_first_outcome_counts_unless_it_is_corrected(
    store: DecisionStore, reports: Outcomes, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    a, b, c = fill(store, artifact, records[:3], [10.0, 20, 30])
    assert reports.record([Given(a, "no"), Given(b, "yes")], client="alice") == counted(recorded=2)
    assert reports.record([Given(a, "no"), Given(c, "no"), Given(c, "no")]) == counted(recorded=1, repeated=2)
    assert reports.record([Given(a, "yes"), Given(b, "yes")], client="bob") == counted(contradicting=1, repeated=1)
    kept = one(store, a)
    assert kept
    assert kept.outcome
    assert (kept.outcome.outcome, kept.outcome.client) == ("no", "alice")
    assert (kept.outcome.reports, kept.outcome.contradicted) == (3, 1)
    assert abs(kept.outcome.time - time.time()) < 60
    assert reports.record([Given(a, "yes")], client="bob", correct=True) == counted(corrected=1)
    kept = one(store, a)
    assert kept
    assert kept.outcome
    assert (kept.outcome.outcome, kept.outcome.client, kept.outcome.contradicted) == ("yes", "bob", 2)
    (batch,) = logged(store, "credit", with_outcomes=True)
    assert batch.outcomes == ["yes", "yes", "no"]


def test_rows_of_tables_have_outcomes_of_their_own(
    store: DecisionStore, reports: Outcomes, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    table = fill_table(store, artifact, records[:3], 10.0)
    given = [Given(f"{table}.2", "yes"), Given(f"{table}.0", "no"), Given(f"{table}.3", "no"), Given(table, "no")]
    assert reports.record(given) == counted(recorded=2, unknown=2)
    (batch,) = logged(store, "credit", with_outcomes=True)
    assert batch.outcomes == ["no", None, "yes"]


def test_rows_that_were_at_fault_have_no_outcomes_and_those_after_them_have(
    store: DecisionStore, reports: Outcomes, artifact: Artifact
) -> None:
    decisions = [None, None, 1, 0]
    content = b"".join(written({"age": [None, None, 30, 40]}, [None, None, 0.5, 0.25], decisions))
    store.add([entry_of(artifact, id_of(1), 10.0, kind=TABLE, rows=2)], {id_of(1): content})
    given = [Given(f"{id_of(1)}.{row}", "yes") for row in range(5)]
    assert reports.record(given) == counted(recorded=2, unknown=3)
    (batch,) = logged(store, "credit", with_outcomes=True)
    assert (batch.ids, batch.outcomes) == ([f"{id_of(1)}.2", f"{id_of(1)}.3"], ["yes", "yes"])


def test_what_is_unknown_or_invalid_is_counted_and_the_rest_recorded(
    store: DecisionStore, reports: Outcomes, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    ids = fill(store, artifact, records[:4], [10.0, 20, 30, 40])
    store.add([entry_of(artifact, id_of(90), 50.0, kind=SHADOW, record={}, score=0.5, answers=ids[0])])
    erase(store, ids[3:])
    given = [
        *(Given(id_, "yes") for id_ in (id_of(99), id_of(90), ids[3], f"{ids[0]}.0", "x", "", 7, None, ["x"])),
        *(Given(ids[0], outcome) for outcome in (None, "maybe", 1, ["no"], {})),
        Given(ids[0], "no"),
    ]
    counts = reports.record(given)
    assert (counts.unknown, counts.invalid, counts.recorded) == (9, 5, 1)
    assert [*counts.problems] == [9, 10, 11, 12, 13]
    assert "maybe" not in repr(counts.problems)
    many = reports.record([Given(ids[0], "maybe")] * 700)
    assert (many.invalid, [*many.problems]) == (700, [*range(MOST_PROBLEMS)])


def test_an_outcome_by_an_id_column_is_that_of_every_decision_about_the_record(
    store: DecisionStore, reports: Outcomes, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    fill(store, artifact, records[:4], [10.0, 20, 30, 40], keys={"person": [1, 2, 1, None]})
    fill_table(store, artifact, records[:3], 25.0, number=50, keys={"person": ["1", "7", None]})
    given = [Given(1, "no"), Given("7", "yes"), Given(8, "yes"), Given(None, "yes")]
    assert reports.record(given, use_case="credit", column="person") == counted(recorded=4, unknown=2)
    batches = [*logged(store, "credit", with_outcomes=True)]
    assert [outcome for batch in batches for outcome in batch.outcomes] == ["no", None, "no", "yes", None, "no", None]
    assert reports.record(given, use_case="bikes", column="person") == counted(unknown=4)
    again = [Given(1.0, "yes")]
    assert reports.record(again, use_case="credit", column="person") == counted(contradicting=3)


def test_no_outcome_of_an_erased_record_stays(
    store: DecisionStore, reports: Outcomes, artifact: Artifact, records: list[dict[str, Any]], log_address: str
) -> None:
    (id_,) = fill(store, artifact, records[:1], [10.0])
    other, write = DecisionStore(log_address), module._write
    with other.database.reading():  # opens it
        pass
    erasing = threading.Thread(target=erase, args=(other, [id_]))

    def begin_to_erase(*arguments: Any) -> None:
        erasing.start()
        erasing.join(1)
        write(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_write", begin_to_erase)
        reports.record([Given(id_, "yes")])
    erasing.join()
    other.database.close()
    kept = one(store, id_)
    assert kept
    assert kept.erased
    assert kept.outcome is None


def test_many_outcomes_are_recorded_in_batches(
    store: DecisionStore, reports: Outcomes, artifact: Artifact, record: dict[str, Any]
) -> None:
    ids = [id_of(number) for number in range(1200)]
    store.add([entry_of(artifact, id_, 10.0, record=record, score=0.5, decision=0) for id_ in ids])
    given = [Given(id_, "no") for id_ in (*ids, *ids[:100])]
    assert reports.record(given) == counted(recorded=1200, repeated=100)
