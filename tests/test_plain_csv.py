"""Plain CSV: what pyarrow reads is what Python's reader reads, and everything else is left to it."""

import io
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.arrays import python_cells
from tabserve.errors import TabserveError
from tabserve.tables import batch, lines
from tabserve.tables.batch import Batch, in_batches
from tabserve.tables.limits import Deadline
from tabserve.tables.lines import CsvText, open_csv
from tabserve.tables.plain_csv import MAX_COLUMNS, plain_cells
from tests.conftest import wait_until

WIDTH = 3
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "gb18030", "utf-7", "iso2022_jp"]
CELLS = st.one_of(
    st.sampled_from(
        ["", "1", "a b", " x", "x ", " ", "\u00a0", "\ufeff", "x,y", "x;y", 'x"y', '"', '""', "\u00e4", "\t"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3),
)
QUOTED = CELLS.map(lambda cell: '"' + cell.replace('"', '""') + '"')
ROWS = st.lists(st.one_of(CELLS, QUOTED, st.just("1")), min_size=WIDTH, max_size=WIDTH)
FAIR = st.sampled_from(["1", "23", "ab", "", '"a,b"', '"a""b"', " 7", "\u00e4"])
PLAIN = st.lists(FAIR, min_size=WIDTH, max_size=WIDTH)
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", ",\n", ",,\n", ', ""\n', ""])


@st.composite
def files(draw: Callable[..., Any]) -> str:
    """Texts with a header, most of them nearly plain."""
    end = draw(st.sampled_from(["\n", "\r\n", ";\n"]))
    separator = draw(st.sampled_from([",", ";", ", "]))
    parts = []
    for cells in draw(st.lists(PLAIN | ROWS, max_size=8)):
        parts.append(separator.join(cells) + (draw(ENDS) if draw(st.integers(0, 9)) == 0 else end))
    return "a,b,c\n".replace(",", separator) + "".join(parts)


def read(content: bytes, batches: Callable[[CsvText, Iterator[Any]], Iterator[Batch]], **how: Any) -> Any:
    """All row numbers and cells, or the error."""
    with open_csv(io.BytesIO(content), Deadline(None), **how) as text:
        rows = text.rows()
        try:
            header = [*itertools.islice(rows, 1)]
            found = [*batches(text, rows)]
        except TabserveError as error:
            return str(error)
    numbers = [number for batch in found for number in batch.rows]
    columns = [[cell for batch in found for cell in python_cells(batch.cells.column(n))] for n in range(WIDTH)]
    return header, numbers, columns


def fast(content: bytes, **how: Any) -> Any:
    return read(content, lambda text, _: text.batches("f", WIDTH), **how)


def slow(content: bytes, **how: Any) -> Any:
    return read(content, lambda _, rows: in_batches("f", rows, WIDTH, typed=False), **how)


ODD = (
    b"\xef\xbb\xbf1,2,3\n",
    b"  \xef\xbb\xbf1,2,3\n",
    b",,\n",
    b"\n\n",
    b'"","",""\n',
    b" , \xc2\xa0,\n",
    b"1,2\n",
    b"1,2,3,4\n",
    b'1,2,3,,""\n',
    b"1,2,3, \n",
    b"1,2,3,\xc2\xa0\n",
    b"1,2\r,3\n",
    b"1,2,3\r",
    b"1,2,3\r\r\n",
    b'1,x"2",3\n',
    b'1,x"2,3"\n',
    b'1,"2"x,3\n',
    b'1,"2" ,3\n',
    b'1, "2",  "a,  b"\n',
    b'1,"2\n,",3\n',
    b'1,"2,3\n4,5",6\n',
    b'1,"2,3\n',
    b'"1,2,3',
    b'1,"2""","",3\n',
    b'"""1""",2,""""\n',
    b'1,"",""""""\n',
    b"1,\xff,3\n",
    b"1,2,3\n" * 2_000 + b"1,\xff,3\n",
    b"1,\0,3\n",
    b"1,\t2,\t\n",
    b"1,2;3,4\n",
    b"1,2," + 20_000 * b"3" + b"\n",
    b'1,"' + 16_384 * b"," + b'",3\n',
    b"1,2," + 140_000 * b"3" + b"\n",
    b"1,2,3" + 16_382 * b"," + b"\n",
    b"1,2,3" + 16_381 * b"," + b"\n",
    b"1,2,3" + 1_000_000 * b" " + b"\n",
)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("before", [b"", b"1,2,3\n"])
@pytest.mark.parametrize("after", [b"", b"4,5,6\n7,8,9", b'"4","5","6"\n'])
def test_a_piece_with_an_odd_line_is_read_as_row_by_row(before: bytes, odd: bytes, after: bytes) -> None:
    content = b"a,b,c\n" + before + odd + after
    assert fast(content, encoding="utf-8") == slow(content, encoding="utf-8")


@given(files(), st.sampled_from([",", ";", "\t"]), st.integers(1, 40))
def test_batches_are_those_of_the_rows(text: str, separator: str, piece: int) -> None:
    with patch.object(lines, "PIECE", piece), patch.object(batch, "ROWS", 2):
        content = text.encode()
        assert fast(content, separator=separator) == slow(content, separator=separator)


@given(files(), st.sampled_from(ENCODINGS))
def test_text_of_any_encoding_is_read_in_pieces(text: str, encoding: str) -> None:
    content = text.encode(encoding, "replace")
    with patch.object(lines, "PIECE", 10), patch.object(batch, "ROWS", 2):
        assert fast(content, encoding=encoding) == slow(content, encoding=encoding)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_are_refused_as_row_by_row(end: bytes) -> None:
    content = b"a,b,c\n" + b"1,2,3\n" * 2_000 + end
    with patch.object(lines, "PIECE", 8_000):
        assert fast(content, encoding="utf-8") == slow(content, encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3\n4,5,6\n",
        "1,2,3\r\n4,5,6",
        '"1,1","2""2",""\n4,,\n',
        " 1, 2,3\n4,5,  6\n",
        '"1", "2", " 3"\n4,5,6\n',
        "1,2,3,,\n4,5,6,,\n",
        ",,\u00e4\n4,5,6\n",
    ],
)
def test_plain_text_is_read_at_once(text: str) -> None:
    cells = plain_cells(text.encode(), ",", WIDTH)
    assert cells is not None
    rows = lines.csv.reader(io.StringIO(text), skipinitialspace=True)
    assert [*zip(*map(python_cells, cells.columns), strict=True)] == [tuple(row[:WIDTH]) for row in rows]


def test_spaces_after_tabs_belong_to_the_cells() -> None:
    cells = plain_cells(b"1\t 2\t3\n", "\t", WIDTH)
    assert cells is not None
    assert cells.column(1).to_pylist() == [" 2"]


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3\n,,\n",
        "1,2,3\n,\u00a0,\n",
        "1,2,3\n\n",
        "1,2,3\n4,5\n",
        "1,2,3\n4,5,6,7\n",
        '1,2,3\n4,5,"6\n"\n',
        '1,2,3\n4,5"5,6\n',
        '1,2,3\n4,"5"5,6\n',
        "1,2,3\r4,5,6\n",
        "1,2,\0\n",
        "1,2," + 131_073 * "3",
        f'"1","{"," * MAX_COLUMNS}",3\n',
    ],
)
def test_text_that_is_not_plain_is_left_to_be_read_row_by_row(text: str) -> None:
    assert plain_cells(text.encode(), ",", WIDTH) is None


def test_no_signal_is_lost_that_comes_while_a_text_is_read() -> None:
    come: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: come.append(number))
    text, sent = b"1,2,3\n" * 20_000, 0
    try:
        end = time.monotonic() + 60
        while sent < 200 and time.monotonic() < end:
            timer = threading.Timer(0.0005, os.kill, [os.getpid(), signal.SIGTERM])
            timer.start()
            plain_cells(text, ",", 3)
            timer.join()
            sent += 1
            wait_until(lambda: len(come) == sent, 10, "A signal is lost.")  # noqa: B023 - it is waited for here
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sent > 50
