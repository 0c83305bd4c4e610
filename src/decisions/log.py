"""DecisionLog: keeps what is decided before it is answered."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import orjson

from tabserve.aliases import Record
from tabserve.decisions.entry import REFUSED, SHADOW, TABLE
from tabserve.decisions.ids import new_id, new_ids
from tabserve.decisions.listed import by_label
from tabserve.decisions.plain import dumped
from tabserve.decisions.spool import Spool
from tabserve.errors import DecisionLogFullError
from tabserve.predict import Prediction
from tabserve.predictor import TablePrediction, with_columns
from tabserve.registry.artifact import Artifact
from tabserve.settings import Settings
from tabserve.tables.kept import ValueRecords, column_of

logger = logging.getLogger(__name__)


class Origin(NamedTuple):
    """Where something that is decided comes from.

    Parameters
    ----------
    route : str
        Such as `/output/<model_id>`.
    client : str
        The user's name; empty without one.
    request_id : str
    """

    route: str
    client: str = ""
    request_id: str = ""


class Answered(NamedTuple):
    """What a model answered.

    Parameters
    ----------
    artifact : Artifact
        The model.
    content : dict
        The answer.
    prediction : Prediction
        What it follows from.
    table : TablePrediction or None
        The same with the table that was sent; None for a single record.
    arm : str
        The arm of a split that a single record fell into; empty without a split.
    """

    artifact: Artifact
    content: dict[str, Any]
    prediction: Prediction
    table: TablePrediction | None = None
    arm: str = ""


class Decided(NamedTuple):
    """What is decided, and must be kept before it is answered.

    Parameters
    ----------
    answered : Answered
        What is answered when it is kept.
    body : bytes
        What it is about: a record or a list, in JSON.
    origin : Origin
    """

    answered: Answered
    body: bytes
    origin: Origin


class Shadow(Protocol):
    """Lets other models predict what was answered."""

    def offer(self, use_case: str, body: bytes, ids: Sequence[str | None], origin: Origin) -> None:
        """Take what was answered, or leave it when there is too much to do; it never waits."""


class DecisionLog:
    """Where a process keeps its decisions. Nothing is opened before the first, so a process may fork after making it.

    Parameters
    ----------
    settings : Settings
        The service's.

    Attributes
    ----------
    shadow : Shadow or None
        What lets other models predict the same.
    dropped : int
        How many decisions were answered without being kept.
    logged : int
        How many were kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.decision_spool_folder
        self._most = settings.decision_spool
        self.syncs_each = settings.decision_fsync == "each"
        self._drops = settings.decision_log_full == "drop"
        self._lock = threading.Lock()
        self._opened: Spool | None = None
        self.shadow: Shadow | None = None
        self.logged = self.dropped = 0

    @property
    def refuses(self) -> bool:
        """Whether nothing may be decided, because it could not be kept."""
        if self._drops:
            return False
        try:
            return self._spool.is_full
        except DecisionLogFullError:
            return True

    def check(self) -> None:
        """Refuse a request before a model runs.

        Raises
        ------
        DecisionLogFullError
            When what is decided could not be kept.
        """
        if self.refuses:
            raise DecisionLogFullError

    def keep_refusal(self, artifact: Artifact, faults: Mapping[str, int], rows: int, origin: Origin) -> None:
        """Keep that records were refused, and why, but nothing of them; best effort, as nothing was decided.

        Parameters
        ----------
        artifact : Artifact
            What was asked.
        faults : mapping
            How often a field was at fault, by `field:kind`; the fields are declared ones.
        rows : int
            How many records were refused.
        origin : Origin
        """
        entry = {
            **_head(artifact, origin, new_id()),
            "kind": REFUSED,
            "threshold": None,
            "faults": faults,
            "rows": rows,
        }
        with suppress(DecisionLogFullError):
            self._spool.append(orjson.dumps(entry))

    def keep_shadow(self, artifact: Artifact, record: Record, answer: Prediction, answers: str, origin: Origin) -> None:
        """Keep what another model than the one that answered predicts for a record.

        Parameters
        ----------
        artifact : Artifact
            The other model.
        record : mapping
        answer : Prediction
            Its prediction.
        answers : str
            The id of the decision that was answered.
        origin : Origin

        Raises
        ------
        DecisionLogFullError
            When it cannot be kept.
        """
        (decision,) = answer.columns["result"]
        (score,) = answer.columns.get("probability", answer.columns["result"])
        fragment = orjson.Fragment(dumped(record))
        entry = {
            **_head(artifact, origin, new_id()),
            "kind": SHADOW,
            "record": fragment,
            "score": score,
            "decision": decision,
            "answers": answers,
        }
        self._spool.append(orjson.dumps(entry))

    def keep_answers(self, decided: Sequence[Decided]) -> None:
        """Keep what was decided, with one write, and add its ids to the answers; None for what was dropped.

        Raises
        ------
        DecisionLogFullError
            When it cannot be kept. Then none of it must be answered.
        """
        entries = [*map(_entry, decided, new_ids(len(decided)))]
        kept = [entry for entry in entries if entry.get("rows", 1)]  # a list may have no valid record
        is_kept = bool(kept) and self._append(kept)
        for (answered, body, origin), entry in zip(decided, entries, strict=True):
            id_ = entry["id"] if is_kept and entry.get("rows", 1) else None
            ids = answered.content["decision_ids"] = row_ids(id_, answered.prediction) if answered.table else [id_]
            if self.shadow:
                self.shadow.offer(answered.artifact.manifest.use_case, body, ids, origin)

    def keep_table(self, answer: TablePrediction, origin: Origin, id_: str = "") -> str | None:
        """Keep the decisions about a file: as `keep_answers`. Rows at fault leave nothing.

        Whoever may keep the same again, after a failure, gives it an id.
        """
        if not answer.prediction.good:
            return None
        id_ = id_ or new_id()
        entry = _table_head(answer, origin, id_)
        try:
            self._spool.write_table(id_, _table_of(answer))
            self._spool.append(orjson.dumps(entry))
        except DecisionLogFullError:
            if self._opened:
                self._opened.drop_table(id_)
            self._dropped()
            return None
        self.logged += 1
        return id_

    def _append(self, entries: Sequence[Mapping[str, Any]]) -> bool:
        try:
            self._spool.append(*map(orjson.dumps, entries))
        except DecisionLogFullError:
            self._dropped(len(entries))
            return False
        self.logged += len(entries)
        return True

    def _dropped(self, entries: int = 1) -> None:
        """Count what could not be kept, within an `except`; raise where it must not be answered."""
        if not self._drops:
            raise
        self.dropped += entries

    @property
    def _spool(self) -> Spool:
        """Where they wait; `DecisionLogFullError` while its folder cannot be used."""
        if self._opened is None:
            with self._lock:
                self._opened = self._opened or self._open()
        return self._opened

    def _open(self) -> Spool:
        try:
            return Spool(self._folder, self._most, syncs_each=self.syncs_each)
        except OSError as error:
            logger.error("the folder of decisions cannot be used: %s", error.strerror)
            raise DecisionLogFullError from None

    def close(self) -> None:
        """Finish the file."""
        if self._opened:
            self._opened.close()
            self._opened = None


def row_ids(id_: str | None, prediction: Prediction) -> list[str | None]:
    """The ids of the rows of a table; None for those at fault."""
    ids: list[str | None] = [None] * (len(prediction.good) + len(prediction.faulty))
    if id_:
        for row in prediction.good:
            ids[row] = f"{id_}.{row}"
    return ids


def _entry(decided: Decided, id_: str) -> dict[str, Any]:
    table = decided.answered.table
    return _list_entry(table, decided, id_) if table else _record_entry(decided, id_)


def _record_entry(decided: Decided, id_: str) -> dict[str, Any]:
    answered, body, origin = decided
    content = answered.content
    (decision,) = content["result"]
    (score,) = content.get("probability", content["result"])
    record = orjson.Fragment(body)
    entry = {**_head(answered.artifact, origin, id_), "record": record, "score": score, "decision": decision}
    if answered.arm:
        entry["arm"] = answered.arm
    if "ids" in content:
        entry["keys"] = {name: value for name, (value,) in content["ids"].items()}
    return entry


def _list_entry(answer: TablePrediction, decided: Decided, id_: str) -> dict[str, Any]:
    """The entry of a list, whose JSON is the body: the mover makes its table."""
    decisions, scores = _results(answer)
    table = {
        "body": orjson.Fragment(decided.body),
        "is_columns": isinstance(answer.table.records, ValueRecords),
        "target": answer.artifact.target.feature.name,
        "decisions": decisions,
        "scores": scores,
    }
    return {**_table_head(answer, decided.origin, id_), "table": table}


def _table_of(answer: TablePrediction) -> bytes:
    """What the log keeps of a table, as Parquet: without outcomes."""
    from tabserve.decisions.tables import written  # pyarrow, for files alone

    table = answer.table if answer.table.columns else with_columns(answer.artifact, answer.table)
    columns = {
        name: _only(
            answer.prediction.good,
            table.extras[name] if name in table.extras else column_of(table.records, name),
        )
        for name in table.columns
    }
    decisions, scores = _results(answer)
    return b"".join(written(columns, by_label(scores), decisions))


def _results(answer: TablePrediction) -> tuple[list[Any], list[Any]]:
    """The decisions and the scores of all rows; None for those at fault."""
    columns = answer.prediction.columns
    return columns["result"], columns.get("probability", columns["result"])


def _table_head(answer: TablePrediction, origin: Origin, id_: str) -> dict[str, Any]:
    good = answer.prediction.good
    return {
        **_head(answer.artifact, origin, id_),
        "kind": TABLE,
        "rows": len(good),
        "keys": {name: _only(good, values) for name, values in answer.ids().items()},
    }


def _head(artifact: Artifact, origin: Origin, id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "time": time.time(),
        "request_id": origin.request_id,
        "client": origin.client,
        "route": origin.route,
        **artifact.identity,
    }


def _only(places: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """The values at some places, None at the others."""
    if len(places) == len(values):
        return [*values]
    kept: list[Any] = [None] * len(values)
    for place in places:
        kept[place] = values[place]
    return kept
