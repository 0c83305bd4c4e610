"""The writer: CSV as text, and in pieces without formulas."""

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.tables.writer import BLANKS, FORMULA, PIECE, csv_pieces, write_csv

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
