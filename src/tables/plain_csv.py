"""Plain CSV, read by pyarrow: a few looks at its bytes prove that Python's reader would read it equally.

Everything else is left to that reader (`lines`), which knows blank rows, cells with line breaks, quotes out of place
and what exceeds a limit.
"""

import csv
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.tables.batch import column_names

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS = 16_384  # as many as Excel writes
MAX_ROW_TEXT = 1_000_000  # characters
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARK = b"\xef\xbb\xbf"  # pyarrow would skip it
_QUOTE, _NEWLINE, _RETURN, _SPACE = b'"\n\r '

Bytes: TypeAlias = npt.NDArray[np.uint8]
Places: TypeAlias = npt.NDArray[np.intp]
Mask: TypeAlias = npt.NDArray[np.bool_]


def plain_cells(text: bytes, separator: str, width: int) -> "pa.RecordBatch | None":
    """The cells of some lines, each of which is a row.

    Parameters
    ----------
    text : bytes
        Whole lines in UTF-8.
    separator : str
        What separates cells.
    width : int
        How many cells the header has.

    Returns
    -------
    pyarrow.RecordBatch or None
        Of (n_lines, width) texts. None where the text is not plain: it may be no UTF-8, rows may be blank or of another
        width, and limits may be exceeded.
    """
    if not text or text.isspace() or separator not in SEPARATORS or _has_odd_bytes(text):
        return None
    is_quoted = b'"' in text
    content = np.frombuffer(text, np.uint8)
    ends = _ends(content)
    if np.diff(ends, prepend=-1).max() > _limit(is_quoted=is_quoted):
        return None
    if separator != "\t" and (shorter := _without_initial_spaces(content, separator)) is not content:
        text, content, ends = shorter.tobytes(), shorter, _ends(shorter)
    if is_quoted and not _are_well_formed(np.flatnonzero(content == _QUOTE), content, ends, separator):
        return None
    if text.startswith(_MARK) or _may_have_blank_row(text, content, ends, separator):
        return None
    cells = _read(text, separator, width, is_quoted=is_quoted)
    return cells if cells is not None and cells.num_rows == len(ends) else None


def _has_odd_bytes(text: bytes) -> bool:
    """Whether the text is no UTF-8, or has zeros or carriage returns that are not followed by a line feed."""
    if b"\0" in text or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n")):
        return True
    try:
        return not (text.isascii() or text.decode())
    except UnicodeDecodeError:
        return True


def _ends(content: Bytes) -> Places:
    """Where the lines end, the last one too if nothing follows it."""
    ends = np.flatnonzero(content == _NEWLINE)
    return ends if content[-1] == _NEWLINE else np.append(ends, len(content))


def _limit(*, is_quoted: bool) -> int:
    """How many bytes a line may have so that no limit of a row or cell can be exceeded."""
    limit = min(MAX_ROW_TEXT, csv.field_size_limit())
    return min(limit, MAX_COLUMNS) if is_quoted else limit  # separators in quotes count as cells


def _are_well_formed(quotes: Places, content: Bytes, ends: Places, separator: str) -> bool:
    """Whether quotes alternately open and close cells, on one line each, where RFC 4180 has them."""
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, content[opening - 1], _NEWLINE)
    after = content[np.minimum(closing + 1, len(content) - 1)]
    is_between = (closing[:-1] + 1) == opening[1:]  # two quotes in a cell, which are one of its text
    opens = (before == ord(separator)) | (before == _NEWLINE)
    opens[1:] |= is_between
    closes = (after == ord(separator)) | (after == _NEWLINE) | (after == _RETURN) | (closing + 1 == len(content))
    closes[:-1] |= is_between
    is_within_line = np.searchsorted(quotes, ends) % 2 == 0
    return bool(opens.all() and closes.all() and is_within_line.all())


def _may_have_blank_row(text: bytes, content: Bytes, ends: Places, separator: str) -> bool:
    """Whether a line may hold nothing but empty cells and white space."""
    fills = np.zeros(256, np.bool_)
    fills[ord("!") : ord("~") + 1] = True
    fills[[_QUOTE, ord(separator)]] = False
    starts = np.append(0, ends[:-1] + 1)
    firsts = np.minimum(starts + (content[starts] == _QUOTE), len(content) - 1)
    if fills[content[firsts]].all():
        return False
    filled = np.logical_or.reduceat(fills[content], starts)
    ignored = f'{separator}"'.encode()
    unsure = zip(starts[~filled].tolist(), ends[~filled].tolist(), strict=True)
    return not all(text[start:end].translate(None, ignored).decode(errors="replace").strip() for start, end in unsure)


def _without_initial_spaces(content: Bytes, separator: str) -> Bytes:
    """The text itself, or without the spaces at the beginning of cells.

    Where the quotes are not well-formed without them, these are not the right spaces; then the text is not plain.
    """
    is_space = content == _SPACE
    spaces = np.flatnonzero(is_space)
    before = np.where(spaces > 0, content[spaces - 1], _NEWLINE)
    firsts = spaces[(before == ord(separator)) | (before == _NEWLINE)]
    if not len(firsts):
        return content
    firsts = firsts[np.searchsorted(np.flatnonzero(content == _QUOTE), firsts) % 2 == 0]
    others = np.append(np.flatnonzero(~is_space), len(content))
    depth = np.zeros(len(content) + 1, np.int8)
    depth[firsts] = 1
    depth[others[np.searchsorted(others, firsts)]] = -1
    kept: Bytes = content[np.cumsum(depth[:-1], dtype=np.int8) == 0]
    return kept


def _read(text: bytes, separator: str, width: int, *, is_quoted: bool) -> "pa.RecordBatch | None":
    """What pyarrow reads; None where a row has another width than the first."""
    import pyarrow as pa
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

    # its own handlers lose a Ctrl-C, or the SIGTERM of a worker, on a busy machine: they tell of it through a thread
    pa.enable_signal_handlers(False)
    first = text.partition(b"\n")[0].decode(errors="replace")
    names = column_names(len(next(csv.reader([first], delimiter=separator), [])))
    if not width <= len(names) < MAX_COLUMNS:
        return None
    try:
        table = read_csv(
            pa.py_buffer(text),
            ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            ParseOptions(delimiter=separator, quote_char='"' if is_quoted else False, ignore_empty_lines=False),
            ConvertOptions(column_types=dict.fromkeys(names, pa.string()), check_utf8=False),
        )
    except pa.ArrowInvalid:
        return None
    (cells,) = table.combine_chunks().to_batches()
    if any(column != "" for extra in cells.columns[width:] for column in extra.unique().to_pylist()):
        return None
    return cells.select(names[:width])
