"""XLSX files, read by a child process whose memory and time are limited.

A few kB of XLSX can take gigabytes or hours to unpack. Only the child (`xlsx_child.py`) suffers: when it dies, its file
is refused, and the service goes on.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from tabserve.errors import Fault, FileLimitError, InvalidTableError, UnsupportedFileError
from tabserve.tables.limits import NOT_A_TABLE, Deadline, Row, too_slow
from tabserve.tables.xlsx_child import OUT_OF_MEMORY

MAX_UNPACKED = 200_000_000  # bytes of a client's file after unpacking: more is an attack or a mistake
MAX_MEMORY = 192_000_000  # bytes of the child's address space; Python itself takes 30 MB
TRAINING = 10  # these limits are multiplied by it for training files, which are the user's own

_CHILD = Path(__file__).with_name("xlsx_child.py")
_MAX_LINE = 20_000_000  # bytes; the child's rows are shorter
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME")  # what Python may need to start; the child gets no secrets


@contextmanager
def open_xlsx(stream: BinaryIO, name: str, deadline: Deadline) -> Iterator[tuple[str, Iterator[Row]]]:
    """Start reading a file.

    Parameters
    ----------
    stream : binary file
        The file.
    name : str
        What errors call the file.
    deadline : Deadline
        Without a time limit, the file may also be larger.

    Yields
    ------
    str
        The file's name and its sheet.
    iterator of Row
        The rows that are not blank; rows wider than the first are cut to its width.

    Raises
    ------
    InvalidTableError
        When several sheets hold data.
    UnsupportedFileError
        When the file is not a workbook or is malformed.
    FileLimitError
        When it exceeds a limit.
    """
    with _as_file(stream) as file, _start(file, deadline) as child:
        watch = threading.Timer(deadline.left, child.kill) if deadline.seconds else None
        if watch:
            watch.daemon = True
            watch.start()
        try:
            lines = _lines(child, deadline)
            yield _place(name, next(lines)["sheets"]), lines
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
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            yield copy
    else:
        yield stream


def _start(file: IO[bytes], deadline: Deadline) -> subprocess.Popen[bytes]:
    times = 1 if deadline.seconds else TRAINING
    seconds = math.ceil(deadline.left) if deadline.seconds else 0
    limits = (times * MAX_MEMORY, seconds, times * MAX_UNPACKED, os.getpid())
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        return subprocess.Popen(  # noqa: S603 - numbers and a path of our own
            [sys.executable, "-S", "-P", str(_CHILD), *map(str, limits)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it might quote the file
            env={**environment, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))},
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which ends the child
        )
    except OSError:  # too many processes, or no memory for another
        raise FileLimitError("No XLSX file can be read at the moment: send it as CSV, or try again later.") from None


def _lines(child: subprocess.Popen[bytes], deadline: Deadline) -> Iterator[Any]:
    """The child's lines, until it is done."""
    assert child.stdout
    for text in iter(partial(child.stdout.readline, _MAX_LINE), b""):
        try:
            line = json.loads(text)
        except ValueError:  # incomplete because the child was killed
            break
        if type(line) is dict and "limit" in line:
            raise FileLimitError(f"The XLSX file {line['limit']}: save the table alone in a new file, or as CSV.")
        if type(line) is dict and "end" in line:
            return
        yield line
    raise _end(child.wait(), deadline)


def _end(status: int, deadline: Deadline) -> Exception:
    """Why a child ended before it was done."""
    if deadline.seconds and deadline.left <= 0:
        return too_slow(deadline.seconds)
    if status == OUT_OF_MEMORY or status < 0:  # the kernel's limits end the child by a signal
        return FileLimitError("The XLSX file takes too much memory: save the table alone in a new file, or as CSV.")
    return UnsupportedFileError(NOT_A_TABLE)


def _place(name: str, sheets: list[str]) -> str:
    if len(sheets) > 1:
        problem = f"Only one sheet may hold data, but {len(sheets)} do."
        raise InvalidTableError(name, [Fault(title, problem) for title in sheets])
    return f"{name}, sheet '{sheets[0]}'" if sheets else name
