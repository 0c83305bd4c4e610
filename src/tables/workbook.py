"""Workbooks (XLSX, XLSM, XLSB, XLS, ODS), read by a child process whose memory and time are limited.

A few kB of a workbook can take gigabytes or hours to unpack. Only the child (`workbook_child.py`) suffers: when it
dies, its file is refused, and the service goes on.
"""

import io
import itertools
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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tabserve.columns.arrays import cell_array, without_pandas
from tabserve.errors import FileLimitError, NoMemoryError, UnsupportedFileError
from tabserve.tables import workbook_child
from tabserve.tables.batch import Batch, column_names
from tabserve.tables.batched import BatchedRows
from tabserve.tables.limits import NOT_A_TABLE, Deadline, Row, too_slow
from tabserve.tables.source import HEADER_ROWS, Sheet
from tabserve.tables.workbook_child import COLUMNAR, OUT_OF_MEMORY

if TYPE_CHECKING:
    import pyarrow as pa

MAX_UNPACKED = 200_000_000  # bytes of a client's file after unpacking: more is an attack or a mistake
MAX_MEMORY = 320_000_000  # bytes of the child's address space; 100,000 rows of 20 columns take 260 MB of it
MAX_ARROW_MEMORY = 700_000_000  # the same for Parquet and Feather: pyarrow takes 330 MB of it, most of it never touched
TRAINING = 10  # these limits are multiplied by it for training files, which are the user's own

_CHILD = Path(__file__).with_name("workbook_child.py")
_MAX_LINE = 20_000_000  # bytes; the child's rows and pieces are shorter
_AT_ONCE = 2_000_000  # bytes that are read while the child works; most files have fewer
_ASIDE = 64_000_000  # bytes that are put aside; where /tmp is in memory, they take it
_BLOCK = 1 << 16  # bytes that are read at a time
_TYPES = {"floats": np.float64, "cells": np.int32}
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
            _sheet(name, title, kind, first, lines if len(heads) == 1 else _rest(file, deadline, title, len(first)))
            for title, kind, first in heads
        )


def _sheet(name: str, title: str, kind: str, first: list[Row], rest: Iterator[Batch]) -> Sheet:
    place = f"{name}, sheet '{title}'" if title else name
    read_as = {"format": kind, "sheet": title} if title else {"format": kind}
    rows = BatchedRows(place, first, rest)
    return Sheet(place, rows.rows(), typed=True, read_as=read_as, rest=rows.batches)


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


def _rest(file: IO[bytes], deadline: Deadline, title: str, begun: int) -> Iterator[Batch]:
    """The further rows of one of several sheets: another child reads it alone."""
    if begun == HEADER_ROWS:
        with _lines(file, deadline, title) as lines:
            [*_heads(lines)]
            yield from lines


@contextmanager
def _lines(file: IO[bytes], deadline: Deadline, sheet: str | None) -> Iterator[Iterator[Any]]:
    """The lines of a child, which is ended at the deadline and when nobody wants them any more."""
    magic = os.pread(file.fileno(), 4, 0)
    if magic in COLUMNAR and not deadline.seconds:
        file.seek(0)
        yield _own_columns(file, magic)
        return
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
    memory = MAX_ARROW_MEMORY if os.pread(file.fileno(), 4, 0) in COLUMNAR else MAX_MEMORY
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
    """The child's lines, and batches in place of pieces of columns, until it is done."""
    assert child.stdout
    with io.BufferedReader(_Output(child.stdout)) as output:
        while text := output.readline(_MAX_LINE):
            try:
                line = json.loads(text, object_hook=_dated)
                if type(line) is dict and "bytes" in line:
                    line = _batch(line, output.read(min(line["bytes"], _MAX_LINE)))
            except (ValueError, LookupError, TypeError):  # incomplete because the child was killed
                break
            if type(line) is dict and "limit" in line:
                raise _limit(line["limit"])
            if type(line) is dict and "problem" in line:
                raise UnsupportedFileError(line["problem"])
            if type(line) is dict and "end" in line:
                return
            yield line
    raise _end(child.wait(), deadline)


def _limit(what: str) -> FileLimitError:
    return FileLimitError(f"The file {what}: save the table alone in a new file, or as CSV.")


def _own_columns(file: IO[bytes], magic: bytes) -> Iterator[Any]:
    """The lines of the user's own Parquet or Feather file, however long it is; no child reads it."""
    try:
        for line in workbook_child.columnar(file, magic, math.inf, HEADER_ROWS):
            yield arrow_batch(*line) if type(line) is tuple else json.loads(json.dumps(line), object_hook=_dated)
    except workbook_child.LimitError as error:
        raise _limit(str(error)) from None
    except workbook_child.ProblemError as error:
        raise UnsupportedFileError(str(error)) from None


class _Output(io.RawIOBase):
    """What the child writes; most is put aside first, so that it is gone before its rows take memory here."""

    def __init__(self, output: IO[bytes]) -> None:
        self._blocks = _blocks(output)
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._block = self._block or memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._block))
        buffer[:size] = self._block[:size]
        self._block = self._block[size:]
        return size


def _blocks(output: IO[bytes]) -> Iterator[bytes]:
    read = partial(os.read, output.fileno(), _BLOCK)
    left = _AT_ONCE
    while left > 0 and (block := read()):
        left -= len(block)
        yield block
    with tempfile.TemporaryFile() as aside:
        while aside.tell() <= _ASIDE and (block := read()):
            aside.write(block)
        aside.seek(0)
        yield from iter(partial(aside.read, _BLOCK), b"")
    yield from iter(read, b"")


def _batch(line: dict[str, Any], content: bytes) -> Batch:
    """The batch that a piece of columns is; `ValueError` when it is incomplete."""
    import pyarrow as pa

    if len(content) != line["bytes"] or line.get("rows", 0) < 0:
        raise ValueError
    if "arrow" in line:
        return arrow_batch(line["arrow"], _checked(content))
    count, kinds = line["rows"], line["columns"]
    numbers = np.frombuffer(content, np.int64, count)
    start, columns = numbers.nbytes, []
    end = start + sum(np.dtype(_TYPES[kind]).itemsize for kind in kinds if kind != "empty") * count
    distinct = iter(json.loads(content[end:], object_hook=_dated))
    empty = pa.nulls(count, pa.string())
    for kind in kinds:
        if kind == "empty":
            columns.append(empty)
            continue
        values = np.frombuffer(content, _TYPES[kind], count, start)
        start += values.nbytes
        columns.append(pa.array(values, from_pandas=True) if kind == "floats" else _coded(values, next(distinct)))
    return Batch(numbers.tolist(), pa.RecordBatch.from_arrays(columns, column_names(len(columns))))


def _checked(content: bytes) -> "pa.RecordBatch":
    """The one batch in a stream of the child's; `ValueError` when it cannot be trusted."""
    import pyarrow as pa

    with pa.ipc.open_stream(content) as stream:
        batch = stream.read_next_batch()
    batch.validate(full=True)
    if any(pa.types.is_nested(column.type) for column in batch.columns):
        raise ValueError
    return batch


def arrow_batch(number: int, cells: "pa.RecordBatch") -> Batch:
    """The rows that are not blank; the first of all has this number."""
    import pyarrow as pa
    import pyarrow.compute

    without_pandas()
    numbers = range(number, number + len(cells))
    is_blank = np.ones(len(cells), np.bool_)
    for column in cells.columns:
        is_blank &= _is_empty(column).to_numpy(zero_copy_only=False)
        if not is_blank.any():
            return Batch(numbers, cells)
    return Batch([*itertools.compress(numbers, ~is_blank)], cells.filter(pa.array(~is_blank)))


def _is_empty(column: "pa.Array") -> "pa.Array":
    """Which cells are null, NaN or a text without characters."""
    import pyarrow as pa
    import pyarrow.compute

    if pa.types.is_dictionary(column.type):
        return pyarrow.compute.fill_null(_is_empty(column.dictionary).take(column.indices), True)
    if pa.types.is_string(column.type):
        return pyarrow.compute.fill_null(pyarrow.compute.equal(column, ""), True)
    return column.is_null(nan_is_null=pa.types.is_floating(column.type))


def _coded(codes: npt.NDArray[np.int32], cells: list[Any]) -> "pa.Array":
    """A column by the codes of its distinct cells, of which one may be empty."""
    import pyarrow as pa

    is_empty = codes == cells.index(None) if None in cells else None
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=is_empty), cell_array(cells))


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
