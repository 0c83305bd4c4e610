"""Dialects: text files as spreadsheets and programs write them, recognised by the known columns."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.columns.carried import Id, Ignored
from tabserve.columns.features import Category, Integer, Number
from tabserve.errors import InvalidTableError, TabserveError, UnsupportedFileError
from tabserve.tables.reader import read_table
from tabserve.tables.table import Table

AREA = Number(name="fl\u00e4che", description="", low=-1e9, high=1e9, missing=True)
ROOMS = Integer(name="zimmer", description="", low=0, high=30)
PLACE = Category(name="stadtteil", description="", values=("S\u00fcdstadt", "K\u00f6ln-Mitte", "Altstadt"))
PRICE = Number(name="preis", description="", low=0, high=1e9)
FEATURES = (AREA, ROOMS, PLACE)
NAMES = ("fl\u00e4che", "zimmer", "stadtteil", "preis")
ROWS = (("59.56", "2", "S\u00fcdstadt", "141605.96"), ("139.0", "5", "K\u00f6ln-Mitte", "276456.84"))
WAY_OUT = "declare `decimal` in the dialect"


def read(content: bytes, dialect: dict[str, str] | None = None, extras: Any = (), features: Any = FEATURES) -> Table:
    return read_table(io.BytesIO(content), "houses.csv", features, PRICE, extras, dialect=dialect)


def written(rows: Any, separator: str, decimal: str, encoding: str, end: str = "\r\n", names: Any = NAMES) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerow(names)
    writer.writerows([[cell.replace(".", decimal) for cell in row] for row in rows])
    return text.getvalue().encode(encoding)


def refused(content: bytes, dialect: dict[str, str] | None = None, **how: Any) -> str:
    with pytest.raises(InvalidTableError) as caught:
        read(content, dialect, **how)
    return str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_the_same_table_is_read_from_each_dialect_and_it_is_said(separator: str, decimal: str, encoding: str) -> None:
    table = read(written(ROWS, separator, decimal, encoding))
    assert table.records == [
        {"fl\u00e4che": 59.56, "zimmer": 2, "stadtteil": "S\u00fcdstadt"},
        {"fl\u00e4che": 139.0, "zimmer": 5, "stadtteil": "K\u00f6ln-Mitte"},
    ]
    assert table.target == [141605.96, 276456.84]
    assert table.read_as == {"format": "csv", "separator": separator, "decimal": decimal, "encoding": encoding}


numbers = st.none() | st.integers(-(10**6), 10**6) | st.decimals(-10_000, 10_000, places=3).map(float)
prices = st.floats(0, 10**6)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            numbers, st.integers(0, 30), st.sampled_from(PLACE.values), st.integers(0, 10**6) | st.floats(0, 10**6)
        ),
        max_size=6,
    ),
    separator=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_was_written_in_any_dialect_is_read_back_or_refused_and_never_becomes_something_else(
    rows: list[tuple[Any, ...]], separator: str, decimal: str, encoding: str, end: str
) -> None:
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    try:
        table = read(written(cells, separator, decimal, encoding, end))
    except InvalidTableError as error:
        message = str(error)
    else:
        message = ""
        values = [tuple(record.values()) for record in table.records]
        assert [(*value, target) for value, target in zip(values, table.target or (), strict=True)] == rows
    assert not message or WAY_OUT in message


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_first_line_that_names_the_separator_is_none_of_the_rows(first: str) -> None:
    table = read(f"{first}\r\n".encode() + written(ROWS, ";", ",", "utf-8"))
    assert table.read_as["first_line"] == first
    assert list(table.rows) == [3, 4]


def test_a_first_line_that_names_another_separator_than_the_header_has_is_said() -> None:
    message = refused(b"sep=,\r\n" + written(ROWS, ";", ",", "utf-8"))
    assert "The columns are separated by semicolons, but its first line says commas: change one of them." in message


def test_titles_above_the_header_blank_and_trailing_lines_and_padding_do_not_matter() -> None:
    text = "Report\r\n\r\nMarch 2012;;\r\n"
    text += ' FL\u00c4CHE ; "Zimmer";Stadtteil;Preis\r\n 59,5 ; 2;Altstadt ;7\r\n;;;\r\n\r\n  \r\n'
    table = read(text.encode())
    assert table.records == [{"fl\u00e4che": 59.5, "zimmer": 2, "stadtteil": "Altstadt"}]
    assert list(table.rows) == [5]


@pytest.mark.parametrize(
    ("cells", "area"),
    [
        (["1,234", "0,5"], 1.234),
        (["1.234,5"], 1234.5),
        (["1.234", "59,56"], 1234),
        (["1.234", "59.56"], 1.234),
        (["1.234.567"], 1234567),
        (["1.234e3"], 1234),
        ([".5"], 0.5),
        (["-1.2345"], -1.2345),
    ],
)
def test_one_number_that_can_be_read_in_one_way_decides_for_all(cells: list[str], area: float) -> None:
    lines = ["fl\u00e4che;zimmer;stadtteil", *[f"{cell};2;Altstadt" for cell in cells]]
    assert read("\n".join(lines).encode()).records[0]["fl\u00e4che"] == area


def test_what_decides_may_stand_in_another_column_and_far_below_whole_numbers() -> None:
    lines = ["fl\u00e4che;zimmer;stadtteil;preis", *["7;2;Altstadt;1"] * 5_000, "1.234;2;Altstadt;59,56"]
    assert read("\n".join(lines).encode()).records[-1]["fl\u00e4che"] == 1234


@pytest.mark.parametrize("cells", [["1.234"], ["1.234", "12.345"], ["1,234"], ["1.234", "1,234"], ["0.5", "0,5"]])
def test_numbers_that_can_be_read_in_two_ways_are_refused_with_the_way_out(cells: list[str]) -> None:
    content = "\n".join(["fl\u00e4che;zimmer;stadtteil", *[f"{cell};2;Altstadt" for cell in cells]]).encode()
    assert WAY_OUT in refused(content)
    assert not [cell for cell in cells if cell in refused(content)]


def test_a_declared_decimal_sign_decides() -> None:
    content = "fl\u00e4che;zimmer;stadtteil\n1.234;2;Altstadt".encode()
    assert read(content, {"decimal": "."}).records[0]["fl\u00e4che"] == 1.234
    assert read(content, {"decimal": ","}).records[0]["fl\u00e4che"] == 1234


def test_a_point_between_commas_is_a_decimal_one() -> None:
    assert read("fl\u00e4che,zimmer,stadtteil\n1.234,2,Altstadt".encode()).records[0]["fl\u00e4che"] == 1.234


def test_a_later_number_that_contradicts_is_a_fault_with_its_line() -> None:
    lines = ["fl\u00e4che;zimmer;stadtteil", *["59,56;2;Altstadt"] * 2_000, "0.125;2;Altstadt"]
    table = read("\n".join(lines).encode())
    with pytest.raises(InvalidTableError, match=r"row 2002, column 'fl\u00e4che': '0\.125'"):
        table.check(FEATURES, None)


def test_a_declared_separator_is_checked() -> None:
    content = written(ROWS, ",", ".", "utf-8")
    message = refused(content, {"separator": ";"})
    assert "separated by commas, but its dialect is declared with semicolons: change one of them." in message
    assert read(content, {"separator": ","}).target == [141605.96, 276456.84]


def test_two_separators_under_which_columns_are_known_are_refused_unless_one_is_declared() -> None:
    features = (Category(name="a", description="", values=("x",)), Category(name="b", description="", values=("y",)))
    content = b"a,b;a\nx,y;x\n"
    extra = [Ignored(name="b;a", description=""), Ignored(name="a,b", description="")]
    assert "may be separated by commas or by semicolons: declare the separator" in refused(
        content, extras=extra, features=features
    )


def test_one_column_needs_no_separator() -> None:
    assert read("fl\u00e4che\n59,56\n".encode(), features=(AREA,)).records == [{"fl\u00e4che": 59.56}]


def test_a_file_that_is_not_utf8_is_refused_where_texts_depend_on_its_encoding() -> None:
    word = Category(name="word", description="", other="another")
    content = "zimmer;stadtteil;word\n2;Altstadt;na\u00efve".encode("cp1252")
    assert "The file is not UTF-8, and no known name or value tells its encoding" in refused(
        content, features=(ROOMS, PLACE, word)
    )
    declared = read(content, {"encoding": "cp1252"}, features=(ROOMS, PLACE, word))
    assert declared.records[0]["word"] == "na\u00efve"


def test_a_known_value_tells_the_encoding_of_other_texts_too() -> None:
    word = Category(name="word", description="", other="another")
    content = "zimmer;stadtteil;word\n2;S\u00fcdstadt;na\u00efve".encode("cp1252")
    assert read(content, features=(ROOMS, PLACE, word)).records[0]["word"] == "na\u00efve"


def test_what_is_only_carried_along_does_not_depend_on_the_encoding() -> None:
    content = "name;zimmer;stadtteil\nBj\u00f6rn;2;Altstadt".encode("cp1252")
    table = read(content, extras=[Id(name="name", description="")], features=(ROOMS, PLACE))
    assert table.extras == {"name": ["Bj\u00f6rn"]}


@pytest.mark.parametrize(
    ("encoding", "declared"), [("utf-8-sig", "cp1252"), ("utf-16", "utf-8"), ("cp1252", "utf-8"), ("utf-8", "klingon")]
)
def test_a_declared_encoding_is_checked(encoding: str, declared: str) -> None:
    with pytest.raises(UnsupportedFileError):
        read(written(ROWS, ",", ".", encoding), {"encoding": declared})


@settings(deadline=None)
@given(content=st.binary(max_size=80), separator=st.sampled_from([";", ","]))
def test_any_bytes_below_a_header_are_read_or_refused(content: bytes, separator: str) -> None:
    header = separator.join(NAMES).encode()
    outcome: object = None
    try:
        outcome = read(header + b"\n" + content)
    except TabserveError as error:
        outcome = error
    assert isinstance(outcome, Table) or len(str(outcome)) < 5_000


@pytest.mark.parametrize(
    ("cell", "decimal"),
    [
        ("1\u00a0234,5", ","),
        ("1\u202f234,567", ","),
        ("1 234,5", ","),
        ("1'234.5", "."),
        ("1\u2019234.567", "."),
    ],
)
def test_groups_of_digits_that_are_not_separated_by_a_decimal_sign_do_not_hide_it(cell: str, decimal: str) -> None:
    price = Number(name="preis", thousands=True)
    table = read_table(io.BytesIO(f"id;preis\na;{cell}\n".encode()), "a.csv", (), price, (Id(name="id"),))
    assert table.target == [pytest.approx(1234.5, abs=0.1)]
    assert table.read_as["decimal"] == decimal


@pytest.mark.parametrize("text", ['[{"a": 1}]', '[\n  {"a": 1}\n]', '\ufeff[{"a": 1},\n{"a": 2}]'])
def test_a_json_list_is_refused_with_what_would_be_read(text: str) -> None:
    with pytest.raises(UnsupportedFileError, match="write JSON lines, one object on each line"):
        read(text.encode())


def test_a_name_in_brackets_is_no_json() -> None:
    number = Number(name="[m]")
    assert read_table(io.BytesIO(b"[m];y\n1,5;2\n"), "a.csv", (number,), Number(name="y")).records == [{"[m]": 1.5}]


def test_a_group_of_three_digits_in_whole_numbers_is_refused_with_the_way_out() -> None:
    rooms = Integer(name="rooms", low=0, high=9_999)
    table = read_table(io.BytesIO(b"rooms;y\n1.234;2\n"), "a.csv", (rooms,), Number(name="y"))
    with pytest.raises(InvalidTableError, match=r"declare decimal = ',' in the dialect, or write 1234 for 1\.234"):
        table.check((rooms,), None)
