"""Reasons: what spoke for logged decisions, worked out by the models that made them, after the decisions are kept."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sql

from tabserve.aliases import Record
from tabserve.decisions.entry import DECISION, SHADOW, Entry
from tabserve.decisions.plain import dumped, loaded
from tabserve.decisions.reading import Kept
from tabserve.decisions.schema import decisions
from tabserve.decisions.store import DecisionStore
from tabserve.errors import InvalidRecordsError, NotExplainableError, TabserveError, UnknownModelError
from tabserve.explain import reasons_for
from tabserve.log import traced
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry

MOST = 500  # decisions that are looked at together
PIECE = 50  # records that are explained between two looks at the clock
LONGEST = 0.1  # seconds after which new decisions are moved first
KEPT = 8  # models that stay loaded
# seconds after which the database is asked again what waits, and the registry for a model that was not there
ASKED_AGAIN = 60.0
INEXPLICABLE = "null"  # in the column `reasons`: worked out, and there are none

WAIT = (decisions.c.reasons.is_(None), decisions.c.record.is_not(None))  # what the index of waiting decisions holds
_MODELS = (
    sql.select(decisions.c.model_id, decisions.c.digest)
    .where(*WAIT)
    .order_by(decisions.c.model_id, decisions.c.digest)
    .limit(1)
)

logger = logging.getLogger(__name__)


class Reasons:
    """Works out the reasons of decisions that are in the database without them.

    The decisions that wait are those with a record and without reasons: a partial index holds them alone, by model, so
    those of a model that is not there are passed over at once, however many they are. The newest come first: they are
    asked for most, and what retention deletes soon is not worth the time.

    Parameters
    ----------
    store : DecisionStore
    registry : Registry
        Where the models are.
    """

    def __init__(self, store: DecisionStore, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._models: dict[tuple[str, str], None] = {}  # model_ids and digests for which decisions may wait
        self._asks_at = 0.0
        self._known: dict[str, tuple[Artifact | None, float]] = {}

    def expect(self, entries: Iterable[Entry]) -> None:
        """Be told of entries that were added."""
        self._models |= {(one.model_id, one.digest): None for one in entries if one.kind in (DECISION, SHADOW)}

    def work_out(self) -> int:
        """Work out some reasons, for about `LONGEST` seconds.

        Returns
        -------
        int
            For how many decisions; 0 when none waits whose model is there.

        Raises
        ------
        DecisionLogAwayError
            When the database cannot be used.
        """
        if time.monotonic() >= self._asks_at:
            self._models |= dict.fromkeys(waiting_models(self._store))
            self._asks_at = time.monotonic() + ASKED_AGAIN
        while self._models:
            model = next(iter(self._models))
            artifact = self._artifact(*model)
            done = self._work_out(artifact, *model) if artifact else 0
            del self._models[model]
            if done:
                self._models[model] = None  # after the others
                return done
        return 0

    def _work_out(self, artifact: Artifact, model_id: str, digest: str) -> int:
        c, database = decisions.c, self._store.database
        query = sql.select(c.id, c.record).where(c.model_id == model_id, c.digest == digest, *WAIT)
        query = query.order_by(c.id.desc()).limit(MOST).with_for_update(skip_locked=True)
        with database.reading() as connection:
            found = connection.execute(query).all()
            reasons = _in_time(artifact, found)
            if database.file is None:  # rows of this transaction are not taken by other machines' movers
                _keep(connection, reasons)
        if database.file and reasons:  # who writes to SQLite meanwhile has not waited
            with database.writing() as connection:
                _keep(connection, reasons)
        return len(reasons)

    def _artifact(self, model_id: str, digest: str) -> Artifact | None:
        """The model that decided; None while it is not there."""
        artifact, expires = self._known.get(model_id, (None, 0.0))
        if not (artifact and artifact.digest == digest) and time.monotonic() >= expires:
            artifact = self._loaded(model_id)
            self._known.pop(model_id, None)
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[model_id] = artifact, time.monotonic() + ASKED_AGAIN
        return artifact if artifact and artifact.digest == digest else None

    def _loaded(self, model_id: str) -> Artifact | None:
        try:
            return self._registry.load(model_id)
        except TabserveError as error:
            logger.warning("no reasons for the decisions of %s: %s", model_id, error)
            return None


def waiting_models(store: DecisionStore) -> list[tuple[str, str]]:
    """The model_ids and digests of decisions that wait for reasons: a look-up in the index for each."""
    models: list[tuple[str, str]] = []
    with store.database.reading() as connection:
        while True:
            found = _next_model(connection, *models[-1]) if models else connection.execute(_MODELS).one_or_none()
            if found is None:
                return models
            models.append((found.model_id, found.digest))


def _next_model(connection: sql.Connection, model_id: str, digest: str) -> Any:
    """The next pair in the index; SQLite would look through all decisions of a model for a larger pair at once."""
    c = decisions.c
    for after in ([c.model_id == model_id, c.digest > digest], [c.model_id > model_id]):
        if found := connection.execute(_MODELS.where(*after)).one_or_none():
            return found
    return None


def waiting_decisions(store: DecisionStore) -> int:
    """How many decisions wait for reasons, those whose models are not there, too."""
    with store.database.reading() as connection:
        return connection.scalar(sql.select(sql.func.count()).select_from(decisions).where(*WAIT)) or 0


def with_reasons(registry: Registry, kept: Kept) -> Kept:
    """An entry with its reasons: those in the log, or else worked out now; a note says which, or why there are none.

    Parameters
    ----------
    registry : Registry
        Where the model that decided is.
    kept : Kept
        Nothing changes where it has reasons, or no record.
    """
    entry = kept.entry
    if entry.reasons is not None or entry.kind not in (DECISION, SHADOW) or not entry.record:
        return kept
    reasons, note = _asked(registry, entry)
    return replace(kept, entry=replace(entry, reasons=reasons), reasons_note=note)


def _asked(registry: Registry, entry: Entry) -> tuple[list[Mapping[str, Any]] | None, str]:
    try:
        artifact = registry.load(entry.model_id)
    except UnknownModelError:
        return None, "The model that decided is not in the registry."
    except TabserveError:  # its words may name places
        return None, "The model that decided cannot be loaded here."
    if artifact.digest != entry.digest:
        return None, "The model in the registry has another digest than the one that decided."
    (text,) = _texts(artifact, [entry.record])
    if text == INEXPLICABLE:
        return None, "The model's predictions of it cannot be explained."
    return loaded(text), "Worked out when asked, by the model that decided."


def _in_time(artifact: Artifact, rows: Sequence[Any]) -> dict[str, str]:
    """The reasons of the first decisions, by id, as many as there is time for."""
    reasons: dict[str, str] = {}
    end = time.monotonic() + LONGEST
    for start in range(0, len(rows), PIECE):
        piece = rows[start : start + PIECE]
        texts = _texts(artifact, [loaded(row.record) for row in piece])
        reasons |= zip((row.id for row in piece), texts, strict=True)
        if time.monotonic() > end:
            break
    return reasons


def _texts(artifact: Artifact, records: Sequence[Record]) -> list[str]:
    """The reasons for what a model decided about records, as the log keeps them."""
    try:
        return [dumped([reason.to_json() for reason in reasons]) for reasons in reasons_for(artifact, records)]
    except NotExplainableError:
        return [INEXPLICABLE] * len(records)
    except Exception as error:  # one record may not hold up the others
        if len(records) > 1:
            return [text for record in records for text in _texts(artifact, [record])]
        if not isinstance(error, InvalidRecordsError):
            logger.error("reasons cannot be worked out: %s", traced(error))
        return [INEXPLICABLE]


def _keep(connection: sql.Connection, reasons: Mapping[str, str]) -> None:
    """Keep reasons of decisions that still wait: one that was erased or deleted meanwhile gets none."""
    if reasons:
        query = sql.update(decisions).where(decisions.c.id == sql.bindparam("decision_id"), *WAIT)
        values = [{"decision_id": id_, "reasons": text} for id_, text in reasons.items()]
        connection.execute(query.values(reasons=sql.bindparam("reasons")), values)
