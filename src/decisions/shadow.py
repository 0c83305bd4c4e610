"""Shadows: models that predict beside those that answer, into the decision log only."""

import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tabserve.aliases import Record
from tabserve.decisions.log import DecisionLog, Origin
from tabserve.decisions.plain import loaded
from tabserve.errors import DecisionLogFullError, InvalidRecordsError, TabserveError
from tabserve.log import traced
from tabserve.predict import make_prediction
from tabserve.predictor import Predictor
from tabserve.tables.json_body import COLUMNS

MOST = 256  # answers that may wait
LONGEST = 16 * 1024  # bytes of a body; longer lists would take the CPU from answers
LATE = 0.1  # seconds after which what waits is left out: the process has more to do than it can
ASKED_AGAIN = 60.0  # seconds after which a model that could not be loaded is tried again

logger = logging.getLogger(__name__)


class _Offered(NamedTuple):
    use_case: str
    body: bytes
    ids: Sequence[str | None]
    origin: Origin
    time: float


class Shadows:
    """Lets models predict what others answered, in a thread, as far as there is time.

    Parameters
    ----------
    log : DecisionLog
        Where predictions go.
    predictor : Predictor
        The models.
    models : mapping of str
        A model_id for each use case that has a shadow.

    Attributes
    ----------
    dropped : int
        How many answers were left out, because there was too much to do.
    """

    def __init__(self, log: DecisionLog, predictor: Predictor, models: Mapping[str, str]) -> None:
        self._log = log
        self._predictor = predictor
        self._models = models
        self._waiting: queue.Queue[_Offered] = queue.Queue(MOST)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._refused_until: dict[str, float] = {}
        self.dropped = 0

    def offer(self, use_case: str, body: bytes, ids: Sequence[str | None], origin: Origin) -> None:
        """Take what was answered, or leave it when there is too much to do; it never waits.

        Parameters
        ----------
        use_case : str
        body : bytes
            A record, a list or columns, in JSON.
        ids : sequence of str or None
            The decisions about it; None where there is none.
        origin : Origin
            Where it came from.
        """
        if use_case not in self._models:
            return
        if self._thread is None:
            self._start()
        try:
            if len(body) > LONGEST:
                raise queue.Full
            self._waiting.put_nowait(_Offered(use_case, body, ids, origin, time.monotonic()))
        except queue.Full:
            self.dropped += 1

    def _start(self) -> None:
        """Start the thread, with the first answer: a process may fork before that."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="shadows", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            offered = self._waiting.get()
            if time.monotonic() > offered.time + LATE:
                self.dropped += 1
                continue
            try:
                self._predict(offered)
            except DecisionLogFullError:
                self.dropped += 1
            except Exception as error:  # nobody waits for it
                logger.error("a shadow failed: %s", traced(error))

    def _predict(self, offered: _Offered) -> None:
        model_id = self._models[offered.use_case]
        if time.monotonic() < self._refused_until.get(model_id, 0):
            return
        try:
            artifact = self._predictor.resolve(model_id)
        except TabserveError as error:
            self._refused_until[model_id] = time.monotonic() + ASKED_AGAIN
            logger.warning("no shadow of %s: %s", offered.use_case, error)
            return
        for id_, record in zip(offered.ids, _records(loaded(offered.body)), strict=True):
            try:
                if id_ is not None:
                    answer = make_prediction(artifact, [record])
                    self._log.keep_shadow(artifact, record, answer, id_, offered.origin)
            except InvalidRecordsError:  # its columns are others
                self.dropped += 1


def _records(body: Any) -> Iterator[Record]:
    """The records of a body that was answered."""
    if isinstance(body, dict) and body.keys() == {COLUMNS} and isinstance(body[COLUMNS], dict):
        names, columns = body[COLUMNS].keys(), body[COLUMNS].values()
        yield from (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    else:
        yield from body if isinstance(body, list) else [body]
