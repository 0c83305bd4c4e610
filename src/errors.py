"""Everything that can go wrong, each with the sentence that says so.

No message holds a path, a secret or a client's record, because `api` passes these sentences on to clients unchanged.
The one exception is `InvalidTableError`: its full text quotes the invalid values of a data scientist's own file.
"""

import copyreg
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_WORDS = 20  # that a sentence lists
FIRST_FAULTS = 10  # how many kinds of a table's faults its error lists
FIRST_ROWS = 10  # how many rows of a kind
LONGEST_SHOWN = 200  # characters of a value
MOST_KINDS = 1_000  # that are told apart
LONGEST_COLUMN = 64  # characters of a column's name that a client sees: without a header, these are data


def in_short(words: Sequence[str]) -> str:
    """Words in a sentence; of many, the first ones and how many others there are."""
    more = len(words) - MOST_WORDS
    return ", ".join(words[:MOST_WORDS]) + (f" and {more} more" if more > 0 else "")


class TabserveError(Exception):
    """Base of all errors that this project raises on purpose.

    All can be pickled, whatever their constructors take: they come from processes and other machines, too.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class NotFittedError(TabserveError):
    """A transformer or model was used before `fit`."""

    def __init__(self, estimator: object) -> None:
        super().__init__(f"This {type(estimator).__name__} is not fitted yet: call fit() before using it.")


class InvalidSettingError(TabserveError):
    """An environment variable has an invalid value. The message does not repeat the value, which may be a secret."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f"The environment variable {name} is invalid: it must be {expected}.")


class UnknownUseCaseError(TabserveError):
    """No use case has that name."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(f"There is no such use case; choose one of: {in_short(known)}.")


class UnknownAlgorithmError(TabserveError):
    """A use case has no algorithm of that name."""

    def __init__(self, use_case: str, known: Sequence[str]) -> None:
        super().__init__(f"{use_case} has no such algorithm; choose one of: {', '.join(known)}.")


class InvalidUseCaseError(TabserveError):
    """A use-case file declares something that cannot work.

    Parameters
    ----------
    message : str
        What is wrong, and what would be right.
    place : tuple of str
        The keys that lead to it in plain data; empty where that is not known.
    """

    def __init__(self, message: str, place: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.place = place


class DraftError(TabserveError):
    """No declaration can be drafted from a file."""


class InvalidRecordsError(TabserveError):
    """Some records do not fit the features.

    Parameters
    ----------
    rows : sequence of int
        Positions of these records, counted from 0.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"{len(rows)} record(s) do not fit the features, the first at position {rows[0]}.")
        self.rows = list(rows)


class InvalidFieldsError(TabserveError):
    """Some fields are invalid.

    Parameters
    ----------
    by_field : mapping
        What is wrong: sentences by field; for many records, `rows` with the sentences by row and field, and `count`.
    """

    def __init__(self, by_field: Mapping[str, Any]) -> None:
        super().__init__("Some fields are missing, unknown or invalid; see errors.")
        self.by_field = by_field


class TooFewRowsError(TabserveError):
    """A table has too few rows to tune on or to judge by.

    Parameters
    ----------
    part : str
        The part of the table that is too small.
    found, needed : int
        How many rows it has, and how many it needs.
    of : str
        Which rows are counted, unless all are.
    """

    def __init__(self, part: str, found: int, needed: int, of: str = "") -> None:
        super().__init__(
            f"There are too few rows to train on: the {part} has {found}{of} and needs at least {needed}. "
            "Features and seed decide which part a row belongs to, so that equal rows stay together."
        )


class UniformTargetError(TabserveError):
    """A target has the same value in all rows, so nothing can be learnt.

    Parameters
    ----------
    target : str
        Its column.
    rows : str
        Which rows these are.
    lacking : str
        An outcome that these rows lack, when their target is not the same in all.
    """

    def __init__(self, target: str, rows: str, lacking: str = "") -> None:
        problem = f"is '{lacking}' in no row of" if lacking else "has the same value in all rows of"
        super().__init__(f"The target '{target}' {problem} {rows}: nothing can be learnt from them.")


class UniformTimeError(TabserveError):
    """All rows have the same time, so time cannot split them.

    Parameters
    ----------
    column : str
        The column of times.
    """

    def __init__(self, column: str) -> None:
        super().__init__(f"The column '{column}' has the same value in all rows, so no newest rows can be held out.")


class WarnedError(TabserveError):
    """What would be a warning stops a training that is strict.

    Parameters
    ----------
    warnings : sequence of str
        All of them, in sentences.
    """

    def __init__(self, warnings: Sequence[str]) -> None:
        lines = [f"{len(warnings)} warning(s), which --strict makes faults:", *(f"  {warning}" for warning in warnings)]
        super().__init__("\n".join(lines))


class InvalidTargetError(TabserveError):
    """The target column holds a value that its declaration does not allow."""


class InvalidBodyError(TabserveError):
    """A body is not JSON, or JSON of a shape that is not taken."""


class NothingToPredictError(TabserveError):
    """A list or a file holds no record."""

    def __init__(self) -> None:
        super().__init__("There is nothing to predict: send at least one record.")


class TooManyRowsError(TabserveError):
    """A table holds too many rows.

    Parameters
    ----------
    limit : int
        How many it may hold.
    message : str
        A sentence, if another fits better.
    """

    def __init__(self, limit: int, message: str = "") -> None:
        super().__init__(message or f"More than {limit} rows; send them in several requests.")
        self.limit = limit


class UnsupportedFileError(TabserveError):
    """A file is neither CSV nor XLSX."""


class FileLimitError(TabserveError):
    """A file exceeds one of the reader's limits; the message says which, and what to do."""


class DatabaseError(TabserveError):
    """A database to train on cannot be read; the message holds no password."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a table: where it is, the value found there, and what would be right."""

    column: str | None
    problem: str
    row: int | None = None
    value: object = None


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


class _SameFaults:
    """Faults that differ only in their rows and values."""

    def __init__(self, first: Fault) -> None:
        self.first = first
        self.rows: list[int] = []
        self.count = 0

    def add(self, fault: Fault) -> None:
        self.count += 1
        if fault.row is not None and len(self.rows) < FIRST_ROWS:
            self.rows.append(fault.row)

    def where(self, rows: int | None) -> str:
        """The rows in words: "row 3", "rows 3, 7 and 10 more", "all 60 rows", or nothing."""
        if self.count == rows and self.count > 1:
            return f"all {self.count} rows"
        numbers = ", ".join(map(str, self.rows))
        more = f" and {self.count - len(self.rows)} more" if self.count > len(self.rows) else ""
        return f"row{'s' if self.count > 1 else ''} {numbers}{more}" if numbers else ""


class InvalidTableError(TabserveError):
    """A file's columns, types or values do not fit the use case.

    Parameters
    ----------
    place : str
        The file and, for workbooks, its sheet.
    faults : iterable of Fault
        All faults. Those of a kind are told together; of the kinds, the first ten are kept.
    rows : int, optional
        How many rows were checked, if all were.

    Attributes
    ----------
    faults : list of Fault
        The first fault of each kind.
    count : int
        How many faults there are.
    """

    def __init__(self, place: str, faults: Iterable[Fault], rows: int | None = None) -> None:
        self.count = 0
        kinds: dict[tuple[str | None, str], _SameFaults] = {}
        for fault in faults:
            self.count += 1
            kind = (fault.column, fault.problem)
            if kind in kinds or len(kinds) < MOST_KINDS:
                kinds.setdefault(kind, _SameFaults(fault)).add(fault)
        told = list(kinds.values())[:FIRST_FAULTS]
        self.faults = [kind.first for kind in told]
        self._where = [kind.where(rows) for kind in told]
        lines = [f"{place}: {self.count} fault(s)", *map(self._line, told, self._where)]
        if more := self.count - sum(kind.count for kind in told):
            lines.append(f"  ... and {more} more")
        super().__init__("\n".join(lines))

    @staticmethod
    def _line(kind: _SameFaults, where: str) -> str:
        fault = kind.first
        column = None if fault.column is None else f"column '{fault.column}'"
        place = ", ".join(filter(None, (where, column)))
        if where and column and kind.count == 1:
            place += f": {_shortened(fault.value)}"
        elif where and column and fault.value is not None:
            place += f", such as {_shortened(fault.value)}"
        return f"  {place}: {fault.problem}" if place else f"  {fault.problem}"

    def by_column(self) -> Mapping[str, list[str]]:
        """The problems by column, without the values, so that they can be sent to a client."""
        problems: dict[str, list[str]] = {}
        for fault, where in zip(self.faults, self._where, strict=True):
            column = "the whole row" if fault.column is None else fault.column[:LONGEST_COLUMN]
            text = f"{where[0].upper()}{where[1:]}: {fault.problem}" if where else fault.problem
            problems.setdefault(column, []).append(text)
        return problems


class ScoringError(TabserveError):
    """A table cannot be scored, or its scores cannot be kept; one sentence says what to do."""


class BusyDestinationError(ScoringError):
    """Another run writes to the same destination.

    Parameters
    ----------
    holder : str
        Its process and machine.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"Another run writes to this destination ({holder}): wait until it is over.")


class RefusedRowsError(ScoringError):
    """Rows of a table cannot be scored. No value is repeated: this may be logged.

    Parameters
    ----------
    place : str
        The table.
    faults : sequence of Fault
        What is wrong with the first of them.
    count : int
        How many faults were found.
    """

    def __init__(self, place: str, faults: Sequence[Fault], count: int) -> None:
        shown = [f"  row {fault.row}, column '{fault.column}': {fault.problem}" for fault in faults[:FIRST_FAULTS]]
        more = [f"  ... and {count - len(shown)} more"] if count > len(shown) else []
        heading = f"{place}: {count} fault(s). Correct them, or leave such rows without an answer by --partial."
        super().__init__("\n".join([heading, *shown, *more]))


class UnknownModelError(TabserveError):
    """No artifact, alias or use case has that name."""

    def __init__(self) -> None:
        super().__init__("There is no model of that name; GET /models lists all models.")


class NoModelError(TabserveError):
    """There is no model yet, or none of a use case or of one of its algorithms."""

    def __init__(self, use_case: str | None = None, algorithm: str | None = None) -> None:
        what = " ".join(filter(None, (use_case, algorithm, "model")))
        super().__init__(f"There is no {what} yet; train one.")


class NoApprovedModelError(NoModelError):
    """Only approved models answer, and none of a use case is the champion."""

    def __init__(self, use_case: str) -> None:
        TabserveError.__init__(
            self,
            f"No model of {use_case} is approved, and only approved models answer here (APPROVED_ONLY): promote one.",
        )


class UnapprovedModelError(TabserveError):
    """Only approved models answer, and this one was never made the champion."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"{model_id} was never approved, and only approved models answer here (APPROVED_ONLY): promote it first."
        )


class NothingLoggedError(TabserveError):
    """The decision log has no record that a candidate can predict."""

    def __init__(self, use_case: str, refused: int) -> None:
        super().__init__(
            f"The model refuses all {refused:,} logged records of {use_case}."
            if refused
            else f"The decision log holds no record of {use_case} of that time."
        )


class NoDefaultUseCaseError(TabserveError):
    """A request means the default use case, and nothing says which of several that is."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(
            f"There are several use cases, and none is the default: name one of them, {in_short(known)}, or set "
            "DEFAULT_USE_CASE."
        )


class NoEarlierChampionError(TabserveError):
    """A use case had no other champion before, or none that still exists."""

    def __init__(self, use_case: str) -> None:
        super().__init__(f"There is no earlier champion of {use_case} to go back to; promote a model instead.")


class ReasonNeededError(TabserveError):
    """A model that a person should look at first is let answer without a reason.

    Parameters
    ----------
    why : str
        The beginning of a sentence.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}: say by --reason why it may answer.")


class NotApprovedError(TabserveError):
    """An approval, or its withdrawal, is not one; one sentence says why."""


class InvalidSplitError(TabserveError):
    """Records cannot be divided like this; one sentence says why."""


class UnsignedHistoryError(TabserveError):
    """A history is signed, and a change would not be."""

    def __init__(self, use_case: str) -> None:
        super().__init__(f"The history of {use_case} is signed: set MODEL_SIGNING_KEY to the service's.")


class DivergedHistoryError(TabserveError):
    """A history cannot be copied over one with other changes."""

    def __init__(self, use_case: str, champion: str) -> None:
        super().__init__(
            f"The history of {use_case} has other changes there, which would be lost: promote {champion} there instead."
        )


class BusyHistoryError(TabserveError):
    """Others change a history again and again."""

    def __init__(self, use_case: str) -> None:
        super().__init__(f"Others are changing the history of {use_case}. Nothing was done; try again.")


class NoHoldOutError(TabserveError):
    """A model was copied here without the rows that its training held out."""

    def __init__(self) -> None:
        super().__init__("The hold-out of this model is not stored here; send a list of records.")


class UnavailableError(TabserveError):
    """A model exists, but cannot be used now."""


class BrokenArtifactError(UnavailableError):
    """An artifact failed its verification.

    Parameters
    ----------
    model_id : str
        The artifact.
    reason : str
        What is wrong with it, without a path.
    """

    def __init__(self, model_id: str, reason: str) -> None:
        super().__init__(f"{model_id} is refused: {reason}.")
        self.model_id = model_id
        self.reason = reason


class StoreAwayError(UnavailableError):
    """The store with the models cannot be reached.

    Parameters
    ----------
    reason : str
        A few words, without an address.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The model registry cannot be reached: {reason}.")
        self.reason = reason


class UnsavedError(TabserveError):
    """Models could not be written to their folder.

    Parameters
    ----------
    folder : str
        The folder.
    reason : OSError
        What the system said.
    saved, unsaved : sequence of str
        model_ids of the models that were saved before the error, and of the others.
    """

    def __init__(self, folder: str, reason: OSError, saved: Sequence[str] = (), unsaved: Sequence[str] = ()) -> None:
        kept = f"Saved: {', '.join(saved)}; not saved: {', '.join(unsaved)}." if saved else "Nothing was saved."
        super().__init__(f"Models cannot be saved in {folder} ({reason.strerror or reason}). {kept}")


class NoRoomError(TabserveError):
    """Encoded rows have room neither in memory nor on disk.

    Parameters
    ----------
    size : int
        Bytes that they take.
    folder : str
        Where temporary files are.
    reason : OSError
        What the system said.
    """

    def __init__(self, size: int, folder: str, reason: OSError) -> None:
        super().__init__(
            f"The encoded table takes {size / 1e6:,.0f} MB, for which there is room neither in memory nor in {folder} "
            f"({reason.strerror or reason}): set TMPDIR to a folder on a larger disk."
        )


class MissingExtraError(TabserveError):
    """Libraries of an extra are not installed.

    Parameters
    ----------
    extra : str
        The extra of this package that installs them.
    missing : sequence of str
        The libraries.
    """

    def __init__(self, extra: str, missing: Sequence[str]) -> None:
        super().__init__(f"Libraries are missing ({', '.join(missing)}): pip install 'tabserve[{extra}]'")


class UnknownExecutorError(TabserveError):
    """Nothing of that name can do the work."""

    def __init__(self) -> None:
        super().__init__(
            "There is no such executor: it is threads, processes, or a Dask scheduler such as dask:tcp://host:8786."
        )


class ClusterAwayError(TabserveError):
    """The cluster cannot be used.

    Parameters
    ----------
    reason : str
        A few words, without an address.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The cluster cannot be used: {reason}.")


class DifferentVersionsError(TabserveError):
    """A worker of the cluster could give other results than this machine.

    Parameters
    ----------
    name : str
        A package, or Python.
    found, wanted : str
        Its version there, if it is there, and here.
    """

    def __init__(self, name: str, found: str | None, wanted: str) -> None:
        super().__init__(
            f"A worker of the cluster has {f'{name} {found}' if found else f'no {name}'}, and this machine has {name} "
            f"{wanted}: install the same on both, so that the same results come."
        )


class LostWorkerError(TabserveError):
    """Processes or workers that did the work ended unexpectedly."""

    def __init__(self) -> None:
        super().__init__(
            "What worked on this ended unexpectedly, perhaps for lack of memory: give the workers more of it, or let "
            "fewer work at once."
        )


class UnknownJobError(TabserveError):
    """No job has that id, or none that this user may see."""

    def __init__(self) -> None:
        super().__init__("There is no such job: it may have expired or been deleted, or belong to another user.")


class NoResultError(TabserveError):
    """A job has no result of that kind, or none yet."""

    def __init__(self) -> None:
        super().__init__("There is no such result: a job's `results` says which there are, once it is done.")


class TooManyJobsError(TabserveError):
    """Too many jobs are waiting, or too much is kept.

    Parameters
    ----------
    why : str
        A sentence.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"{why} Nothing was done; send it again later.")


class JobsAwayError(TabserveError):
    """The database of jobs cannot be used."""

    def __init__(self) -> None:
        super().__init__("The database of jobs cannot be used at the moment; try again later.")


class DecisionLogAwayError(TabserveError):
    """The database of decisions cannot be used."""

    def __init__(self) -> None:
        super().__init__("The database of decisions cannot be used at the moment; try again later.")


class NoDecisionLogError(TabserveError):
    """Nothing is logged, and something of the log is asked for."""

    def __init__(self) -> None:
        super().__init__("No decisions are logged: set DECISION_LOG=on, or to the address of a database.")


class UnknownDecisionError(TabserveError):
    """No decision in the log has that id."""

    def __init__(self) -> None:
        super().__init__(
            "There is no such decision in the log: the id is wrong, the decision is older than DECISION_RETENTION, or "
            "it still waits for the database."
        )


class DecisionLogFullError(TabserveError):
    """A decision cannot be logged, so it is not made."""

    def __init__(self) -> None:
        super().__init__("No decision can be logged at the moment, so none is made; try again later.")


class NewerDecisionLogError(TabserveError):
    """The database of decisions has a schema of the future."""

    def __init__(self) -> None:
        super().__init__(
            "The database of decisions was used by a newer version of Tabserve: use that version, or another database."
        )


class NoMemoryError(TabserveError):
    """The system ended a process that read a file, because there was no memory left: others took it."""

    def __init__(self) -> None:
        super().__init__("There is no memory for this file at the moment. Nothing was done; send it again later.")


class LostJobError(TabserveError):
    """A worker has a job no longer: it was deleted, or the worker was silent for too long."""

    def __init__(self) -> None:
        super().__init__("This job was deleted, or another worker has it.")


class AbandonedJobError(TabserveError):
    """A job ended its worker again and again.

    Parameters
    ----------
    attempts : int
        How often it was begun.
    """

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"The worker stopped {attempts} times while it worked on this job, perhaps for lack of memory. "
            "Send the table in several parts."
        )


class NotExplainableError(TabserveError):
    """A model's prediction cannot be split into what each column contributes.

    Parameters
    ----------
    kind : str
        The model's class.
    reason : str
        Why not, as the end of a sentence.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"This model, {kind}, cannot explain its predictions: {reason}.")


class InterruptedTrainingError(TabserveError):
    """The user stopped the training before it was over; nothing was saved."""

    def __init__(self, done: int, trials: int) -> None:
        super().__init__(f"Interrupted after {done} of {trials} trials; nothing was saved.")
