"""The store of jobs, in SQLite and in PostgreSQL: each job is done once, and nothing is kept for longer than needed."""

import logging
import secrets
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sql
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tabserve.errors import JobsAwayError, LostJobError, TooManyJobsError
from tabserve.jobs import store as module
from tabserve.jobs.job import DONE, FAILED, FILE, RUNNING, WAITING, Claim, Order, is_id
from tabserve.jobs.store import MOST_ATTEMPTS, MOST_OF_ONE, MOST_WAITING, Store
from tests.conftest import ROOT
from tests.postgres import new_database, running_postgres

SECRET = "hunter2-of-the-jobs"
MARKER = b"Xylophone4711"
PROBLEM = {"status": 500, "title": "Internal Server Error", "detail": "Gone."}


def order(client: str = "address 127.0.0.1", owner: str = "") -> Order:
    return Order(owner=owner, client=client, model_id="credit-lightgbm_v1-1.2", kind=FILE, partial=True)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres("worker", SECRET) as port:
        yield f"postgresql://worker:{SECRET}@127.0.0.1:{port}"


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def open_store(address: str) -> Iterator[Callable[[], Store]]:
    """Makes stores of one database, as several processes do."""
    stores: list[Store] = []

    def make() -> Store:
        stores.append(Store(address, 24))
        return stores[-1]

    yield make
    for one in stores:
        one._database.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def claimed(store: Store, lease: float = 60) -> Claim:
    claim = store.claim(lease)
    assert claim
    return claim


def turn_clock(store: Store, seconds: float) -> None:
    """Let a store believe that so many seconds have passed."""
    store.clock = store.clock + seconds


def test_a_job_waits_runs_and_is_done(store: Store) -> None:
    id_ = store.add(order(), [b"a,b\n", b"1,2\n"])
    assert is_id(id_)
    waiting = store.get(id_)
    assert waiting
    assert (waiting.state, waiting.rows, waiting.rows_done, waiting.started) == (WAITING, None, 0, None)
    assert store.states() == {WAITING: 1, RUNNING: 0, DONE: 0, FAILED: 0}
    assert (waiting.model_id, waiting.kind, waiting.partial) == ("credit-lightgbm_v1-1.2", FILE, True)

    claim = claimed(store)
    assert claim.job.id == id_
    assert b"".join(store.read(id_, "body")) == b"a,b\n1,2\n"
    store.renew(claim, 60, rows=10, rows_done=4)
    running = store.get(id_)
    assert running
    assert (running.state, running.rows, running.rows_done, running.expires) == (RUNNING, 10, 4, None)
    assert running.started
    assert running.started >= running.created

    store.write(claim, "csv", [b"result"])
    store.finish(claim, 10, {"errors": None, "auc_score": 0.5})
    done = store.get(id_)
    assert done
    assert (done.state, done.rows, done.rows_done) == (DONE, 10, 10)
    assert done.summary == {"errors": None, "auc_score": 0.5}
    assert done.finished
    assert done.expires == pytest.approx(done.finished + 24 * 3600, abs=1)
    assert (store.size(id_, "csv"), b"".join(store.read(id_, "csv"))) == (6, b"result")
    assert store.claim(60) is None


def test_a_body_is_deleted_as_soon_as_its_job_has_finished(store: Store) -> None:
    for end in (lambda claim: store.finish(claim, 1, {}), lambda claim: store.fail(claim, PROBLEM)):
        id_ = store.add(order(), [MARKER])
        claim = claimed(store)
        assert store.size(id_, "body") == len(MARKER)
        end(claim)
        assert store.size(id_, "body") is None


def test_a_job_that_fails_has_an_error_and_no_result(store: Store) -> None:
    id_ = store.add(order(), [b"x"])
    claim = claimed(store)
    store.write(claim, "csv", [b"half"])
    store.fail(claim, PROBLEM)
    job = store.get(id_)
    assert job
    assert (job.state, job.error, store.size(id_, "csv")) == (FAILED, PROBLEM, None)
    assert job.expires


def test_the_job_that_has_waited_longest_is_taken_first(store: Store) -> None:
    ids = [store.add(order(), [b"x"]) for _ in range(3)]
    assert [claimed(store).job.id for _ in ids] == ids


def test_files_longer_than_a_part_are_kept_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 10)
    content = bytes(range(256))
    for pieces in ([content], [content[:7], content[7:200], content[200:]], [bytes([one]) for one in content]):
        id_ = store.add(order(), pieces)
        assert b"".join(store.read(id_, "body")) == content
        assert max(map(len, store.read(id_, "body"))) == 10
        store.delete(id_)
    id_ = store.add(order(), [])
    assert (store.size(id_, "body"), b"".join(store.read(id_, "body"))) == (0, b"")


def test_a_job_whose_lease_is_over_is_taken_by_another_worker(open_store: Callable[[], Store]) -> None:
    store, other = open_store(), open_store()
    id_ = store.add(order(), [b"x"])
    first = claimed(store, 60)
    store.write(first, "csv", [b"first"])
    assert other.claim(60) is None
    store.renew(first, 120)
    turn_clock(other, 61)
    assert other.claim(60) is None
    turn_clock(other, 60)
    second = claimed(other, 60)
    assert (second.job.id, second.job.attempts, second.token != first.token) == (id_, 2, True)
    assert store.size(id_, "csv") is None
    # whoever was thought dead writes nothing more
    for write in (
        lambda: store.renew(first, 60),
        lambda: store.write(first, "csv", [b"late"]),
        lambda: store.finish(first, 1, {}),
        lambda: store.fail(first, PROBLEM),
        lambda: store.release(first),
    ):
        with pytest.raises(LostJobError):
            write()
    assert (store.size(id_, "csv"), store.size(id_, "body")) == (None, 1)
    other.finish(second, 1, {})


def test_a_job_that_is_given_back_waits_again_as_if_it_had_not_begun(store: Store) -> None:
    id_ = store.add(order(), [b"x"])
    for _ in range(MOST_ATTEMPTS + 1):
        claim = claimed(store)
        store.write(claim, "csv", [b"half"])
        store.release(claim)
        job = store.get(id_)
        assert job
        assert (job.state, job.attempts, job.started, store.size(id_, "csv")) == (WAITING, 0, None, None)
        assert job.expires


def test_a_job_that_ended_its_worker_three_times_fails(store: Store) -> None:
    id_ = store.add(order(), [b"x"])
    for _ in range(MOST_ATTEMPTS):
        store.give_up(PROBLEM)
        claimed(store, 1)
        turn_clock(store, 2)
    assert store.claim(60) is None
    store.give_up(PROBLEM)
    job = store.get(id_)
    assert job
    assert (job.state, job.error, store.size(id_, "body")) == (FAILED, PROBLEM, None)


def test_a_deleted_job_is_gone_with_all_that_it_held(store: Store) -> None:
    id_ = store.add(order(), [b"x"])
    claim = claimed(store)
    store.write(claim, "csv", [b"half"])
    assert store.delete(id_)
    assert not store.delete(id_)
    assert (store.get(id_), store.size(id_, "body"), store.size(id_, "csv")) == (None, None, None)
    with pytest.raises(LostJobError):
        store.write(claim, "xlsx", [b"more"])
    assert store.size(id_, "xlsx") is None


def test_jobs_expire_whether_they_were_answered_or_not(store: Store) -> None:
    waiting, done = store.add(order(), [b"x"]), store.add(order(), [b"x"])
    store.release(claimed(store))
    first, second = claimed(store), claimed(store)
    store.finish(second, 1, {})
    store.release(first)
    turn_clock(store, 24 * 3600 - 5)
    store.clean()
    assert store.get(waiting)
    assert store.get(done)
    turn_clock(store, 10)
    assert (store.get(waiting), store.get(done)) == (None, None)
    assert store.size(done, "body") is None
    assert store.size(waiting, "body") == 1
    store.clean()
    assert store.size(waiting, "body") is None


def test_only_so_many_jobs_may_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 5)
    monkeypatch.setattr(module, "MOST_OF_ONE", 3)
    ids = [store.add(order("user alice"), [b"x"]) for _ in range(3)]
    with pytest.raises(TooManyJobsError, match="3 of your jobs are waiting already"):
        store.add(order("user alice"), [b"x"])
    for _ in range(2):
        store.add(order("user bob"), [b"x"])
    with pytest.raises(TooManyJobsError, match="5 jobs are waiting already"):
        store.add(order("user carol"), [b"x"])
    store.delete(ids[0])
    store.add(order("user carol"), [b"x"])
    assert (MOST_WAITING, MOST_OF_ONE) == (100, 10)


def test_only_so_many_bytes_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    id_ = store.add(order(), [bytes(100)])
    with pytest.raises(TooManyJobsError, match="delete jobs"):
        store.add(order(), [b"x"])
    store.delete(id_)
    store.add(order(), [b"x"])


def test_jobs_leave_room_on_the_disk_so_that_others_can_be_read_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'jobs.db'}", 24)
    id_ = store.add(order(), [b"a table"])
    monkeypatch.setattr(module, "SPARE", 10**18)
    with pytest.raises(TooManyJobsError, match="disk of jobs is nearly full"):
        store.add(order(), [b"x"])
    with pytest.raises(JobsAwayError):
        store.write(claimed(store), "csv", [b"x"])
    assert store.get(id_)
    assert store.delete(id_)
    monkeypatch.undo()
    assert store.add(order(), [b"x"])


def test_many_workers_at_once_take_each_job_once(open_store: Callable[[], Store]) -> None:
    store = open_store()
    ids = [store.add(order(f"address {number % 4}"), [b"x"]) for number in range(20)]

    def work(worker: Store) -> list[str]:
        taken = []
        while claim := worker.claim(60):
            worker.write(claim, "csv", [b"x"])
            worker.finish(claim, 1, {})
            taken.append(claim.job.id)
        return taken

    workers = [open_store() for _ in range(4)]
    with ThreadPoolExecutor(len(workers)) as pool:
        taken = [id_ for some in pool.map(work, workers) for id_ in some]
    assert sorted(taken) == sorted(ids)


def test_processes_that_use_a_new_database_at_once_make_its_tables_once(address: str, tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from tabserve.jobs.job import FILE, Order
from tabserve.jobs.store import Store
store = Store({address!r}, 1)
print("ready", flush=True)
sys.stdin.readline()
store.add(Order(owner="", client=sys.argv[1], model_id="x", kind=FILE, partial=False), [b"x"])
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    store = Store(address, 1)
    assert [claimed(store).job.attempts for _ in processes] == [1, 1, 1, 1]
    assert store.claim(60) is None
    store._database.close()


class Lifes(RuleBasedStateMachine):
    """Workers take jobs, renew, fall silent, wake up again and finish, in any order."""

    @initialize(folder=st.builds(lambda: secrets.token_hex(8)))
    def open(self, folder: str) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{self.folder.name}/jobs.db", 24)
        self.now = 1000.0
        self.store.clock = sql.literal(self.now, sql.Double)
        self.jobs: set[str] = set()
        self.claims: list[tuple[Claim, float]] = []  # with the end of their lease
        self.finished: dict[str, int] = {}

    @rule()
    def add(self) -> None:
        if len(self.jobs) < 5:
            self.jobs.add(self.store.add(order(), [b"x"]))

    @rule(lease=st.floats(1, 50))
    def claim(self, lease: float) -> None:
        held = {claim.job.id for claim, end in self.claims if end >= self.now and self._is_last(claim)}
        claim = self.store.claim(lease)
        if claim:
            assert claim.job.id not in held
            assert claim.job.id not in self.finished
            self.claims.append((claim, self.now + lease))

    @rule(seconds=st.floats(0.5, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.store.clock = sql.literal(self.now, sql.Double)

    @rule(place=st.integers(0, 20), lease=st.floats(1, 50))
    def renew(self, place: int, lease: float) -> None:
        if self.claims:
            claim, _ = self.claims[place % len(self.claims)]
            if self._tried(claim, lambda: self.store.renew(claim, lease)):
                self.claims[place % len(self.claims)] = (claim, self.now + lease)

    @rule(place=st.integers(0, 20))
    def finish(self, place: int) -> None:
        if self.claims:
            claim, _ = self.claims[place % len(self.claims)]
            if self._tried(claim, lambda: self.store.finish(claim, 1, {})):
                self.finished[claim.job.id] = self.finished.get(claim.job.id, 0) + 1

    @rule(place=st.integers(0, 20))
    def release(self, place: int) -> None:
        if self.claims:
            claim, _ = self.claims[place % len(self.claims)]
            if self._tried(claim, lambda: self.store.release(claim)):
                del self.claims[place % len(self.claims)]

    @rule()
    def give_up(self) -> None:
        self.store.give_up(PROBLEM)

    @rule(number=st.integers(0, 4))
    def delete(self, number: int) -> None:
        if number < len(self.jobs):
            id_ = sorted(self.jobs)[number]
            assert self.store.delete(id_)
            self.jobs.remove(id_)

    def _is_last(self, claim: Claim) -> bool:
        return [one for one, _ in self.claims if one.job.id == claim.job.id][-1] is claim

    def _tried(self, claim: Claim, write: Callable[[], None]) -> bool:
        try:
            write()
        except LostJobError:
            return False
        assert self._is_last(claim)  # nobody but whoever took the job last may write
        assert claim.job.id in self.jobs
        return True

    @invariant()
    def each_job_is_finished_at_most_once_and_keeps_no_body_then(self) -> None:
        for id_ in getattr(self, "jobs", ()):
            job = self.store.get(id_)
            assert job
            assert self.finished.get(id_, 0) == (job.state == DONE) <= 1
            assert (self.store.size(id_, "body") is None) is (job.state in (DONE, FAILED))
            assert job.attempts <= MOST_ATTEMPTS

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestLifes = Lifes.TestCase
TestLifes.settings = hypothesis.settings(max_examples=15, stateful_step_count=30)


# SQLite's file


def test_nobody_else_may_read_the_file_or_its_log(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'jobs.db'}", 24)
    store.add(order(), [MARKER])
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as held:
        held.execute("select * from tabserve_jobs").fetchall()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}


def test_what_was_deleted_stands_nowhere_in_the_file(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'jobs.db'}", 24)
    id_ = store.add(order(), [MARKER * 1000])
    store.write(claimed(store), "csv", [MARKER * 100_000])

    def holds_it() -> bool:
        return any(MARKER in path.read_bytes() for path in tmp_path.iterdir())

    assert holds_it()
    large = (tmp_path / "jobs.db").stat().st_size
    store.delete(id_)
    store.clean()
    assert not holds_it()
    assert (tmp_path / "jobs.db").stat().st_size < large / 2


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = Store(f"sqlite:///{path}", 24)
    id_ = store.add(order(), [b"x"])
    for file in tmp_path.iterdir():
        file.unlink()
    assert store.get(id_) is None
    assert store.get(store.add(order(), [b"x"]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# a database that is away


@pytest.mark.parametrize(
    "away",
    ["sqlite:////nowhere/at/all/jobs.db", f"postgresql://alice:{SECRET}@127.0.0.1:1/jobs"],
)
def test_a_database_that_is_away_is_said_once_and_without_its_password(
    away: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(away, 24)
    for ask in (lambda: store.get("x"), lambda: store.add(order(), [b"x"]), lambda: store.claim(1)):
        with pytest.raises(JobsAwayError) as error:
            ask()
        assert str(error.value) == "The database of jobs cannot be used at the moment; try again later."
    (line,) = caplog.messages
    assert line.startswith("the database of jobs cannot be used: ")
    assert SECRET not in line
    assert "/" not in line


def test_a_database_that_comes_back_is_used_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = Store(f"sqlite:///{tmp_path / 'later' / 'jobs.db'}", 24)
    with pytest.raises(JobsAwayError):
        store.get("x")
    (tmp_path / "later").mkdir()
    assert store.get(store.add(order(), [b"x"]))
    assert caplog.messages[-1] == "the database of jobs can be used again"


def test_a_file_that_is_no_database_is_said_to_be_unusable(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(JobsAwayError):
        Store(f"sqlite:///{tmp_path / 'jobs.db'}", 24).get("x")


def test_a_service_that_has_no_jobs_does_not_import_sqlalchemy() -> None:
    code = "import application, tabserve.jobs.job, sys; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
