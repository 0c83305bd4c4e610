"""Job: what is known of a table that is answered later."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
JSON, FILE, HOLD_OUT = "json", "file", "hold-out"  # what is answered: a record or a list, a file, a model's hold-out
RESULTS = ("csv", "xlsx", "parquet")  # the files that a job's result is written as
_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def new_id() -> str:
    """The id of a job, which nobody can guess."""
    return secrets.token_urlsafe(16)


def is_id(text: str) -> bool:
    """Whether a text may be the id of a job."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a client asks for.

    Parameters
    ----------
    owner : str
        The user who sees the job; empty without users.
    client : str
        Whose waiting jobs are counted: a user or an address.
    model_id : str
        The model that answers.
    kind : str
        What the body is: `JSON`, `FILE` or, without a body, `HOLD_OUT`.
    partial : bool
        Whether the valid rows are answered when others are invalid.
    """

    owner: str
    client: str
    model_id: str
    kind: str
    partial: bool


@dataclass(frozen=True, kw_only=True)
class Job(Order):
    """A job in the store; times are seconds since 1970 in UTC, None for what has not happened.

    Parameters
    ----------
    id : str
        See `new_id`.
    state : str
        `WAITING`, `RUNNING`, `DONE` or `FAILED`.
    rows : int or None
        Rows of the table, once it is read.
    rows_done : int
        How many of them are predicted.
    created, started, finished : float or None
        When it was sent, last begun, and finished.
    expires : float or None
        When it is deleted; None while it runs.
    attempts : int
        How often it was begun.
    error : mapping or None
        Why it failed: a problem, as a request would have been answered.
    summary : mapping or None
        The answer beside the columns of the result.
    """

    id: str
    state: str
    rows: int | None
    rows_done: int
    created: float
    started: float | None
    finished: float | None
    expires: float | None
    attempts: int
    error: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None


@dataclass(frozen=True)
class Claim:
    """A job that a worker has taken.

    Parameters
    ----------
    job : Job
        As it was when it was taken.
    token : str
        What the store knows the worker by; whoever takes the job later has another.
    """

    job: Job
    token: str
