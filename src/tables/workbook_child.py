"""The child process that reads a workbook: the file on standard input, its rows as lines of JSON on standard output.

`tabserve.tables.workbook` runs this script for every workbook, so it must start fast: it imports nothing else of this
project. calamine reads whole sheets into memory. Three things bound what a hostile file can consume: a look into the
archive before calamine opens it, a limit on memory that follows from how many cells were seen there, and the kernel's
limits for everything that these do not foresee.

A line `{"sheet": name, "format": ...}` begins each sheet that has data; lines for its first rows follow: the row's
number, its cells up to the last filled one, and how many these are. `{"heads": true}` ends them. If there is only one
sheet, the rest of its rows follow as pieces of columns: a line `{"rows": count, "columns": [...], "bytes": size}`, and
so many bytes. They are the row numbers and the columns that are not `"empty"`, one after the other: `"floats"`, in
which NaN is an empty cell, or `"cells"`, codes of distinct cells, null among them; the distinct cells of each of these
columns are the JSON at the end. Of Parquet and Feather, a piece is `{"arrow": number of its first row, "bytes": size}`
and an Arrow IPC stream. Dates are `{"date": text}` or `{"datetime": text}`. The last line is `{"end": true}`,
`{"limit": "..."}` or `{"problem": "..."}`; a file that is not a workbook ends in an exception.
"""

import array
import ctypes
import datetime
import itertools
import json
import math
import os
import posixpath
import re
import resource
import signal
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from xml.parsers import expat

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

OUT_OF_MEMORY = 3  # the exit status
MAX_PARTS = 10_000  # files in the archive
MAX_SHEETS = 1_000
MAX_ROWS = 1_048_576  # as many as Excel writes; empty ones count
MAX_COLUMNS = 16_384  # as many as Excel writes
MAX_CELL_TEXT = 32_767  # characters; as many as Excel writes
MAX_ROW_TEXT = 2_000_000  # characters
COLUMNAR = (b"PAR1", b"ARRO", b"\xff\xff\xff\xff")  # Parquet, Feather, and an Arrow IPC stream
MAX_PIECE = 16_000_000  # bytes; one row may have some more
MAX_ODD_CELLS = 100_000  # errors, formulas without values, and cells that are merged with the one above
OWN_MEMORY = 80_000_000  # bytes of address space that Python, calamine and a small sheet take
CELL_MEMORY = 160  # bytes that calamine takes for a cell, twice while it sorts them
REPEATED_TEXT = 200  # bytes at most for the text of a cell, beyond the texts themselves: calamine repeats it
NO_VALUE = "#FORMULA!"  # for a formula without a value in the file
MERGED = "#MERGED!"  # for a cell that is merged with the one above
EXACT = 2**53  # whole numbers up to it are exact as floats
_CHUNK = 1 << 18
_PIECE = 100_000  # cells that are sent together
_BLOCK = 5_000  # cells that are looked at together
_FEWEST = 32  # rows of them at least: a column takes some time in each block
_ARROW_PIECE = 1_310_720  # the same of Parquet and Feather: 65,536 rows of 20 columns
_FEW = 64 * 1024  # bytes of the distinct values of a column that is read by their places
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_DOCUMENTS = {"WordDocument": "a Word document", "PowerPoint Document": "a presentation"}  # streams in an OLE file

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
OddCells = dict[int, dict[int, str]]  # texts by row and column, both counted from 1
RawRow = tuple[int, list[Any]]  # its number, and cells as calamine gives them
Piece = tuple[dict[str, Any], bytes]  # the line that describes it, and its content


class LimitError(Exception):
    """The file exceeds a limit; the message ends the sentence "The file ..."."""


class ProblemError(Exception):
    """The file cannot be read; the message is a sentence."""


def main() -> None:
    """Read standard input within the limits in the arguments."""
    memory, seconds, unpacked, head, parent = map(int, sys.argv[1:6])
    chosen = sys.argv[6] if len(sys.argv) > 6 else None
    _confine(memory, seconds, parent)
    try:
        for line in lines(sys.stdin.buffer, memory, unpacked, head, chosen):
            text, content = line if type(line) is tuple else (line, b"")
            sys.stdout.buffer.write(_encode(text).encode("utf-8", "surrogatepass") + b"\n")
            sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _confine(memory: int, seconds: int, parent: int) -> None:
    """End with the parent, before it when memory is short, and at these limits; seconds are CPU time."""
    with suppress(OSError, AttributeError):  # without Linux, the limits below still hold
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text("1000")
    if os.getppid() != parent:
        os._exit(1)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)
    if seconds:
        _limit(resource.RLIMIT_CPU, seconds, spare=1)  # by SIGXCPU: SIGKILL means that the machine has no memory left


def _limit(kind: int, limit: int, spare: int = 0) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard == resource.RLIM_INFINITY or limit + spare < hard:  # a lower limit cannot be raised, and is good enough
        with suppress(ValueError):  # macOS has no memory limit
            resource.setrlimit(kind, (limit, limit + spare))


def lines(file: IO[bytes], memory: int, unpacked: int, head: int, chosen: str | None) -> Iterator[Any]:
    """What the child writes; what bytes follow a line is in a tuple with it."""
    try:
        file.seek(0)
        magic = file.read(4)
        file.seek(0)
        if magic in COLUMNAR:
            os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the others reserve more than the limit
            for line in columnar(file, magic, unpacked, head):
                yield from _arrow_pieces(*line) if type(line) is tuple else [line]
            yield {"end": True}
            return
        looked = _Archive(file, unpacked) if magic == _ZIP else _Compound(file)
        _limit(resource.RLIMIT_AS, min(memory, looked.memory))
        file.seek(0)
        yield from _sheets(file, looked, head, chosen)
        yield {"end": True}
    except LimitError as limit:
        yield {"limit": str(limit)}
    except ProblemError as problem:
        yield {"problem": str(problem)}


def _sheets(file: IO[bytes], looked: "_Archive | _Compound", head: int, chosen: str | None) -> Iterator[Any]:
    from python_calamine import CalamineWorkbook, PasswordError

    try:
        book = CalamineWorkbook.from_filelike(file)
    except PasswordError:
        raise ProblemError(_PASSWORD) from None
    rest: Iterator[RawRow] | None = None
    with_data = 0
    for name in _chosen(book, chosen):
        rows = _rows(book.get_sheet_by_name(name), looked.odd_cells(name))
        first = [_row(number, list(map(_cell, cells))) for number, cells in itertools.islice(rows, head)]
        if first:
            with_data += 1
            rest = rest or rows
            yield {"sheet": name, "format": looked.format}
            yield from first
    yield {"heads": True}
    if rest and with_data == 1:
        yield from _pieces(rest)


def columnar(file: IO[bytes], magic: bytes, unpacked: float, head: int) -> Iterator[Any]:
    """The rows of a Parquet or Feather file; row 0 is made of the columns' names.

    Parameters
    ----------
    file : binary file
    magic : bytes
        Its first ones.
    unpacked : float
        Refuse a Parquet file with more bytes in it.
    head : int
        How many rows are given one by one.

    Yields
    ------
    dict, list or (int, pyarrow.RecordBatch)
        Lines as the child writes them, without the last one, and the number of the first row in a piece with the piece.
    """
    import pyarrow

    try:
        schema, batches = _open_columnar(file, magic, unpacked)
        _refuse_nested(schema, pyarrow.types)
        yield {"sheet": "", "format": "parquet" if magic == b"PAR1" else "feather"}
        yield [0, schema.names, len(schema.names)]
        readable: Iterator[Any] = map(_readable, batches)
        first = next(readable, None)
        number = 1
        if first is not None:
            begun = first.slice(0, head - 1)
            yield from _batch_rows(begun)
            number += len(begun)
            readable = itertools.chain([first.slice(len(begun))], readable)
        yield {"heads": True}
        rows = max(1, _ARROW_PIECE // max(1, len(schema)))
        for batch in readable:
            for start in range(0, len(batch), rows):
                yield number + start, batch.slice(start, rows)
            number += len(batch)
    except pyarrow.ArrowMemoryError:
        raise MemoryError from None
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        raise ProblemError("The file is broken: it begins as Parquet or Arrow does, but cannot be read.") from error


def _open_columnar(file: IO[bytes], magic: bytes, unpacked: float) -> tuple[Any, Iterator[Any]]:
    """The schema and the batches."""
    import pyarrow

    if magic == b"PAR1":
        from pyarrow.parquet import ParquetFile

        source = ParquetFile(file, memory_map=False, pre_buffer=False, buffer_size=_CHUNK)
        groups = (source.metadata.row_group(number) for number in range(source.num_row_groups))
        if sum(group.total_byte_size for group in groups) > unpacked:
            raise LimitError(f"unpacks to more than {int(unpacked) // 10**6:,} MB")
        if unpacked == math.inf:  # the user's own file: texts that repeat are read once
            read = {"metadata": source.metadata, "read_dictionary": of_few_values(source)}
            source = ParquetFile(file, memory_map=False, pre_buffer=False, buffer_size=_CHUNK, **read)
        rows = max(1, _ARROW_PIECE // max(1, len(source.schema_arrow)))
        return source.schema_arrow, source.iter_batches(rows, use_threads=False)
    if magic == b"ARRO":
        reader = pyarrow.ipc.open_file(file)
        return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))
    stream = pyarrow.ipc.open_stream(file)
    return stream.schema, iter(stream)


def of_few_values(file: "ParquetFile") -> list[str]:
    """The columns of texts whose distinct values, as the first rows have them, take little room."""
    from pyarrow import types

    if not file.num_row_groups:
        return []
    group = file.metadata.row_group(0)
    places = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    found = []
    for field in file.schema_arrow:
        column = places.get(field.name)
        is_text = types.is_string(field.type) or types.is_large_string(field.type)
        if is_text and column is not None and column.has_dictionary_page:
            found += [field.name] * (column.data_page_offset - column.dictionary_page_offset <= _FEW)
    return found


def _refuse_nested(schema: Any, types: Any) -> None:
    _at_most(len(schema), MAX_COLUMNS, "columns")
    for field in schema:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if types.is_nested(kind) or any(is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary)):
            name = field.name[:64]
            raise ProblemError(f"The column '{name}' holds values that no column takes ({kind}): leave it out."[:300])


def _readable(batch: Any) -> Any:
    """A batch whose columns are numbers, dates, yes or no, or texts, perhaps of a dictionary; others become texts."""
    import pyarrow
    import pyarrow.compute

    columns = [_readable_column(column) for column in batch.columns]
    longest, lengths = 0, []
    for column in columns:
        length = _text_lengths(column)
        if length is not None:
            most = pyarrow.compute.max(length).as_py() or 0
            _at_most(most, MAX_CELL_TEXT, "characters in a cell")
            longest += most
            lengths.append(length)
    if longest > MAX_ROW_TEXT:
        zeros = pyarrow.array([0] * len(batch), pyarrow.int64())
        total = zeros
        for length in lengths:
            total = pyarrow.compute.add(total, pyarrow.compute.coalesce(length.cast(pyarrow.int64()), zeros))
        _at_most(pyarrow.compute.max(total).as_py() or 0, MAX_ROW_TEXT, "characters in a row")
    return pyarrow.RecordBatch.from_arrays(columns, [str(place) for place in range(len(columns))])


def _readable_column(column: Any) -> Any:
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        if len(column.dictionary) <= len(column) and types.is_string(kind.value_type):
            return column
        used = column.indices.unique().drop_null()
        texts = _text_lengths(column.dictionary.take(used))
        if texts is not None:  # before the texts are repeated
            _at_most(pyarrow.compute.max(texts).as_py() or 0, MAX_CELL_TEXT, "characters in a cell")
        return _readable_column(column.dictionary_decode())
    if types.is_string_view(kind) or types.is_large_string(kind) or types.is_decimal(kind):
        return column.cast(pyarrow.string())
    plain = (types.is_string, types.is_boolean, types.is_integer, types.is_floating, types.is_date, types.is_timestamp)
    if any(is_kind(kind) for is_kind in plain):
        return column
    return pyarrow.array([None if value is None else str(value) for value in column.to_pylist()], pyarrow.string())


def _text_lengths(column: Any) -> Any:
    """The characters of each text in a column; None where it holds others."""
    import pyarrow.compute
    from pyarrow import types

    if types.is_dictionary(column.type):
        lengths = _text_lengths(column.dictionary)
        return None if lengths is None else lengths.take(column.indices)
    is_text = types.is_string(column.type) or types.is_large_string(column.type)
    return pyarrow.compute.utf8_length(column) if is_text else None


def _arrow_pieces(number: int, batch: Any) -> Iterator[Piece]:
    """A batch as an IPC stream, or as several where it is large."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = sink.getvalue()
    half = len(batch) // 2
    if len(content) <= MAX_PIECE or not half:
        yield {"arrow": number, "bytes": len(content)}, content
        return
    yield from _arrow_pieces(number, batch.slice(0, half))
    yield from _arrow_pieces(number + half, batch.slice(half))


def _batch_rows(batch: Any) -> Iterator[list[Any]]:
    for number, values in enumerate(zip(*(column.to_pylist() for column in batch.columns), strict=True), 1):
        cells = [_arrow_cell(value) for value in values]
        if any(cell is not None for cell in cells):
            yield _row(number, cells)


def _arrow_cell(value: Any) -> Any:
    """The value of a cell as JSON has it. NaN is what pandas writes for a missing number."""
    if value is None or value != value:
        return None
    if value in (math.inf, -math.inf):
        return float(value)  # as in the batches that follow
    if type(value) in (int, float, str) or isinstance(value, datetime.date):
        if type(value) is int and abs(value) > EXACT:
            return value
        if hasattr(value, "nanosecond"):
            value = value.to_pydatetime()
        return _cell(value)
    return value if type(value) is bool else str(value)  # decimals, times of a day


def _chosen(book: Any, chosen: str | None) -> list[str]:
    """The sheet of that name, or all that are visible; charts and macros are none."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [sheet for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    _at_most(len(sheets), MAX_SHEETS, "sheets")
    visible = [sheet.name for sheet in sheets if sheet.visible == SheetVisibleEnum.Visible]
    if chosen is None:
        return visible
    found = [sheet.name for sheet in sheets if sheet.name == chosen] or [
        sheet.name for sheet in sheets if sheet.name.strip().casefold() == chosen.strip().casefold()
    ]
    if len(found) != 1:
        names = ", ".join(f"'{name[:64]}'" for name in visible[:20])
        raise ProblemError(f"The workbook has no sheet of that name; its sheets are: {names}.")
    return found


def _rows(sheet: Any, odd: OddCells) -> Iterator[RawRow]:
    """The rows that are not blank: their number, and cells as calamine gives them."""
    if sheet.end:
        _at_most(sheet.end[0] + 1, MAX_ROWS, "rows in a sheet")
        _at_most(sheet.end[1] + 1, MAX_COLUMNS, "columns")
    merged = _merged(sheet)
    blank = [""] * (sheet.start[1] if sheet.start else 0)  # calamine leaves out blank columns, but not blank rows
    for number, values in enumerate(sheet.iter_rows(), 1):
        cells = blank + values if blank else values
        if number in odd or number in merged:
            _lay_over(cells, merged.get(number, {}), odd.pop(number, {}))
        if any(cells) or not all(cell == "" for cell in cells):
            yield number, cells
    for number in sorted(odd):
        cells = []
        _lay_over(cells, odd[number])
        yield number, cells


def _lay_over(cells: list[Any], *texts: Mapping[int, str]) -> None:
    for column, text in itertools.chain.from_iterable(by_column.items() for by_column in texts):
        cells += [""] * (column - len(cells))
        if cells[column - 1] == "":
            cells[column - 1] = text


def _row(number: int, cells: list[Any]) -> list[Any]:
    while cells and cells[-1] is None:
        cells.pop()
    _at_most(_characters(cells), MAX_ROW_TEXT, "characters in a row")
    return [number, cells, len(cells)]


def _characters(cells: Iterable[Any]) -> int:
    return sum(len(cell) for cell in cells if type(cell) is str)


def _pieces(rows: Iterator[RawRow]) -> Iterator[Piece]:
    """The rows as columns, some thousand at a time."""
    columns = _Columns()
    for block in _blocks(rows):
        if columns.is_full(block):
            yield columns.piece()
            columns = _Columns()
        columns.add(block)
    if columns.numbers:
        yield columns.piece()


class _Block:
    """A few rows as columns: so few that their cells are still in the processor's cache when they are looked at again.

    Attributes
    ----------
    numbers : list of int
        Of the rows.
    width : int
        How many columns they have.
    filled : dict of (set of type, sequence)
        The kinds of cells and the cells of each column that is not empty, by its place.
    text : int
        How many characters all of them have.
    """

    def __init__(self, rows: Sequence[RawRow]) -> None:
        self.numbers = [number for number, _ in rows]
        columns = [*itertools.zip_longest(*(cells for _, cells in rows), fillvalue="")]
        self.width = len(columns)
        self.filled: dict[int, tuple[set[type], Sequence[Any]]] = {}
        self.text = 0
        for place, cells in enumerate(columns):
            kinds = {*map(type, cells)}
            text = len("".join(cells)) if kinds == {str} else _characters(cells) if str in kinds else 0
            if text or kinds != {str}:
                self.filled[place] = kinds, cells
            self.text += text


def _blocks(rows: Iterator[RawRow]) -> Iterator[_Block]:
    for number, cells in rows:
        following = max(_FEWEST, _BLOCK // len(cells)) - 1
        yield from _split([(number, cells), *itertools.islice(rows, following)])


def _split(rows: list[RawRow]) -> Iterator[_Block]:
    """One block, or several where the texts are long."""
    block = _Block(rows)
    if block.text <= MAX_ROW_TEXT:
        yield block
        return
    _at_most(block.text if len(rows) == 1 else 0, MAX_ROW_TEXT, "characters in a row")
    yield from _split(rows[: len(rows) // 2])
    yield from _split(rows[len(rows) // 2 :])


class _Columns:
    """The columns of a piece, of which those that are empty so far are left out."""

    def __init__(self) -> None:
        self.numbers = array.array("q")
        self._filled: dict[int, _Column] = {}
        self._width = self._cells = self._text = 0

    def is_full(self, block: _Block) -> bool:
        """Whether the block belongs into another piece."""
        return self._cells >= _PIECE or (self._cells > 0 and self._text + block.text > MAX_ROW_TEXT)

    def add(self, block: _Block) -> None:
        """Append the rows of a block."""
        for place in block.filled.keys() - self._filled.keys():
            self._filled[place] = _Column(len(self.numbers))
        for place, column in self._filled.items():
            if place in block.filled:
                column.add(*block.filled[place])
            else:
                column.add_empty(len(block.numbers))
        self.numbers.extend(block.numbers)
        self._width = max(self._width, block.width)
        self._cells += len(block.numbers) * block.width
        self._text += block.text

    def piece(self) -> Piece:
        """The line that describes the columns, and their content."""
        kinds = [self._filled[place].kind if place in self._filled else "empty" for place in range(self._width)]
        filled = [self._filled[place] for place in sorted(self._filled)]
        distinct = [[*map(_cell, column.distinct)] for column in filled if column.kind == "cells"]
        contents = [self.numbers.tobytes(), *(column.values.tobytes() for column in filled)]
        content = b"".join([*contents, _encode(distinct).encode("utf-8", "surrogatepass")])
        return {"rows": len(self.numbers), "columns": kinds, "bytes": len(content)}, content


class _Column:
    """A column of a piece: numbers as long as it holds no others, else codes of its distinct cells.

    Attributes
    ----------
    kind : {"floats", "cells"}
    values : array
        The numbers, with NaN for empty cells, or the codes.
    """

    def __init__(self, rows: int) -> None:
        self.kind = "floats"
        self.values: array.array[Any] = _NONE * rows
        self._codes = _Codes()

    def add(self, kinds: set[type], cells: Sequence[Any]) -> None:
        """Append cells of these kinds, some of which are filled."""
        if self.kind == "floats":
            if (floats := _floats(kinds, cells)) is not None:
                self.values.extend(floats)
                return
            self._become_cells()
        self._add_codes(
            cells if kinds == {str} else [cell if type(cell) is str else (cell, type(cell)) for cell in cells]
        )

    def add_empty(self, count: int) -> None:
        """Append empty cells."""
        self.values.extend(_NONE * count if self.kind == "floats" else array.array("i", [self._codes[""]]) * count)

    def _become_cells(self) -> None:
        floats = self.values
        self.kind, self.values = "cells", array.array("i")
        self._add_codes(["" if math.isnan(number) else (number, float) for number in floats])

    def _add_codes(self, keys: Sequence[Any]) -> None:
        self.values.extend(array.array("i", [*map(self._codes.__getitem__, keys)]))

    @property
    def distinct(self) -> Iterator[Any]:
        """What the codes stand for, as calamine gives it."""
        return (key[0] if type(key) is tuple else key for key in self._codes)


class _Codes(dict[Any, int]):
    """Codes of distinct cells, of which those that are no texts come with their types: 1 and True are equal."""

    def __missing__(self, key: Any) -> int:
        self[key] = code = len(self)
        return code


_NONE = array.array("d", [math.nan])


def _floats(kinds: set[type], cells: Sequence[Any]) -> "array.array[float] | None":
    """Finite numbers and empty cells as numbers; None for any others."""
    if kinds == {float}:
        return array.array("d", cells) if math.isfinite(sum(cells)) else None  # as it is if all of them are
    if kinds != {float, str} or {cell for cell in cells if type(cell) is str} != {""}:
        return None
    filled = [cell for cell in cells if cell != ""]
    return (
        array.array("d", [math.nan if cell == "" else cell for cell in cells]) if math.isfinite(sum(filled)) else None
    )


def _merged(sheet: Any) -> OddCells:
    """Cells that are merged with the one above."""
    found: OddCells = {}
    count = 0
    for (first, left), (last, right) in sheet.merged_cell_ranges or ():
        count += (last - first) * (right - left + 1)
        _at_most(count, MAX_ODD_CELLS, "merged cells")
        for row, column in itertools.product(range(first + 1, last + 1), range(left, right + 1)):
            found.setdefault(row + 1, {})[column + 1] = MERGED
    return found


def _cell(value: Any) -> Any:
    """The value of a cell as JSON has it; None for an empty one."""
    kind = type(value)
    if kind is str:
        _at_most(len(value), MAX_CELL_TEXT, "characters in a cell")
        return value or None
    if kind is float:
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() and abs(value) <= EXACT else value
    if kind is datetime.datetime:
        return {"datetime": value.isoformat()}
    if kind is datetime.date:
        return {"date": value.isoformat()}
    return value if kind in (bool, int) else str(value)  # a time of day, or a span of time


class _Archive:
    """A look into an archive before calamine opens it: what kind it is, and how much it may need.

    Attributes
    ----------
    format : str
        As the file's name ends.
    memory : int
        Bytes of address space that reading it takes.
    """

    def __init__(self, file: IO[bytes], unpacked: int) -> None:
        self._archive = zipfile.ZipFile(file)
        entries = self._archive.infolist()
        _at_most(len(entries), MAX_PARTS, "parts")
        self._unpacked = self._left = unpacked
        if sum(entry.file_size for entry in entries) > unpacked:
            raise self._too_large()
        self._parts = {entry.filename.lower(): entry for entry in entries}  # Excel ignores case, too
        if len(self._parts) < len(entries):
            raise ValueError("A part is there twice.")
        self.format = self._format()
        self._odd_parts: set[str] = set()
        cells = strings = string_bytes = 0
        for name in self._parts:
            if name.endswith((".xml", ".bin", ".rels")):
                found = self._count(name)
                cells += found["cells"]
                if name.endswith(("sharedstrings.xml", "sharedstrings.bin")):
                    strings, string_bytes = max(1, found["strings"]), found["bytes"]
        file.seek(0, os.SEEK_END)
        per_cell = CELL_MEMORY + min(2 * string_bytes // max(1, strings), REPEATED_TEXT)
        self.memory = OWN_MEMORY + file.tell() + 2 * string_bytes + cells * per_cell
        if self.format in ("xlsb", "ods"):
            self.memory = sys.maxsize  # cells cannot be counted as simply
        self._sheet_parts = self._relate() if self.format in ("xlsx", "xlsm") else {}

    def _format(self) -> str:
        names = self._parts
        if "mimetype" in names and ("content.xml" in names or "encrypted-package" in names):
            if b"encryption-data" in next(self._chunks("meta-inf/manifest.xml"), b""):
                raise ProblemError(_PASSWORD)
            kind = self._archive.read(names["mimetype"])[:100] if names["mimetype"].file_size < 200 else b""
            if b"opendocument.spreadsheet" not in kind:
                raise ProblemError("The file is an OpenDocument, but not a spreadsheet: save the table as ODS.")
            return "ods"
        if "word/document.xml" in names or "ppt/presentation.xml" in names:
            raise ProblemError("The file is a document or a presentation: save the table as XLSX or CSV.")
        if any(name.endswith("workbook.bin") for name in names):
            return "xlsb"
        return "xlsm" if any(name.endswith("vbaproject.bin") for name in names) else "xlsx"

    def _too_large(self) -> LimitError:
        return LimitError(f"unpacks to more than {self._unpacked // 10**6:,} MB")

    def _chunks(self, name: str) -> Iterator[bytes]:
        """The content of a part. What the archive says of its size is not believed: calamine does not, either."""
        if name not in self._parts:
            return
        entry = self._parts[name]
        entry.file_size = sys.maxsize
        with self._archive.open(entry) as part:
            while chunk := part.read(_CHUNK):
                yield chunk

    def _count(self, name: str) -> dict[str, int]:
        """How many cells and texts a part holds, and how long it is; cells are rather too many than too few."""
        counts = dict.fromkeys(("cells", "strings", "bytes"), 0)
        texts = name.endswith(("sharedstrings.xml", "sharedstrings.bin"))
        end = b""
        for chunk in self._chunks(name):
            counts["bytes"] += len(chunk)
            self._left -= len(chunk)
            if self._left < 0:
                raise self._too_large()
            if texts:
                counts["strings"] += chunk.count(b"si>")
                continue
            seam = end + chunk
            prefixed = seam.count(b":c>")
            counts["cells"] += seam.count(b"</c>") + prefixed
            if _has_odd_cells(seam, b":f" if prefixed else b"<f"):
                self._odd_parts.add(name)
            end = chunk[-4:]
        counts["strings"] //= 2
        return counts

    def _relate(self) -> dict[str, str]:
        """The part of each sheet, by the sheet's name."""
        path = next(
            (to for kind, to in self._relations("").values() if kind == "officeDocument"), "xl/workbook.xml"
        ).lower()
        relations = self._relations(path)
        sheets: list[tuple[str, str]] = []

        def start(name: str, attributes: dict[str, str]) -> None:
            if _local(name) == "sheet":
                _at_most(len(sheets) + 1, MAX_SHEETS, "sheets")
                target = next((value for key, value in attributes.items() if key.endswith(":id")), "")
                sheets.append((attributes.get("name", ""), relations.get(target, ("", ""))[1].lower()))

        self._parse(path, start)
        paths = [part for _, part in sheets if part]
        if len(set(paths)) < len(paths):
            raise LimitError("names a sheet more than once")
        return dict(sheets)

    def _relations(self, path: str) -> dict[str, tuple[str, str]]:
        """What a part refers to: kinds and paths, by id."""
        folder, name = posixpath.split(path)
        found: dict[str, tuple[str, str]] = {}

        def start(element: str, attributes: dict[str, str]) -> None:
            if _local(element) == "Relationship":
                _at_most(len(found) + 1, MAX_PARTS, "parts")
                target = posixpath.normpath(posixpath.join("/" + folder, attributes.get("Target", "")))
                kind = posixpath.basename(attributes.get("Type", ""))
                found[attributes.get("Id", "")] = (kind, target.lstrip("/"))

        self._parse(posixpath.join(folder, "_rels", f"{name}.rels"), start)
        return found

    def _parse(
        self,
        path: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        if path.lower() not in self._parts:
            return
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.CharacterDataHandler = text
        parser.StartDoctypeDeclHandler = _refuse_doctype
        for chunk in self._chunks(path.lower()):
            parser.Parse(chunk, False)
        parser.Parse(b"", True)

    def odd_cells(self, sheet: str) -> OddCells:
        """What calamine reads as empty: errors, and formulas without a value. Parts without any are not read again."""
        part = self._sheet_parts.get(sheet, "")
        if part not in self._odd_parts:
            return {}
        cells = _OddCells()
        self._parse(part, cells.start, cells.end, cells.text)
        return cells.found


class _OddCells:
    """Finds errors and formulas without a value in the XML of a sheet."""

    def __init__(self) -> None:
        self.found: OddCells = {}
        self._count = self._row = self._column = 0
        self._kind = ""
        self._is_formula = False
        self._value: str | None = None
        self._in_value = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = _local(name)
        if name == "row":
            self._row, self._column = int(attributes.get("r", self._row + 1)), 0
        elif name == "c":
            letters = attributes.get("r", "").rstrip("0123456789")
            self._column = _number_of(letters) if letters else self._column + 1
            self._kind, self._is_formula, self._value = attributes.get("t", "n"), False, None
        elif name == "f":
            self._is_formula = True
        elif name == "v":
            self._value, self._in_value = "", True

    def text(self, text: str) -> None:
        if self._in_value:
            self._value = (self._value or "") + text

    def end(self, name: str) -> None:
        name = _local(name)
        if name == "v":
            self._in_value = False
        elif name == "c":
            is_empty = not self._value and not (self._kind == "str" and self._value == "")
            odd = NO_VALUE if self._is_formula and is_empty else self._value if self._kind == "e" else None
            if odd:
                self._count += 1
                _at_most(self._count, MAX_ODD_CELLS, "errors or formulas without values")
                self.found.setdefault(self._row, {})[self._column] = odd[:MAX_CELL_TEXT]


_PASSWORD = "The file has a password: save it without one."  # noqa: S105 - a sentence

# the beginning of an XLS workbook with a password: the records BOF of Excel 97 or 95, WriteProtect perhaps, FilePass
_LOCKED = re.compile(rb"\x09\x08(?:\x10\0.{16}|\x08\0.{8})(?:\x86\0\0\0)?\x2f\0", re.DOTALL)


class _Compound:
    """A look into an old XLS file, or into what only looks like one."""

    format = "xls"
    memory = sys.maxsize

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        content = file.read()
        if _has_stream(content, "EncryptedPackage") or _LOCKED.search(content):
            raise ProblemError(_PASSWORD)
        if not _has_stream(content, "Workbook") and not _has_stream(content, "Book"):
            what = next((what for name, what in _DOCUMENTS.items() if _has_stream(content, name)), "not a workbook")
            raise ProblemError(f"The file is {what}: save the table as XLSX or CSV.")

    def odd_cells(self, sheet: str) -> OddCells:
        return {}


def _has_stream(content: bytes, name: str) -> bool:
    """Whether a name stands in the directory of an OLE file."""
    return (name + "\0").encode("utf-16-le") in content


def _has_odd_cells(xml: bytes, formula: bytes) -> bool:
    """Whether there are formulas or errors. Single letters are found sooner, and tell that most sheets have none."""
    return (b"f" in xml and formula in xml) or (b"#" in xml and (b't="e"' in xml or b"t='e'" in xml))


def _refuse_doctype(*_: object) -> None:
    raise LimitError("has a DOCTYPE")


def _at_most(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise LimitError(f"has more than {limit:,} {what}")


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _number_of(letters: str) -> int:
    """The number of a column: 1 for A, 27 for AA."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(letter) + 1
        _at_most(number, MAX_COLUMNS, "columns")
    return number


if __name__ == "__main__":
    main()
