"""The runner: takes jobs from the store, one at a time, and answers them as a request would be answered."""

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tabserve.decisions.ids import id_of
from tabserve.decisions.log import DecisionLog, Origin
from tabserve.errors import AbandonedJobError, JobsAwayError, LostJobError, NoMemoryError, StoreAwayError
from tabserve.jobs.job import FILE, HOLD_OUT, RESULTS, Claim, Job
from tabserve.jobs.store import BODY, MOST_ATTEMPTS, Store
from tabserve.predictor import Predictor, TablePrediction, with_columns
from tabserve.registry.artifact import Artifact
from tabserve.tables.json_body import as_list
from tabserve.tables.limits import Deadline
from tabserve.tables.table import Table, row_ranges
from tabserve.tables.writer import written_like

LEASE = 30.0  # seconds for which a job is taken; another worker begins it again when they have passed in silence
NO_MEMORY = 3.0  # seconds before a job for which there was no memory is begun again
LONGEST_RANGES = 2000  # characters that say which numbers the rows of a file have
BEAT = 1.0  # seconds between two signs of life, which tell how far the job is and notice that it was deleted

logger = logging.getLogger(__name__)


class StoppingError(Exception):
    """The worker is to stop: it gives its job back."""


@dataclass(frozen=True)
class Limits:
    """How large a table may be.

    Parameters
    ----------
    max_rows : int
        Most rows.
    seconds : float
        Longest time to read a file.
    """

    max_rows: int
    seconds: float


class Runner:
    """Answers jobs.

    Parameters
    ----------
    store : Store
        Where the jobs are.
    predictor : Predictor
        The models.
    limits : Limits
        How large a table may be.
    problem_of : callable
        Makes what a job says of an error; it logs those that nobody expected.
    is_stopping : callable
        Whether the job that is being answered should be given back.
    lease : float
        Seconds; see `LEASE`.
    log : DecisionLog, optional
        Where what is decided is kept.
    """

    def __init__(
        self,
        store: Store,
        predictor: Predictor,
        limits: Limits,
        problem_of: Callable[[Exception], Mapping[str, Any]],
        is_stopping: Callable[[], bool] = lambda: False,
        lease: float = LEASE,
        log: DecisionLog | None = None,
    ) -> None:
        self._store = store
        self._predictor = predictor
        self._limits = limits
        self._problem_of = problem_of
        self._is_stopping = is_stopping
        self._lease = lease
        self._log = log

    def run_next(self) -> bool:
        """Answer the job that has waited longest; whether there was one.

        Raises
        ------
        JobsAwayError
            When the database of jobs cannot be used. The job is begun again later, by whoever comes first.
        StoreAwayError
            When the models cannot be read. The job waits again.
        """
        claim = self._store.claim(self._lease)
        if claim is None:
            return False
        name = claim.job.id[:6]  # whoever has the whole id may see the job
        logger.info("job %s... begun, attempt %d", name, claim.job.attempts)
        try:
            with _Heart(self._store, claim, self._lease, self._is_stopping) as heart:
                self._answer(claim, heart)
            logger.info("job %s... over", name)
        except LostJobError:
            logger.info("job %s... was deleted, or another worker has it", name)
        except NoMemoryError:
            self._try_again(claim)
        except (StoppingError, StoreAwayError) as reason:
            with suppress(LostJobError):
                self._store.release(claim)
            logger.info("job %s... given back", name)
            if isinstance(reason, StoreAwayError):
                raise
        return True

    def _try_again(self, claim: Claim) -> None:
        """Give a job back for which there was no memory, after a pause; the last time it fails."""
        logger.warning("job %s... found no memory, attempt %d", claim.job.id[:6], claim.job.attempts)
        with suppress(LostJobError):
            if claim.job.attempts < MOST_ATTEMPTS:
                self._store.release(claim, counts=True)
                time.sleep(NO_MEMORY)
            else:
                self._store.fail(claim, self._problem_of(NoMemoryError()))

    def clean(self) -> None:
        """Delete what has expired, and let jobs fail that ended their worker again and again."""
        self._store.give_up(self._problem_of(AbandonedJobError(MOST_ATTEMPTS)))
        self._store.clean()

    def _answer(self, claim: Claim, heart: "_Heart") -> None:
        try:
            answer = self._predict(claim.job, heart)
            for kind in RESULTS:
                self._store.write(claim, kind, heart.watching(_written(kind, claim.job, answer)))
            summary = {**_summary(claim.job, answer), **self._kept(claim.job, answer)}
            self._store.finish(claim, len(answer.table.records), summary)
        except (JobsAwayError, LostJobError, NoMemoryError, StoppingError, StoreAwayError):
            raise
        except Exception as error:
            self._store.fail(claim, self._problem_of(error))

    def _kept(self, job: Job, answer: TablePrediction) -> dict[str, Any]:
        """Keep what was decided; whoever begins the job again keeps the same, by the same id."""
        if self._log is None or job.kind == HOLD_OUT:
            return {}
        id_ = id_of(job.created, job.id)
        return {"decision_id": self._log.keep_table(answer, Origin("/jobs/<name>", job.owner), id_)}

    def _predict(self, job: Job, heart: "_Heart") -> TablePrediction:
        artifact = self._predictor.resolve(job.model_id)
        table = self._read(artifact, job, heart)
        heart.rows = len(table.records)
        return self._predictor.predict_in_pieces(artifact, table, heart.tell, partial=job.partial)

    def _read(self, artifact: Artifact, job: Job, heart: "_Heart") -> Table:
        predictor, most = self._predictor, self._limits.max_rows
        deadline = _Watched(self._limits.seconds, heart)
        if job.kind == HOLD_OUT:
            return predictor.read_hold_out(artifact, predictor.hold_out(artifact), most, deadline)
        content = b"".join(heart.watching(self._store.read(job.id, BODY)))
        if job.kind == FILE:
            return predictor.read_table(artifact, io.BytesIO(content), "The file", most, deadline)
        body = predictor.read_body(artifact, content, most, with_outcomes=True)
        if type(body) is dict:
            predictor.predict(artifact, body)  # what is wrong with a single record is told by its fields
            body = [body]
        return with_columns(artifact, predictor.table_of(artifact, as_list(body, most)))


class _Heart:
    """Tells the store every second that a job is being worked on, and the work when it should end.

    Parameters
    ----------
    store : Store
        Where the job is.
    claim : Claim
        The job.
    lease : float
        Seconds for which it is renewed.
    is_stopping : callable
        Whether the worker should stop.
    """

    def __init__(self, store: Store, claim: Claim, lease: float, is_stopping: Callable[[], bool]) -> None:
        self._store = store
        self._claim = claim
        self._lease = lease
        self._is_stopping = is_stopping
        self._is_lost = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self.rows: int | None = None
        self.rows_done = 0

    def __enter__(self) -> "_Heart":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what ends the work, if anything does."""
        if self._is_lost:
            raise LostJobError
        if self._is_stopping():
            raise StoppingError

    def tell(self, rows_done: int) -> None:
        """Note how many rows are predicted."""
        self.check()
        self.rows_done = rows_done

    def watching(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, as long as nothing ends the work."""
        for piece in pieces:
            self.check()
            yield piece

    def _beat(self) -> None:
        while not self._is_over.wait(min(BEAT, self._lease / 3)):
            try:
                self._store.renew(self._claim, self._lease, self.rows, self.rows_done)
            except LostJobError:
                self._is_lost = True
                return
            except JobsAwayError:  # it has been logged, and may be over before the lease is
                pass


class _Watched(Deadline):
    """A deadline that also comes when the work should end."""

    def __init__(self, seconds: float, heart: _Heart) -> None:
        super().__init__(seconds)
        self._heart = heart

    def check(self) -> None:
        self._heart.check()
        super().check()


def _summary(job: Job, answer: TablePrediction) -> dict[str, Any]:
    """The answer beside the result; for a file, with the numbers of its rows."""
    numbers = {"row_numbers": row_ranges(answer.table.rows, LONGEST_RANGES)} if job.kind == FILE else {}
    return {**answer.summary(), **numbers}


def _written(kind: str, job: Job, answer: TablePrediction) -> Iterable[bytes]:
    """The table with the answer's columns as a file; CSV in the dialect that was sent."""
    if job.kind == HOLD_OUT:  # its rows are other people's
        columns: Mapping[str, Iterable[Any]] = answer.artifact.task.as_table(answer.prediction.columns)
    elif job.kind == FILE:
        columns = answer.columns()
    else:
        columns = {name: map(_cell, values) for name, values in answer.columns().items()}
    read_as = answer.table.read_as
    return written_like(read_as if read_as.get("format") == kind else {"format": kind}, columns)


def _cell(value: Any) -> Any:
    """A value of a record as one that a cell can hold: an invalid record may hold lists and objects."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value
