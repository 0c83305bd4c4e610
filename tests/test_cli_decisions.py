"""`tabserve decisions` and `tabserve outcomes`."""

import csv
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tabserve.api.users import Users
from tabserve.cli.commands import tabserve
from tabserve.decisions.accesses import noted
from tabserve.decisions.exporting import export
from tabserve.decisions.reading import Wanted, logged, one
from tabserve.decisions.replay import replay
from tabserve.decisions.retention import DAY
from tabserve.decisions.statistics import statistics
from tabserve.decisions.store import DecisionStore
from tabserve.explain import explain
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tests.conftest import ALICE, write_users
from tests.decisions import (  # noqa: F401 - three are fixtures
    address_of_log,
    decision_store,
    decisions_postgres,
    entry_of,
    fill,
    fill_table,
    id_of,
)

Run = Callable[..., Result]


@pytest.fixture
def log(tmp_path: Path) -> DecisionStore:
    return DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")


@pytest.fixture
def run(trained: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on the log, which succeeds or fails in an expected way."""
    monkeypatch.setenv("DECISION_LOG", f"sqlite:///{tmp_path / 'decisions.db'}")
    monkeypatch.setenv("MODEL_REGISTRY", str(trained.location))
    monkeypatch.setenv("AUTH_USERS_FILE", str(tmp_path / "users.txt"))

    def run(*arguments: str, line: str = "") -> Result:
        result = CliRunner().invoke(tabserve, [*arguments], input=line)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def test_decisions_are_listed_by_time_and_by_what_they_are_about(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    now = time.time()
    times = [now - 3 * DAY, now - DAY, now]
    ids = fill(log, artifact, records[:3], times, keys={"person": [1, 2, 2]}, client="carl")
    table = fill_table(log, artifact, records[:4], now - 2 * DAY, number=9, keys={"person": [None, 2, None, None]})

    def listed(*options: str) -> list[str]:
        result = run("decisions", "find", "--json", *options)
        assert result.exit_code == 0, result.output
        return [line["id"] for line in json.loads(result.stdout)]

    assert listed() == [ids[0], table, *ids[1:]]
    assert listed("--since", "50h") == [table, *ids[1:]]
    assert listed("--where", "person=2") == [f"{table}.1", *ids[1:]]
    assert listed("--client", "carl", "--use-case", "credit", "--model", artifact.model_id) == ids
    assert listed("--use-case", "bikes") == listed("--until", "2020-01-01") == []
    text = run("decisions", "find").output
    assert "4 rows" in text
    assert records[0]["purpose"] not in text
    assert run("decisions", "find", "--since", "soon").exit_code == 2
    actions = [(access.action, access.rows, access.what.get("where")) for access in noted(log)]
    assert actions[2] == ("find", 3, ["person"])


def test_a_decision_is_found_by_the_id_of_its_request(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    (first,) = fill(log, artifact, records[:1], [1.0], request_id="8d0f")
    fill(log, artifact, records[1:2], [2.0], first=5, request_id="8d0e")
    told = run("decisions", "find", "--request-id", "8d0f", "--json")
    assert [line["id"] for line in json.loads(told.output)] == [first]


def test_what_finds_nothing_says_so_and_why(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    fill(log, artifact, records[:1], [1.0], keys={"person": [1]})
    known, unknown = ("--where", "person=2"), ("--where", "purpose=car")
    for command in (["find"], ["erase"], ["export", str(tmp_path / "out.csv"), "--use-case", "credit"]):
        for where, is_unknown in ((known, False), (unknown, True)):
            said = run("decisions", *command, *where)
            assert "still wait for the database" in said.output
            assert ("id column purpose" in said.output) == is_unknown
            assert said.exit_code == (1 if command == ["erase"] else 0), "a person is told that nothing was erased"


def test_accesses_are_told_in_words(run: Run, log: DecisionStore) -> None:
    run("decisions", "find", "--since", "2026-03-01", "--where", "person=2")
    told = run("decisions", "accesses").output
    assert "since 2026-03-01T00:00:00+00:00" in told
    assert "where person" in told


def test_a_terminal_obeys_nothing_that_a_client_sent(run: Run, log: DecisionStore, artifact: Artifact) -> None:
    hostile = {"purpose": "\x1b[2J\x9b31m\u202e\ud800", "\x9b0m": "\u2028\x7f"}
    log.add([entry_of(artifact, id_of(1), 10.0, record=hostile, score=0.5, decision="\x1b[2J\x9b31m\u202e")])
    shown, listed = run("decisions", "show", id_of(1)).output, run("decisions", "find").output
    assert all(letter.isprintable() or letter == "\n" for letter in shown + listed)
    assert json.loads(shown)["record"] == hostile
    assert len(listed.splitlines()) == 2


def test_only_users_with_the_scope_may_look(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    (id_,) = fill(log, artifact, records[:1], [1e9])
    assert run("decisions", "show", id_).exit_code == 0  # there are no users
    write_users(tmp_path / "users.txt", ALICE)
    name, password = ALICE
    for options, line, text in (
        ([], "", "--by NAME"),
        (["--by", name], f"{password}x\n", "wrong"),
        (["--by", "bob"], f"{password}\n", "wrong"),
        (["--by", name], "", "TABSERVE_PASSWORD"),
        (["--by", name], f"{password}\n", "scope `audit`"),
    ):
        for command in (["show", id_], ["find"], ["replay", id_], ["erase", id_, "--yes"], ["accesses"]):
            refused = run("decisions", *command, *options, line=line)
            assert (refused.exit_code, text in refused.output) == (1, True), refused.output
            assert records[0]["purpose"] not in refused.output
    Users(tmp_path / "users.txt").allow(name, ["audit"])
    shown = run("decisions", "show", id_, "--by", name, line=f"{password}\n")
    assert json.loads(shown.output)["record"] == records[0]
    assert run("decisions", "show", id_of(7), "--by", name, line=f"{password}\n").exit_code == 1
    assert run("decisions", "stats").exit_code == 0  # shows no record
    told = json.loads(run("decisions", "accesses", "--json", "--by", name, line=f"{password}\n").output)
    assert [(access["who"], access["action"], access["rows"]) for access in told[1:]] == [
        (name, "show", 1),
        (name, "show", 0),
    ]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_decisions_are_exported_with_records_and_outcomes(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], tmp_path: Path, ending: str
) -> None:
    ids = fill(store, artifact, [records[0], records[1]], [10.0, 20.0], [1, None])
    table = fill_table(store, artifact, records[2:4], 30.0, number=9)
    path = tmp_path / f"out.{ending}"
    assert export(store, Wanted(use_case="credit"), path) == 4
    assert path.stat().st_mode & 0o077 == 0
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    if ending == "csv":
        rows = [*csv.DictReader(io.StringIO(path.read_text(), newline=""))]
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
    assert [row["id"] for row in rows] == [*ids, f"{table}.0", f"{table}.1"]
    assert [row["record.purpose"] for row in rows] == [record["purpose"] for record in records[:4]]
    assert [str(row["outcome"] or "") for row in rows] == ["1", "", "", ""]
    kept = one(store, ids[0])
    assert kept
    assert float(rows[0]["score"]) == kept.entry.score


def test_whole_numbers_of_any_size_are_exported_exactly(
    store: DecisionStore, artifact: Artifact, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    columns = {"small": [1, 0.5], "large": [2**60, 0.5], "larger": [2**60, 1], "largest": [2**64 - 1, 1]}
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    store.add([entry_of(artifact, id_of(at), 10.0 + at, record=record) for at, record in enumerate(records)])
    assert export(store, Wanted(), tmp_path / "out.parquet") == 2
    rows = pq.read_table(tmp_path / "out.parquet").to_pydict()
    read = {name: rows[f"record.{name}"] for name in columns}
    texts = {"large": [str(2**60), "0.5"], "largest": [str(2**64 - 1), "1"]}
    assert read == {**columns, **texts}


def test_records_are_erased_by_id_or_by_an_id_column(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    ids = fill(log, artifact, records[:4], [1.0, 2, 3, 4], keys={"person": [1, 2, 2, 3]})
    assert run("decisions", "erase", ids[0], line="n\n").exit_code == 1
    assert run("decisions", "erase", ids[0], line="y\n").exit_code == 0
    assert run("decisions", "erase", "--where", "person=2", "--yes").exit_code == 0
    assert [id_ for batch in logged(log, "credit") for id_ in batch.ids] == ids[3:]
    again = run("decisions", "erase", ids[0], "--yes")
    assert (again.exit_code, "1 id." in again.output) == (1, True)
    assert run("decisions", "erase", "--yes").exit_code == 2
    assert [(access.action, access.rows) for access in noted(log)] == [("erase", 1), ("erase", 2), ("erase", 0)]
    assert "erased" in run("decisions", "find").output


def test_a_decision_is_replayed_to_the_last_bit(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], trained: Registry
) -> None:
    (explanation,) = explain(artifact, records[:1])
    reasons = [reason.to_json() for reason in explanation.reasons]
    (id_,) = fill(log, artifact, records[:1], [1.0], reasons=reasons, threshold=artifact.decision.cut)
    table = fill_table(log, artifact, records[:500], 2.0, number=9, threshold=artifact.decision.cut)
    said = run("decisions", "replay", id_)
    assert (said.exit_code, "same score, decision and reasons" in said.output) == (0, True)
    for row in (0, 77, 499):
        said = run("decisions", "replay", f"{table}.{row}")
        assert (said.exit_code, "the log has no reasons for it" in said.output) == (0, True)
    kept = one(log, id_)
    assert kept
    entry = kept.entry
    for changed, text in (
        ({"score": math.nextafter(entry.score, 1)}, "score"),
        ({"decision": 1 - entry.decision}, "decision"),
        ({"threshold": 0.5}, "threshold"),
        ({"reasons": reasons[1:]}, "reasons"),
        ({"digest": "00"}, "digest"),
        ({"model_id": "credit-lightgbm_v1.0.0-1.2"}, "not in the registry"),
        ({"record": {}}, "holds no record"),
        ({"record": {**entry.record, "age": "x"}}, "not valid"),
    ):
        (difference, *_) = replay(trained, replace(entry, **changed))
        assert text in difference
    assert run("decisions", "replay", table).exit_code == 1


def test_a_library_that_differs_is_named(
    log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], trained: Registry, monkeypatch
) -> None:
    from tabserve.decisions import replay as module
    from tabserve.registry import registry as registry_module

    (id_,) = fill(log, artifact, records[:1], [1.0])
    kept = one(log, id_)
    assert kept
    version = module.version
    for where in (module, registry_module):
        monkeypatch.setattr(where, "version", lambda name: "9.9" if name == "lightgbm" else version(name))
    differences = replay(trained, kept.entry)
    assert any("lightgbm was" in text and "is 9.9 here" in text for text in differences)


def test_statistics_count_by_day_use_case_and_model(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    assert statistics(store)["days"] == []
    fill(store, artifact, records[:3], [1e9, 1e9 + 1, 1e9 + DAY])
    fill_table(store, artifact, records[:5], 1e9, number=9)
    counted = statistics(store)
    days = [(one["day"], one["kind"], one["entries"], one["records"]) for one in counted["days"]]
    assert days == [("2001-09-09", "decision", 2, 2), ("2001-09-09", "table", 1, 5), ("2001-09-10", "decision", 1, 1)]
    assert counted["oldest"] == "2001-09-09T01:46:40+00:00"
    assert counted["bytes"] > 0


def test_what_is_old_is_deleted_when_that_is_set(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], monkeypatch
) -> None:
    fill(log, artifact, records[:2], [time.time() - 40 * DAY, time.time()])
    assert run("decisions", "expire").exit_code == 2
    monkeypatch.setenv("DECISION_RETENTION", "30d")
    assert "Deleted: 1." in run("decisions", "expire").output


def test_outcomes_are_imported_from_a_file(
    run: Run, log: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    ids = fill(log, artifact, records[:2], [1.0, 2.0])
    file = tmp_path / "outcomes.csv"
    file.write_text(f"id;outcome\n{ids[0]};1\n{ids[1]};2\n")
    imported = run("outcomes", "import", str(file), "--json")
    assert (imported.exit_code, json.loads(imported.output)["recorded"]) == (0, 2)
    (batch,) = logged(log, "credit", with_outcomes=True)
    assert batch.outcomes == [1, 2]
    file.write_text(f"id;outcome\n{ids[0]};2\n{ids[1]};7\n")
    again = run("outcomes", "import", str(file))
    assert again.exit_code == 1
    assert "1 contradicting" in again.output
    assert "row 3: " in again.output
    assert "1 corrected" in run("outcomes", "import", str(file), "--correct").output


def test_without_a_log_it_is_said_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DECISION_LOG")
    (tmp_path / "outcomes.csv").touch()
    for command in (["decisions", "find"], ["outcomes", "import", str(tmp_path / "outcomes.csv")]):
        said = run(*command)
        assert (said.exit_code, "DECISION_LOG=on" in said.output) == (1, True)
