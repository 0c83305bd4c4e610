"""The log: one line for each event, without records, secrets, tracebacks or paths.

Only the entry points call `configure` or `configure_command`; all other modules just use a logger of the standard
library.
"""

import json
import logging
import sys
import threading
import traceback
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.config import dictConfig
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

OURS = {"tabserve", "gunicorn"}  # loggers whose messages are known to be harmless
LONGEST_LINE = 1000  # characters
SERVICE_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
COMMAND_FORMAT = "%(levelname)s %(name)s: %(message)s"

logger = logging.getLogger(__name__)


class Marks(NamedTuple):
    """What a request is found by.

    Attributes
    ----------
    request_id : str
        Of this request; empty where no request is answered.
    traceparent : str
        What it is part of, as in W3C Trace Context; empty when it said nothing.
    """

    request_id: str = ""
    traceparent: str = ""

    @property
    def trace_id(self) -> str:
        """The trace that it is part of."""
        return self.traceparent[3:35]


NO_MARKS = Marks()
MARKS = ContextVar("MARKS", default=NO_MARKS)  # of the request that is being answered


def traced(error: BaseException) -> str:
    """What a log may say of an error: its class, and the functions and lines it passed through.

    The message is left out because it may quote a record; paths are left out too.
    """
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = " > ".join(f"{Path(frame.filename).stem}.{frame.name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {places}"


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OURS


class OthersFromWarning(logging.Filter):
    """Drops messages of other libraries below WARNING, whatever level these have set."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or _is_ours(record)


class OneLine(logging.Formatter):
    """Writes a record as one line of bounded length, with `traced` instead of a traceback.

    For other libraries it says where the message comes from, without the message, which may quote requests, cells,
    signed headers or paths.
    """

    def format(self, record: logging.LogRecord) -> str:
        request_id, text = MARKS.get().request_id, _message(record)
        text = f"[{request_id}] {text}" if request_id else text
        record = logging.makeLogRecord({**record.__dict__, "msg": text, "args": None, "exc_info": None})
        record.exc_text = record.stack_info = None
        return _bounded(super().format(record))


class JsonLine(logging.Formatter):
    """Writes a record as one JSON object on one line; its message is as bounded and as harmless as that of `OneLine`.

    What a record brings as `fields`, in `extra`, are members of the object, too.
    """

    def format(self, record: logging.LogRecord) -> str:
        marks = MARKS.get()
        members = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": _bounded(_message(record)),
            **({"request_id": marks.request_id} if marks.request_id else {}),
            **({"trace_id": marks.trace_id} if marks.trace_id else {}),
            **getattr(record, "fields", {}),
        }
        return json.dumps(members, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    """What a record may say."""
    if _is_ours(record):
        text = record.getMessage().partition("Traceback (most recent")[0].rstrip()  # gunicorn logs some
    else:
        text = f"a message of this library, at {record.module}.{record.funcName}:{record.lineno}"
    error = record.exc_info and record.exc_info[1]
    return f"{text} ({traced(error)})" if error else text


def printable(text: str) -> str:
    """A text on one line that no terminal obeys: what is no letter is written as in Python."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _bounded(line: str) -> str:
    line = printable(line)
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


FORMATTERS = {"text": OneLine, "json": JsonLine}


def configuration(level: str, line_format: str = "text") -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig`.

    Parameters
    ----------
    level : str
        Lowest level of our own messages in the log; those of other libraries are logged from WARNING.
    line_format : str
        `text` or `json`.
    """
    gunicorns_level = "INFO" if level == "DEBUG" else level  # its DEBUG lines quote requests
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"others": {"()": OthersFromWarning}},
        "formatters": {"line": {"()": FORMATTERS[line_format], "fmt": SERVICE_FORMAT}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["others"]}},
        "root": {"level": level if level in ("ERROR", "CRITICAL") else "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "tabserve": {"level": level},
            "gunicorn.error": {"level": gunicorns_level, "handlers": [], "propagate": True},
        },
    }


def configure(level: str, line_format: str = "text") -> None:
    """Make this process, a server or one of its workers, log as `configuration` says; nothing bypasses the log.

    Python's warnings are dropped: they quote cells and paths, and Python remembers the text of each one shown.
    """
    dictConfig(configuration(level, line_format))
    logging.raiseExceptions = False  # a message that cannot be formatted would be printed with its arguments
    warnings.simplefilter("ignore")
    threading.excepthook = lambda args: _report(args.exc_value)
    sys.unraisablehook = lambda args: _report(args.exc_value)
    sys.excepthook = _report_uncaught


def configure_command() -> None:
    """Make a command log its warnings and errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(COMMAND_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    warnings.filterwarnings("ignore", module="openpyxl")  # they quote cells


def _report(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        logger.error("unexpected %s", traced(error))


def _report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _report(error)
