"""What the log holds: one line an event, and never a record, a secret, a traceback or a path.

The entry points call `configure` or `configure_command`; all other modules have a logger of the standard library and
nothing else.
"""

import logging
import sys
import threading
import traceback
import warnings
from logging.config import dictConfig
from pathlib import Path
from types import TracebackType
from typing import Any

OURS = {"tabserve", "gunicorn"}  # loggers whose messages are known to hold nothing that they must not
LONGEST_LINE = 1000  # characters
SERVICE_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
COMMAND_FORMAT = "%(levelname)s %(name)s: %(message)s"

logger = logging.getLogger(__name__)


def traced(error: BaseException) -> str:
    """What a log may say of an error: its class and the places it came through.

    Not its message, which may quote a record, and no paths.
    """
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = " > ".join(f"{Path(frame.filename).stem}.{frame.name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {places}"


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OURS


class OthersFromWarning(logging.Filter):
    """Drops what other libraries say below WARNING, whatever level they have set for themselves."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or _is_ours(record)


class OneLine(logging.Formatter):
    """Writes a record as one line of bounded length, with `traced` instead of a traceback.

    Of another library it says where a message comes from, but not the message: such messages quote requests, cells,
    signed headers and paths.
    """

    def format(self, record: logging.LogRecord) -> str:
        if _is_ours(record):
            text = record.getMessage().partition("Traceback (most recent")[0].rstrip()  # gunicorn has some in its texts
        else:
            text = f"a message of this library, at {record.module}.{record.funcName}:{record.lineno}"
        if record.exc_info and record.exc_info[1]:
            text = f"{text} ({traced(record.exc_info[1])})"
        record = logging.makeLogRecord({**record.__dict__, "msg": text, "args": None, "exc_info": None})
        record.exc_text = record.stack_info = None
        line = super().format(record)
        line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
        return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


def configuration(level: str) -> dict[str, Any]:
    """Return what `logging.config.dictConfig` takes.

    Parameters
    ----------
    level : str
        Least severe messages of our own that are logged; other libraries' are logged from WARNING on.
    """
    gunicorns_level = "INFO" if level == "DEBUG" else level  # its DEBUG lines quote requests
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"others": {"()": OthersFromWarning}},
        "formatters": {"line": {"()": OneLine, "fmt": SERVICE_FORMAT}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["others"]}},
        "root": {"level": level if level in ("ERROR", "CRITICAL") else "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "tabserve": {"level": level},
            "gunicorn.error": {"level": gunicorns_level, "handlers": [], "propagate": True},
        },
    }


def configure(level: str) -> None:
    """Let this process, a server or a part of one, log as `configuration` says, and let nothing past the log.

    Warnings of Python are dropped: they quote cells and name paths, and Python keeps the text of each that it showed.
    """
    dictConfig(configuration(level))
    logging.raiseExceptions = False  # a message that cannot be formatted would be printed with all that is in it
    warnings.simplefilter("ignore")
    threading.excepthook = lambda args: _report(args.exc_value)
    sys.unraisablehook = lambda args: _report(args.exc_value)
    sys.excepthook = _report_uncaught


def configure_command() -> None:
    """Let a command that a person runs log its warnings and errors."""
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
