"""CSV files, line by line."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.errors import FileLimitError, InvalidTableError, UnsupportedFileError
from tabserve.tables import lines
from tabserve.tables.limits import Deadline
from tabserve.tables.lines import json_rows, open_csv


def rows_of(content: bytes, seconds: float | None = None) -> list[tuple[int, list[str], int]]:
    with open_csv(io.BytesIO(content), Deadline(seconds)) as text:
        return [(number, list(cells), width) for number, cells, width in text.rows()]


def test_rows_are_counted_by_the_lines_on_which_they_begin() -> None:
    assert rows_of(b'a,b\n\n"1\n\n2",3\n,,\r\n4,5\r6,7') == [
        (1, ["a", "b"], 2),
        (3, ["1\n\n2", "3"], 2),
        (7, ["4", "5"], 2),
        (8, ["6", "7"], 2),
    ]


@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=4).filter(any), max_size=5))
def test_what_a_writer_wrote_is_read_in_any_pieces(rows: list[list[str]]) -> None:
    rows = [[cell.replace("\0", "") for cell in row] for row in rows]
    text = io.StringIO(newline="")
    lines.csv.writer(text).writerows(rows)
    content = text.getvalue().encode("utf-8", "surrogatepass")
    try:
        assert [cells for _, cells, _ in rows_of(content)] == [row for row in rows if any(map(str.strip, row))]
    except UnsupportedFileError:
        assert "\ufeff" in text.getvalue()[:1] or any("\ud800" <= letter <= "\udfff" for letter in text.getvalue())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a," * 16_384, "A row of the file has more than 16,384 cells."),
        (b'"a\n",' * 16_384, "A row of the file has more than 16,384 cells."),
        (b"a" * 1_000_001, "A row of the file has more than 1,000,000 characters."),
        (b",".join([b'"' + b"a\n" * 60_000 + b'"'] * 9), "A row of the file has more than 1,000,000 characters."),
        (b"a" * 131_073, "A cell of the CSV file has more than 131,072 characters."),
        (b"\n" * 1_048_577, "The file has more than 1,048,576 blank lines: remove them."),
    ],
)
def test_a_row_beyond_a_limit_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(FileLimitError) as caught:
        rows_of(content)
    assert str(caught.value) == message


@pytest.mark.parametrize("line", [b'1,"2', b'"1"2,3', b'"1";"2"'])
def test_a_quote_out_of_place_is_named_by_its_row(line: bytes) -> None:
    with pytest.raises(UnsupportedFileError, match=r"in row 5 a quote is not closed or stands alone, or"):
        rows_of(b'a,b\n\n"1\n1",2\n' + line)


@pytest.mark.parametrize("content", ["a,\u00fc".encode("latin-1"), "a,b".encode("utf-16-le")])
def test_another_encoding_is_told_the_right_one(content: bytes) -> None:
    with pytest.raises(UnsupportedFileError, match='Save a table as "CSV UTF-8" or as XLSX'):
        rows_of(content)


def test_limits_are_those_of_one_row() -> None:
    row = b",".join([b"a" * 40] * 16_384) + b"\n"
    assert len(rows_of(row * 5)) == 5


def test_a_row_is_read_before_what_follows_it_is_looked_at() -> None:
    with open_csv(io.BytesIO(b"a,b\n" + b"x" * 100_000 + b"\xff"), Deadline(None)) as text:
        rows = text.rows()
        assert next(rows) == (1, ["a", "b"], 2)
        with pytest.raises(UnsupportedFileError, match="neither CSV"):
            next(rows)


def test_a_time_that_is_over_is_seen_while_reading() -> None:
    with pytest.raises(FileLimitError, match="takes longer than 1e-09 seconds: send it in several parts"):
        rows_of(b"a\n" * 1_000, 1e-9)


def test_the_stream_stays_its_owner_s() -> None:
    stream = io.BytesIO(b"a\n")
    with open_csv(stream, Deadline(None)) as text:
        assert len([*text.rows()]) == 1
    assert not stream.closed


def objects(content: bytes) -> list[tuple[int, list[object], int]]:
    return [
        (row, list(cells), width) for row, cells, width in json_rows(io.BytesIO(content), "f", Deadline(None), "utf-8")
    ]


def test_objects_on_lines_are_rows_below_the_keys_of_all_of_them() -> None:
    assert objects(b'{"a": 1, "b": "x"}\n\n{"c": null, "a": true}\n') == [
        (1, ["a", "b", "c"], 3),
        (1, [1, "x", None], 3),
        (3, [True, None, None], 3),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1]", "Must be one JSON object"),
        (b"7", "Must be one JSON object"),
        (b'{"a": 1} {"a": 2}', "Must be one JSON object"),
        (b'{"a": 1, "a": 2}', "Must be one JSON object, without repeated keys."),
        (b'{"a": ', "Must be one JSON object"),
        (b'{"a": ' + b"[" * 100_000, "Must be one JSON object"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "Must be one JSON object"),
        (b'{"a": [1]}', "Values must be texts, numbers, true, false or null."),
        (b'{"a": {}}', "Values must be texts, numbers, true, false or null."),
    ],
)
def test_a_line_that_is_no_flat_object_is_named(line: bytes, problem: str) -> None:
    with pytest.raises(InvalidTableError) as caught:
        objects(b'{"a": 1}\n' + line)
    assert f"row 2: {problem}" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"\n" * 1_048_577, b'{"a": "' + b"x" * 1_000_000, b"{" + b",".join(b'"%d":1' % n for n in range(16_385)) + b"}"],
)
def test_limits_hold_for_json_lines_too(content: bytes) -> None:
    with pytest.raises(FileLimitError):
        objects(content)
