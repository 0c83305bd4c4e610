"""The writer: CSV as text, and in pieces without formulas."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.tables.writer import BLANKS, FORMULA, PIECE, csv_pieces, write_csv, written_like

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def test_what_is_missing_is_an_empty_cell() -> None:
    assert write_csv(["a", "b"], [{"a": 1, "b": None}, {"b": "x,y"}]) == 'a,b\n1,\n,"x,y"\n'


def test_a_key_that_is_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="c"):
        write_csv(["a"], [{"a": 1, "c": 2}])


def rows_of(columns: dict[str, list[object]]) -> list[list[str]]:
    text = b"".join(csv_pieces(columns)).decode()
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


@given(cells=st.lists(TEXTS.filter(lambda text: not text.lstrip(BLANKS).startswith(FORMULA))))
def test_ordinary_texts_come_back_as_they_are(cells: list[str]) -> None:
    assert rows_of({"text": cells, "number": list(range(len(cells)))})[1:] == [
        [cell, str(number)] for number, cell in enumerate(cells)
    ]


@pytest.mark.parametrize("name", ["=1+1", " @x", "\uff0b1"])
def test_what_would_be_computed_has_an_apostrophe_before_it_in_the_header_too(name: str) -> None:
    assert rows_of({name: [name, -1]}) == [[f"'{name}"], [f"'{name}"], ["-1"]]


def test_no_more_is_asked_for_than_a_piece_holds() -> None:
    asked = []

    def cells() -> Iterator[str]:
        for number in range(100_000):
            asked.append(number)
            yield "x" * 20

    first = next(csv_pieces({"text": cells()}))
    assert PIECE <= len(first) < 2 * PIECE
    assert len(asked) < 10_000


COLUMNS = {"gr\u00f6\u00dfe": [1.5, -2, None], "word": ["a;b", "=1", "-3,5"]}


def answer(read_as: dict[str, str]) -> bytes:
    return b"".join(written_like(read_as, COLUMNS))


def test_an_answer_has_the_dialect_of_what_was_sent() -> None:
    german = {"format": "csv", "separator": ";", "decimal": ",", "encoding": "cp1252"}
    assert answer(german).decode("cp1252") == 'gr\u00f6\u00dfe;word\r\n1,5;"a;b"\r\n-2;\'=1\r\n;-3,5\r\n'
    assert answer({}).decode() == 'gr\u00f6\u00dfe,word\r\n1.5,a;b\r\n-2,\'=1\r\n,"-3,5"\r\n'


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8-sig", b"\xef\xbb\xbf"), ("utf-16", b"\xff\xfe")])
def test_a_byte_order_mark_comes_back_once(encoding: str, mark: bytes) -> None:
    content = b"".join(written_like({"format": "csv", "encoding": encoding}, {"text": ["x" * 20] * 10_000}))
    assert content.startswith(mark)
    assert content.decode(encoding).split() == ["text", *["x" * 20] * 10_000]


def test_a_first_line_that_names_the_separator_comes_back() -> None:
    assert answer({"format": "csv", "separator": ";", "first_line": "sep=;"}).startswith(b"sep=;\r\n")


def test_what_an_encoding_lacks_is_written_without_its_accent_or_as_a_question_mark() -> None:
    content = b"".join(written_like({"encoding": "cp1252"}, {"text": ["\u0159\u00fc", "\u2265", "\u4e2d"]}))
    assert content == b"text\r\nr\xfc\r\n?\r\n?\r\n"


def test_json_lines_are_answered_with_json_lines() -> None:
    columns = {"a": [1, None], "b": ["=x", "y"], "result": [np.float64(0.5), True]}
    lines = b"".join(written_like({"format": "jsonl", "encoding": "utf-8"}, columns)).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"a": 1, "b": "=x", "result": 0.5},
        {"a": None, "b": "y", "result": True},
    ]


def test_a_workbook_is_answered_with_a_workbook() -> None:
    assert answer({"format": "ods", "sheet": "Loans"}).startswith(b"PK\x03\x04")


@pytest.mark.parametrize(("kind", "magic"), [("parquet", b"PAR1"), ("feather", b"ARROW1")])
def test_parquet_and_feather_are_answered_in_kind(kind: str, magic: bytes) -> None:
    assert answer({"format": kind}).startswith(magic)


@pytest.mark.parametrize("dialect", [{}, {"separator": ";", "decimal": ","}])
def test_dates_are_written_as_iso_8601(dialect: dict[str, str]) -> None:
    columns = {"at": [date(2024, 2, 29), datetime(2024, 2, 29, 1, 2, 3)]}
    assert b"".join(written_like(dialect, columns)).split() == [b"at", b"2024-02-29", b"2024-02-29T01:02:03"]
    assert b'"2024-02-29T01:02:03"' in b"".join(written_like({"format": "jsonl"}, columns))


def test_numbers_of_numpy_have_the_decimal_sign_of_the_file_too() -> None:
    content = b"".join(
        written_like({"separator": ";", "decimal": ","}, {"p": [np.float64(0.5), np.float32(0.25), 1e-7]})
    )
    assert content == b"p\r\n0,5\r\n0,25\r\n1e-07\r\n"
