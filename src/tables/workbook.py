"""Workbooks (XLSX, XLSM, XLSB, XLS, ODS), read by a child process whose memory and time are limited.

A few kB of a workbook can take gigabytes or hours to unpack. Only the child (`workbook_child.py`) suffers: when it
dies, its file is refused, and the service goes on.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, BinaryIO

from tabserve.errors import FileLimitError, NoMemoryError, UnsupportedFileError
from tabserve.tables.limits import NOT_A_TABLE, Deadline, Row, too_slow
from tabserve.tables.source import HEADER_ROWS, Sheet
from tabserve.tables.workbook_child import OUT_OF_MEMORY

MAX_UNPACKED = 200_000_000  # bytes of a client's file after unpacking: more is an attack or a mistake
MAX_MEMORY = 320_000_000  # bytes of the child's address space; 100,000 rows of 20 columns take 260 MB of it
MAX_ARROW_MEMORY = 700_000_000  # the same for Parquet and Feather: pyarrow takes 330 MB of it, most of it never touched
TRAINING = 10  # these limits are multiplied by it for training files, which are the user's own

_CHILD = Path(__file__).with_name("workbook_child.py")
_MAX_LINE = 20_000_000  # bytes; the child's rows are shorter
_AT_ONCE = 20_000  # lines that are read while the child works; most files have fewer
_ASIDE = 64_000_000  # bytes of lines that are put aside; where /tmp is in memory, they take it
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME")  # what Python may need to start; the child gets no secrets
_TOO_MUCH = "The file takes too much memory: save the table alone in a new file, or as CSV."


@contextmanager
def open_workbook(
    stream: BinaryIO, name: str, deadline: Deadline, sheet: str | None = None
) -> Iterator[Iterator[Sheet]]:
    """Start reading a workbook.

    Parameters
    ----------
    stream : binary file
        The file.
    name : str
        What errors call the file.
    deadline : Deadline
        Without a time limit, the file may also be larger.
    sheet : str, optional
        The sheet to read, which may be hidden; by default every visible one.

    Yields
    ------
    iterator of Sheet
        The sheets that hold data.

    Raises
    ------
    UnsupportedFileError
        When the file is not a workbook, is malformed or has a password, or when there is no such sheet.
    FileLimitError
        When it exceeds a limit.
    """
    with _as_file(stream) as file, _lines(file, deadline, sheet) as lines:
        heads = list(_heads(lines))
        yield (
            Sheet(
                f"{name}, sheet '{title}'" if title else name,
                chain(rows, lines if len(heads) == 1 else _rest(file, deadline, title, len(rows))),
                typed=True,
                read_as={"format": kind, "sheet": title} if title else {"format": kind},
            )
            for title, kind, rows in heads
        )


def _heads(lines: Iterator[Any]) -> Iterator[tuple[str, str, list[Row]]]:
    """Names, format and first rows of the sheets that hold data."""
    found: list[tuple[str, str, list[Row]]] = []
    for line in lines:
        if type(line) is list:
            found[-1][2].append(line)  # type: ignore[arg-type]
        elif "sheet" in line:
            found.append((line["sheet"], line["format"], []))
        else:
            break
    return iter(found)


def _rest(file: IO[bytes], deadline: Deadline, title: str, begun: int) -> Iterator[Row]:
    """The further rows of one of several sheets: another child reads it alone."""
    if begun == HEADER_ROWS:
        with _lines(file, deadline, title) as lines:
            for _, _, rows in _heads(lines):
                yield from islice(chain(rows, lines), begun, None)


@contextmanager
def _lines(file: IO[bytes], deadline: Deadline, sheet: str | None) -> Iterator[Iterator[Any]]:
    """The lines of a child, which is ended at the deadline and when nobody wants them any more."""
    with _start(file, deadline, sheet) as child:
        watch = threading.Timer(deadline.left, child.kill) if deadline.seconds else None
        if watch:
            watch.daemon = True
            watch.start()
        try:
            yield _read(child, deadline)
        finally:
            child.kill()
            if watch:
                watch.cancel()


@contextmanager
def _as_file(stream: BinaryIO) -> Iterator[IO[bytes]]:
    """The stream itself if the child can inherit it, else a copy."""
    try:
        stream.fileno()
    except OSError:
        stream.seek(0)
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            yield copy
    else:
        yield stream


def _start(file: IO[bytes], deadline: Deadline, sheet: str | None) -> subprocess.Popen[bytes]:
    times = 1 if deadline.seconds else TRAINING
    seconds = math.ceil(deadline.left) if deadline.seconds else 0
    memory = MAX_ARROW_MEMORY if os.pread(file.fileno(), 4, 0) in (b"PAR1", b"ARRO") else MAX_MEMORY
    limits = (times * memory, seconds, times * MAX_UNPACKED, HEADER_ROWS, os.getpid())
    chosen = [] if sheet is None else [sheet.replace("\0", "")]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        return subprocess.Popen(  # noqa: S603 - numbers, a path of our own, and the name of a sheet
            [sys.executable, "-S", "-P", str(_CHILD), *map(str, limits), *chosen],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it might quote the file
            env={**environment, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))},
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which ends the child
        )
    except OSError:  # too many processes, or no memory for another
        raise FileLimitError("No workbook can be read at the moment: send it as CSV, or try again later.") from None


def _read(child: subprocess.Popen[bytes], deadline: Deadline) -> Iterator[Any]:
    """The child's lines, until it is done."""
    assert child.stdout
    for text in _texts(child.stdout):
        try:
            line = json.loads(text, object_hook=_dated)
        except ValueError:  # incomplete because the child was killed
            break
        if type(line) is dict and "limit" in line:
            raise FileLimitError(f"The file {line['limit']}: save the table alone in a new file, or as CSV.")
        if type(line) is dict and "problem" in line:
            raise UnsupportedFileError(line["problem"])
        if type(line) is dict and "end" in line:
            return
        yield line
    raise _end(child.wait(), deadline)


def _texts(output: IO[bytes]) -> Iterator[bytes]:
    """The child's lines; most are put aside first, so that it is gone before their rows take memory here."""
    lines = iter(partial(output.readline, _MAX_LINE), b"")
    yield from islice(lines, _AT_ONCE)
    with tempfile.TemporaryFile() as aside:
        for text in lines:
            aside.write(text)
            if aside.tell() > _ASIDE:
                break
        aside.seek(0)
        yield from aside
    yield from lines


def _dated(line: dict[str, Any]) -> Any:
    """A cell with a date, or another line as it is."""
    if "date" in line:
        return date.fromisoformat(line["date"])
    return datetime.fromisoformat(line["datetime"]) if "datetime" in line else line


def _end(status: int, deadline: Deadline) -> Exception:
    """Why a child ended before it was done."""
    if deadline.seconds and deadline.left <= 0:
        return too_slow(deadline.seconds)
    if status == -signal.SIGKILL:  # its own limits end it in other ways
        return NoMemoryError()
    if status == OUT_OF_MEMORY or status < 0:  # the kernel's limits end the child by a signal
        return FileLimitError(_TOO_MUCH)
    return UnsupportedFileError(NOT_A_TABLE)
