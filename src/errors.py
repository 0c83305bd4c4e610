"""What can go wrong, each with the sentence that says so.

No message holds a path, a secret or a client's record: `api` hands these sentences to clients as they stand.
The one exception is `InvalidTableError`, whose full text names the values at fault in a data scientist's own file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

FIRST_FAULTS = 10  # how many faults of a table its error lists
LONGEST_COLUMN = 64  # characters of a column's name that a client is told: a file without a header has data there


class TabserveError(Exception):
    """Base of every error that this project raises on purpose."""


class NotFittedError(TabserveError):
    """A transformer or model was used before `fit`."""

    def __init__(self, estimator: object) -> None:
        super().__init__(f"This {type(estimator).__name__} is not fitted yet: call fit() before using it.")


class InvalidSettingError(TabserveError):
    """An environment variable whose value cannot be used; the value itself, perhaps a secret, is not repeated."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f"The environment variable {name} cannot be used as it is: it must be {expected}.")


class UnknownUseCaseError(TabserveError):
    """No use case has that name."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(f"There is no such use case; there are: {', '.join(known)}.")


class UnknownAlgorithmError(TabserveError):
    """A use case has no algorithm of that name."""

    def __init__(self, use_case: str, known: Sequence[str]) -> None:
        super().__init__(f"{use_case} has no such algorithm; there are: {', '.join(known)}.")


class InvalidUseCaseError(TabserveError):
    """A use-case file declares something that cannot work."""


class InvalidRecordsError(TabserveError):
    """Some records do not fit the features.

    Parameters
    ----------
    rows : sequence of int
        Positions of the records at fault, counted from 0.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"{len(rows)} record(s) do not fit the features, the first at position {rows[0]}.")
        self.rows = list(rows)


class InvalidFieldsError(TabserveError):
    """Fields at fault.

    Parameters
    ----------
    by_field : mapping
        What is wrong: sentences by field, or those of many records by row, and their `count`.
    """

    def __init__(self, by_field: Mapping[str, Any]) -> None:
        super().__init__("Some fields are missing, unknown or invalid; see errors.")
        self.by_field = by_field


class TooFewRowsError(TabserveError):
    """A table with too few rows to tune on, or too few to judge by.

    Parameters
    ----------
    part : str
        The part of the table that is too small.
    found, needed : int
        How many rows it has, and how many it takes.
    of : str
        Which rows are counted, if not all.
    """

    def __init__(self, part: str, found: int, needed: int, of: str = "") -> None:
        super().__init__(
            f"There are too few rows to train on: the {part} has {found}{of} and needs at least {needed}. Which part a "
            "row belongs to follows from its features and the seed, so that equal rows stay together."
        )


class UniformTargetError(TabserveError):
    """A target with too little variety to be learnt.

    Parameters
    ----------
    target : str
        Its column.
    rows : str
        The rows in which it is the same.
    """

    def __init__(self, target: str, rows: str) -> None:
        super().__init__(
            f"The target '{target}' has the same value in all rows of {rows}: nothing can be learnt there."
        )


class InvalidTargetError(TabserveError):
    """The target column holds values that its declaration does not allow."""


class NothingToPredictError(TabserveError):
    """A list or a file without a single record."""

    def __init__(self) -> None:
        super().__init__("There is nothing to predict: send at least one record.")


class TooManyRowsError(TabserveError):
    """More rows than one request may hold."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"More than {limit} rows; send them in several requests.")


class UnsupportedFileError(TabserveError):
    """A file that is neither CSV nor XLSX."""


class FileLimitError(TabserveError):
    """A file beyond one of the reader's limits; the message says which, and the way out."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a table: where it is, what stands there, what would be right."""

    column: str | None
    problem: str
    row: int | None = None
    value: object = None

    def __str__(self) -> str:
        row = None if self.row is None else f"row {self.row}"
        column = None if self.column is None else f"column '{self.column}'"
        value = f" {self.value!r}:" if row and column else ""
        return f"{', '.join(filter(None, (row, column)))}:{value} {self.problem}"


class InvalidTableError(TabserveError):
    """A file whose columns, types or values do not fit the use case.

    Parameters
    ----------
    place : str
        The file and, for XLSX, its sheet.
    faults : iterable of Fault
        All that is wrong; the first ten are kept and the others counted.
    """

    def __init__(self, place: str, faults: Iterable[Fault]) -> None:
        faults = iter(faults)
        self.faults = list(islice(faults, FIRST_FAULTS))
        self.count = len(self.faults) + sum(1 for _ in faults)
        lines = [f"{place}: {self.count} fault(s)", *(f"  {fault}" for fault in self.faults)]
        if self.count > FIRST_FAULTS:
            lines.append(f"  ... and {self.count - FIRST_FAULTS} more")
        super().__init__("\n".join(lines))

    def by_column(self) -> Mapping[str, list[str]]:
        """The problems without the values, by column: what may be told to a client."""
        problems: dict[str, list[str]] = {}
        for fault in self.faults:
            column = "the whole row" if fault.column is None else fault.column[:LONGEST_COLUMN]
            problems.setdefault(column, []).append(
                fault.problem if fault.row is None else f"Row {fault.row}: {fault.problem}"
            )
        return problems


class UnknownModelError(TabserveError):
    """No artifact, alias or use case has that name."""

    def __init__(self) -> None:
        super().__init__("There is no model of that name; GET /models lists those there are.")


class NoModelError(TabserveError):
    """A use case has no model yet, or none by the given algorithm."""

    def __init__(self, use_case: str, algorithm: str | None = None) -> None:
        super().__init__(f"There is no {' '.join(filter(None, (use_case, algorithm)))} model yet; train one.")


class NoEarlierChampionError(TabserveError):
    """A use case that had no other champion before, or none that is still there."""

    def __init__(self, use_case: str) -> None:
        super().__init__(f"There is no earlier champion of {use_case} to go back to; promote a model instead.")


class NoHoldOutError(TabserveError):
    """A model that was copied here without the rows that its training held out."""

    def __init__(self) -> None:
        super().__init__("The hold-out of this model's training is not kept here; send a list of records.")


class UnavailableError(TabserveError):
    """A model that is there but cannot be had."""


class BrokenArtifactError(UnavailableError):
    """An artifact that is refused, and why.

    Parameters
    ----------
    model_id : str
        The artifact.
    reason : str
        What failed, without a path.
    """

    def __init__(self, model_id: str, reason: str) -> None:
        super().__init__(f"{model_id} is refused: {reason}.")
        self.model_id = model_id
        self.reason = reason


class StoreAwayError(UnavailableError):
    """The store of the models cannot be reached.

    Parameters
    ----------
    reason : str
        In a few words that name no address.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The registry of models cannot be reached: {reason}.")
        self.reason = reason


class UnsavedError(TabserveError):
    """Models that their folder did not take.

    Parameters
    ----------
    folder : str
        Where they should be.
    reason : OSError
        What the system said.
    saved, unsaved : sequence of str
        model_ids of those that were saved before, and of the others.
    """

    def __init__(self, folder: str, reason: OSError, saved: Sequence[str] = (), unsaved: Sequence[str] = ()) -> None:
        kept = f"Saved: {', '.join(saved)}; not saved: {', '.join(unsaved)}." if saved else "Nothing was saved."
        super().__init__(f"Models cannot be saved in {folder} ({reason.strerror or reason}). {kept}")


class MissingExtraError(TabserveError):
    """Libraries that only some installations have.

    Parameters
    ----------
    extra : str
        The extra of this package that brings them.
    missing : sequence of str
        The libraries.
    """

    def __init__(self, extra: str, missing: Sequence[str]) -> None:
        super().__init__(f"Libraries are missing here ({', '.join(missing)}): pip install 'tabserve[{extra}]'")


class NotExplainableError(TabserveError):
    """A model whose score cannot be split into what each column contributes.

    Parameters
    ----------
    kind : str
        The model's class.
    reason : str
        Why it cannot, as the end of a sentence.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"This model, {kind}, cannot explain its predictions: {reason}.")


class InterruptedTrainingError(TabserveError):
    """Training was stopped by the user before it was over; nothing was saved."""

    def __init__(self, done: int, trials: int) -> None:
        super().__init__(f"Interrupted after {done} of {trials} trials; nothing was saved.")
