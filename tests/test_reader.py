"""The reader: CSV and XLSX files to records; every fault says where it is."""

import io
import zipfile
from collections.abc import Sequence
from csv import writer
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from tabserve.columns.carried import Id, Ignored
from tabserve.columns.features import RESERVED_NAMES, Category, Feature, Integer, Number
from tabserve.columns.texts import Text
from tabserve.declaration.use_case import UseCase
from tabserve.errors import FileLimitError, InvalidTableError, TabserveError, TooManyRowsError, UnsupportedFileError
from tabserve.tables import workbook as workbooks
from tabserve.tables.reader import read_table, read_training_table
from tabserve.tables.table import Table
from tabserve.tables.writer import write_csv
from tabserve.transformers import RecordEncoder

AGE = Integer(name="age", description="", low=0, high=120)
HOUSING = Category(name="housing", description="", values=("own", "for, free", 'the "other"', "1"))
INCOME = Number(name="income", description="", low=-1e300, high=1e300, missing=True)
FEATURES = (AGE, HOUSING, INCOME)
KIND_OR_OTHER = Category(name="x", description="", values=("a", "b"), other="b")
TARGET = Integer(name="default", description="", low=1, high=2)
COLUMNS = ["age", "housing", "income", "default"]
FIRST = {"age": 35, "housing": "own", "income": 1.5}
records_and_targets = st.lists(
    st.tuples(
        st.integers(0, 120),
        st.sampled_from(HOUSING.values),
        st.none() | st.integers(-(2**53), 2**53) | st.integers(-1000, 1000).map(lambda eighths: eighths / 8),
        st.integers(1, 2),
    ),
    max_size=5,
)


def csv(*lines: str) -> io.BytesIO:
    return io.BytesIO("\n".join(lines).encode())


def xlsx(*sheets: Sequence[Sequence[Any]]) -> io.BytesIO:
    """A workbook with one sheet for each argument, a list of rows."""
    workbook = Workbook()
    workbook.remove(workbook.active)
    for rows in sheets:
        sheet = workbook.create_sheet()
        for row in rows:
            sheet.append(row)
    stream = io.BytesIO()
    workbook.save(stream)
    stream.seek(0)
    return stream


def read(stream: io.BytesIO, max_rows: int | None = None) -> Table:
    return read_table(stream, "loans.csv", FEATURES, TARGET, max_rows=max_rows)


def refused(stream: io.BytesIO, *, check: bool = False) -> str:
    """The whole error message of a refused file."""
    with pytest.raises(InvalidTableError) as caught:
        read(stream).check(*((FEATURES, TARGET) if check else ((), None)))
    return str(caught.value)


HEADER = "age,housing,income,default"


@pytest.mark.parametrize(
    "stream",
    [
        csv(HEADER, "35,own,1.5,1", "36,1,,2"),
        csv(HEADER, "35,own,1.5,1", "36,1,,2", "", ",,,", ""),
        csv("", HEADER, "", "35,own,1.5,1", ",", "", "36,1,,2"),
        csv("\ufeff" + HEADER, "35,own,1.5,1", "36,1,,2"),
        csv(HEADER + "\r\n35,own,1.5,1\r\n36,1,,2\r\n"),
        csv(HEADER + "\r35,own,1.5,1\r36,1,,2\r"),
        csv(HEADER + ",", "35,own,1.5,1,", "36,1,,2,"),
        csv("income,default,age,housing", "1.5,1,35,own", ",2,36,1"),
        csv('"age","housing","income","default"', '"35","own","1.5","1"', '36,"1","",2'),
        xlsx([COLUMNS, [35, "own", 1.5, 1], [36, "1", None, 2]]),
        xlsx([COLUMNS, [35, "own", 1.5, 1], [36, "1", None, 2], [], [None, ""]]),
        xlsx([[*COLUMNS, None], [35, "own", 1.5, 1, None], [36, "1", None, 2]]),
        xlsx([[], COLUMNS, [], [35, "own", 1.5, 1], [None, ""], [36, "1", None, 2]]),
        xlsx([], [COLUMNS, [35, "own", 1.5, 1], [36, "1", None, 2]], []),
        xlsx([[HEADER], ["35,own,1.5,1"], ["36,1,,2"]]),
        xlsx([[HEADER], [], ["35,own,1.5,1"], [], ["36,1,,2"]]),
        xlsx([[HEADER, None], ['35,"own",1.5,1'], ["36,1,,2", None, ""], []]),
    ],
)
def test_every_form_of_a_table_gives_the_same_records(stream: io.BytesIO) -> None:
    table = read(stream)
    assert table.records == [FIRST, {"age": 36, "housing": "1", "income": None}]
    assert table.target == [1, 2]
    table.check(FEATURES, TARGET)


def test_the_target_column_may_be_left_out() -> None:
    table = read(csv("age,housing,income", "35,own,1.5"))
    assert table.records == [FIRST]
    assert table.target is None


def test_extra_columns_are_kept_apart_from_the_records() -> None:
    loan = Category(name="loan", description="", values=("A", "B"))
    table = read_table(csv("loan,age,housing", "B,35,own"), "loans.csv", FEATURES, TARGET, [loan])
    assert table.records == [{"age": 35, "housing": "own"}]
    assert (table.columns, table.extras) == (["loan", "age", "housing"], {"loan": ["B"]})


def test_a_header_alone_is_a_table_without_rows() -> None:
    assert read(csv(HEADER)).records == []


def test_the_bank_s_export_may_quote_a_comma() -> None:
    assert read(xlsx([[HEADER], ['35,"for, free",,1']])).records[0]["housing"] == "for, free"


def test_rows_beyond_the_size_that_a_sheet_claims_are_read() -> None:
    original = xlsx([COLUMNS, *[[35, "own", 1.5, 1]] * 3])
    changed = io.BytesIO()
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(changed, "w") as copy:
        for entry in source.infolist():
            copy.writestr(entry, source.read(entry).replace(b'<dimension ref="A1:D4"', b'<dimension ref="A1:B2"'))
    assert b'ref="A1:B2"' in zipfile.ZipFile(changed).read("xl/worksheets/sheet1.xml")
    changed.seek(0)
    assert read(changed).records == [FIRST] * 3


@settings(deadline=None)
@given(rows=records_and_targets)
def test_what_was_written_as_csv_is_read_back(rows: list[tuple[Any, ...]]) -> None:
    written = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    table = read(io.BytesIO(write_csv(COLUMNS, written).encode()))
    assert with_target(table) == written
    table.check(FEATURES, TARGET)


@settings(max_examples=30, deadline=None)
@given(rows=records_and_targets)
def test_what_was_written_as_xlsx_is_read_back(rows: list[tuple[Any, ...]]) -> None:
    table = read(xlsx([COLUMNS, *rows]))
    assert with_target(table) == [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    table.check(FEATURES, TARGET)


def with_target(table: Table) -> list[dict[str, Any]]:
    assert table.target is not None
    return [{**record, "default": value} for record, value in zip(table.records, table.target, strict=True)]


@settings(max_examples=20, deadline=None)
@given(rest=st.binary(max_size=60))
def test_any_bytes_that_begin_as_an_archive_are_refused(rest: bytes) -> None:
    with pytest.raises(UnsupportedFileError, match="neither CSV"):
        read(io.BytesIO(b"PK\x03\x04" + rest))


@settings(deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_for_a_reason(content: bytes) -> None:
    words = r"None of the|neither CSV|one JSON object|not well-formed|Excel 4|not a workbook|file is broken|JSON list"
    with pytest.raises(TabserveError, match=words):
        read(io.BytesIO(content))


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.text(max_size=6) | st.none() | st.integers() | st.booleans(), max_size=5), max_size=4),
)
def test_rows_of_any_cells_are_all_read_or_refused(rows: list[list[Any]]) -> None:
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    text = io.StringIO()
    writer(text).writerows([COLUMNS, *cells])
    try:
        table = read(io.BytesIO(text.getvalue().encode()))
    except (InvalidTableError, UnsupportedFileError):
        return
    filled = [row_cells for row_cells in cells if any(map(str.strip, row_cells))]
    assert len(table.records) == len(table.rows) == len(filled)
    assert all(2 <= row <= len(text.getvalue().splitlines()) for row in table.rows)


def test_missing_unknown_and_repeated_columns_are_all_named() -> None:
    assert refused(csv("housing,Aged,default,default,")) == (
        "loans.csv: 3 fault(s)\n"
        "  row 1: 1 unknown column(s), B; the columns are: age, housing, income, default. Leave them out, or declare "
        "them as `id` or `ignore`.\n"
        "  column 'age': This column is missing.\n"
        "  column 'default': This column appears more than once."
    )


def test_a_column_whose_values_may_be_missing_may_be_left_out() -> None:
    table = read(csv("housing,age", "own,30"))
    table.check(FEATURES, TARGET)
    assert table.records == [{"housing": "own", "age": 30}]


@pytest.mark.parametrize("stream", [csv(""), csv("", ",,"), xlsx([]), xlsx([[], [None]])])
def test_a_file_without_a_header_misses_its_columns(stream: io.BytesIO) -> None:
    assert "row 1: None of the 4 columns was found: this row must hold their names" in refused(stream)


TENURE = Category(name="tenure", description="", values=("Owner", "Tenant"))
A_RECORD = ["Schmidt", "Anna Maria", "1969-03-04", "55123", "4,5", "+49 30 1234", "anna@example.org", "Owner", "x" * 40]


@pytest.mark.parametrize("known", [[], ["age"], ["age", "income", "tenure", "default"]])
@pytest.mark.parametrize("form", ["csv", "xlsx", "one cell"])
@pytest.mark.parametrize("record", [A_RECORD, ["tenant"], ["Owner"], ["4,5"], ["55123", "anna@example.org"]])
def test_a_record_where_the_header_should_be_is_not_repeated(record: list[str], form: str, known: list[str]) -> None:
    cells, line = [*known, *record], io.StringIO()
    writer(line).writerow(cells)
    stream = {"csv": csv(line.getvalue()), "xlsx": xlsx([cells]), "one cell": xlsx([[line.getvalue().strip()]])}[form]
    with pytest.raises(InvalidTableError) as caught:
        read_table(stream, "a file", (AGE, INCOME, TENURE), TARGET)
    assert not [cell for cell in record if cell in f"{caught.value} {caught.value.by_column()}"]


def test_unknown_columns_are_counted_and_found_by_their_letters() -> None:
    header = ["age", "4711", "housing", "income", "default", *[""] * 25, "Loan_Id", "a b"]
    assert refused(csv(",".join(header))) == (
        "loans.csv: 2 fault(s)\n  row 1: 25 column(s) have no name, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, "
        "W, X, Y and 5 more: remove them, such as row numbers, or name and declare them.\n"
        "  row 1: 3 unknown column(s), B, AE, AF; the columns are: age, housing, income, default. Leave them out, or "
        "declare them as `id` or `ignore`."
    )


def test_unknown_columns_of_the_bank_s_export_are_counted_by_their_position() -> None:
    assert "row 1: 1 unknown column(s), 2; the columns are" in refused(xlsx([["age,4711,housing,income"]]))


def test_a_name_is_shown_only_where_most_of_the_header_is_known() -> None:
    assert "1 unknown column(s), 'Aged'" in refused(csv(f"{HEADER},Aged"))
    assert "Aged" not in refused(csv(f"{HEADER},Aged,b,c,d,e"))


def test_a_name_is_shown_where_the_next_row_has_the_header_s_width_though_a_column_is_left_out() -> None:
    assert "1 unknown column(s), 'rental_id'" in refused(csv("rental_id,age,housing", "R-1,35,own"))
    assert "1 unknown column(s), A" in refused(csv("rental_id,age,housing", "R-1,35"))


@pytest.mark.parametrize("end", range(1, len(HEADER)))
def test_a_header_that_was_cut_off_and_runs_into_a_record_does_not_show_it(end: int) -> None:
    assert "unter" not in refused(csv(f"{HEADER[:end]}hunter,Schmidt_Hunter,hunter2,own"))


def test_the_columns_that_there_are_are_listed_once() -> None:
    assert refused(csv(f"{HEADER},Aged,x,y y")) == (
        "loans.csv: 1 fault(s)\n"
        "  row 1: 3 unknown column(s), 'Aged', 'x', G; the columns are: age, housing, income, default. Leave them out, "
        "or declare them as `id` or `ignore`."
    )


def test_a_long_list_of_columns_is_cut_and_given_once() -> None:
    many = tuple(replace(AGE, name=f"column_{number}") for number in range(300))
    with pytest.raises(InvalidTableError) as caught:
        read_table(csv("column_1,x1,x2,x3"), "loans.csv", many, TARGET)
    assert str(caught.value).count("column_39") <= 1
    assert "column_250" not in str(caught.value)
    with pytest.raises(InvalidTableError, match="and 281 more"):
        read_table(csv("x1,x2,x3"), "loans.csv", many, TARGET)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_column_named_like_one_of_the_answer_is_refused_with_the_way_out(name: str) -> None:
    message = refused(csv(f"{HEADER},{name}", "35,own,1.5,1,7"))
    assert message.startswith(f"loans.csv: 1 fault(s)\n  column '{name}': The answer has a column of this name: rename")


def test_a_declared_column_may_have_such_a_name() -> None:
    features = (AGE, Number(name="score", description="", low=0, high=1), replace(INCOME, name="probability"))
    assert read_table(csv("age,score,probability", "35,1,7"), "a.csv", features, TARGET).records == [
        {"age": 35, "score": 1, "probability": 7}
    ]


@pytest.mark.parametrize(
    ("line", "cells"), [("35,own,1.5", 3), ("35,own,1.5,1,9", 5), ("35,own,1.5,1,,9", 6), ("35", 1)]
)
def test_a_csv_row_of_another_width_is_named(line: str, cells: int) -> None:
    message = refused(csv(HEADER, "35,own,1.5,1", line, "35,own,1.5,1"))
    assert "1 fault(s)" in message
    assert "row 3:" in message
    assert f"The row has {cells} cells and the header 4." in message


def test_rows_of_another_width_are_counted_to_the_end_of_a_csv() -> None:
    lines = ["35,own,1.5,1", *["35,own"] * 2, *["35,own,1.5,1"] * 20_000, *["35,own"] * 3, "35,own,1.5,1"]
    message = refused(csv(HEADER, *lines))
    assert "5 fault(s)" in message
    assert "rows 3, 4, 20005" in message


def test_a_bank_s_export_row_of_another_width_is_named() -> None:
    message = refused(xlsx([[HEADER], ["35,own,1.5,1"], ["35,own"]]))
    assert message.startswith("loans.csv, sheet 'Sheet': 1 fault(s)")
    assert "row 3:" in message
    assert "The row has 2 cells and the header 4." in message


def test_a_value_beyond_the_columns_of_a_sheet_is_not_dropped() -> None:
    assert "row 2: " in refused(xlsx([COLUMNS, [35, "own", 1.5, 1, None, "x"]]))


def test_a_value_beside_the_bank_s_export_is_not_dropped() -> None:
    message = refused(xlsx([[HEADER], ["35,own,1.5,1"], ["35,own,1.5,1", "x"]]))
    assert "row 3: Only the first column may hold values." in message


@pytest.mark.parametrize(
    "cell",
    ['35,own,1.5,"1', '35,"own"x,1.5,1', "35,own\n,1.5,1"],
)
def test_a_cell_of_the_bank_s_export_that_cannot_be_split_is_named(cell: str) -> None:
    message = refused(xlsx([[HEADER], ["35,own,1.5,1"], [cell]]))
    assert f"row 3, column 'first': {cell!r}: Not values joined by commas" in message


def test_a_header_of_the_bank_s_export_that_cannot_be_split_is_named() -> None:
    assert "row 1, column 'first': 'age,\"housing': Not values" in refused(xlsx([['age,"housing'], ["35,own"]]))


@pytest.mark.parametrize(
    "stream",
    [
        csv("", HEADER, "", '35,"for, free",1.5,1', ",,,", "", "36,own,,2"),
        xlsx([[], COLUMNS, [], [35, "own", 1.5, 1], [None, ""], [], [36, "own", None, 2]]),
        xlsx([[], [HEADER], [], ["35,own,1.5,1"], [None, ""], [], ["36,own,,2"]]),
    ],
)
def test_rows_are_counted_as_a_spreadsheet_shows_them_blank_ones_too(stream: io.BytesIO) -> None:
    assert list(read(stream).rows) == [4, 7]


def test_a_row_of_several_lines_has_the_number_of_its_first_one() -> None:
    assert list(read(csv(HEADER, '35,"own', '",1.5,1', "", "36,own,,2")).rows) == [2, 5]


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        ("99,own,1,1,350", "row 5: The row has 5 cells and the header 4."),
        ("999,own,1,1", "row 5, column 'age': 999: Must be between 0 and 120."),
        ("99,own,1,9", "row 5, column 'default': 9: Must be between 1 and 2."),
    ],
)
def test_every_fault_of_a_row_names_the_same_number(last: str, fault: str) -> None:
    assert fault in refused(csv(HEADER, "", "35,own,1.5,1", "", last), check=True)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([35.5, "own", 1, 1], "column 'age': 35.5: Not a valid integer."),
        ([True, "own", 1, 1], "column 'age': True: Not a valid integer."),
        ([None, "own", 1, 1], "column 'age': None: Field may not be null."),
        ([121, "own", 1, 1], "column 'age': 121: Must be between 0 and 120."),
        ([35, "Own", 1, 1], "column 'housing': 'Own': Must be one of: "),
        ([35, "own", "much", 1], "column 'income': 'much': Not a valid number."),
        (
            [35, "own", "#N/A", 1],
            "column 'income': '#N/A': The cell shows the error #N/A: replace it",
        ),
        ([35, "own", 1, 3], "column 'default': 3: Must be between 1 and 2."),
        ([35, "own", 1, None], "column 'default': None: Field may not be null."),
    ],
)
def test_a_wrong_value_is_named_with_file_sheet_row_and_column(row: list[Any], fault: str) -> None:
    message = refused(xlsx([COLUMNS, [35, "own", 1, 1], row]), check=True)
    assert message.startswith(f"loans.csv, sheet 'Sheet': 1 fault(s)\n  row 3, {fault}")


@pytest.mark.parametrize("column", [Text(name="x", description=""), KIND_OR_OTHER, Id(name="x", description="")])
@pytest.mark.parametrize("error", ["#N/A", "#FORMULA!", "#MERGED!"])
def test_errors_of_a_spreadsheet_are_no_values_of_columns_that_take_any_text(column: Feature, error: str) -> None:
    stream = xlsx([["age", "x"], [35, "text"], [36, error]])
    with pytest.raises(InvalidTableError, match=f"row 3, column 'x': '{error}': The (cell|formula)"):
        read_table(stream, "a.xlsx", (AGE,), TARGET, [column])


@pytest.mark.parametrize(
    "column",
    [
        Ignored(name="x", description=""),
        Category(name="x", description="", values=("#N/A", "b"), other="b"),
        Text(name="x", description="", missing=True, markers=("#N/A",)),
    ],
)
def test_an_error_of_a_spreadsheet_may_be_ignored_or_declared(column: Feature) -> None:
    table = read_table(xlsx([["age", "x"], [35, "#N/A"]]), "a.xlsx", (AGE,), TARGET, [column])
    assert len(table.records) == 1


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("35.5,own,1,1", "column 'age': 35.5: Not a valid integer."),
        ("35,own,NA,1", "column 'income': 'NA': Not a valid number."),
        ("35,own,nan,1", "column 'income': 'nan': Not a valid number."),
        ("35,own,1e400,1", "column 'income': inf: Must be between -1e+300 and 1e+300."),
        ("35,own,1,", "column 'default': None: Field may not be null."),
    ],
)
def test_a_wrong_text_is_named_and_not_repaired(line: str, fault: str) -> None:
    message = refused(csv(HEADER, "35,own,1,1", line), check=True)
    assert message.startswith(f"loans.csv: 1 fault(s)\n  row 3, {fault}")


def test_ten_faults_of_a_kind_are_one_line_and_those_of_a_whole_column_say_so() -> None:
    lines = refused(csv(HEADER, *["x,own,1,9"] * 30, "35,own,1,9"), check=True).splitlines()
    assert lines == [
        "loans.csv: 61 fault(s)",
        f"  rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 20 more, column 'age', such as 'x': {AGE.cell_problem('x')}",
        "  all 31 rows, column 'default', such as 9: Must be between 1 and 2.",
    ]


def test_what_a_client_is_told_repeats_no_value() -> None:
    with pytest.raises(InvalidTableError) as caught:
        read(csv(HEADER, "secret,own,1,1")).check(FEATURES, TARGET)
    (problem,) = caught.value.by_column()["age"]
    assert problem.startswith("Row 2: Not a valid integer. If it means that the value is missing, declare that")
    assert "secret" not in problem


@pytest.mark.parametrize("place", ["housing", "income", "default"])
def test_a_formula_without_a_value_is_no_missing_value(place: str) -> None:
    row = {"age": 35, "housing": "own", "income": 1.5, "default": 1} | {place: "=1+1"}
    assert f"row 2, column '{place}'" in refused(xlsx([COLUMNS, [*row.values()]]), check=True)


def test_cells_of_a_workbook_are_brought_to_the_kinds_that_are_declared() -> None:
    (record,) = read(xlsx([COLUMNS, ["35", 1, " 1.5 ", "1"]])).records
    assert record == {"age": 35, "housing": "1", "income": 1.5}


def test_a_formula_without_a_value_in_the_header_is_an_unknown_column() -> None:
    assert "row 1: 1 unknown column(s), E" in refused(xlsx([[*COLUMNS, "=1+1"], [35, "own", 1.5, 1]]))


def test_the_sheet_with_the_known_columns_is_read() -> None:
    table = read(xlsx([["Lists"], ["x"]], [["Loans of 2012"], [], ["AGE ", *COLUMNS[1:]], [35, "own", 1.5, 1]]))
    assert (table.records, list(table.rows)) == ([FIRST], [4])
    assert table.read_as["sheet"] == "Sheet1"


def test_several_sheets_with_the_known_columns_are_refused_unless_one_is_named() -> None:
    stream = xlsx([COLUMNS, [35, "own", 1.5, 1]], [COLUMNS, [36, "own", 1.5, 1]])
    assert "Several sheets hold such a table, 'Sheet', 'Sheet1': name one with --sheet" in refused(stream)
    assert read_table(stream, "loans.csv", FEATURES, TARGET, sheet="Sheet1").records == [{**FIRST, "age": 36}]


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\xff",
        HEADER.encode("utf-32"),
        "x\u00fc".encode("utf-16-le"),
        b"x\xfc,y",
        b"age,housing\0",
        b"PK\x03\x04",
        xlsx([COLUMNS]).getvalue()[:-100],
    ],
)
def test_a_file_that_is_neither_csv_nor_xlsx_is_refused(content: bytes) -> None:
    with pytest.raises(UnsupportedFileError, match="neither CSV"):
        read(io.BytesIO(content))


def test_an_archive_that_is_no_workbook_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    stream.seek(0)
    with pytest.raises(UnsupportedFileError, match="a document or a presentation: save the table as XLSX or CSV"):
        read(stream)


def test_a_sheet_that_is_broken_further_down_is_refused() -> None:
    original, changed = xlsx([COLUMNS, [35, "own", 1, 1]]), io.BytesIO()
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(changed, "w") as copy:
        for entry in source.infolist():
            copy.writestr(entry, source.read(entry).replace(b"</sheetData>", b"</sheet"))
    changed.seek(0)
    with pytest.raises(UnsupportedFileError, match="neither CSV"):
        read(changed)


@pytest.mark.parametrize("line", ['35,own,1,"1', '35,"own"x,1,1'])
def test_a_quote_out_of_place_is_refused(line: str) -> None:
    with pytest.raises(UnsupportedFileError, match="quote"):
        read(csv(HEADER, line))


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * 3_000_000)
    assert len(stream.getvalue()) < 10_000
    stream.seek(0)
    monkeypatch.setattr(workbooks, "MAX_UNPACKED", 200_000)  # ten times as much for files without a time limit
    with pytest.raises(FileLimitError, match="unpacks to more than 2 MB"):
        read(stream)


@pytest.mark.parametrize("end", [[], ["", ",,,", ""]])
def test_as_many_rows_as_allowed_are_read_and_one_more_is_refused(end: list[str]) -> None:
    lines = [HEADER, *["35,own,1.5,1"] * 3, *end]
    assert len(read(csv(*lines), max_rows=3).records) == 3
    with pytest.raises(TooManyRowsError, match="More than 2 rows"):
        read(csv(*lines), max_rows=2)


def test_training_needs_the_target(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text("age,housing,income\n35,own,1\n")
    with pytest.raises(
        InvalidTableError, match=r"^loans.csv: 1 fault\(s\)\n  column 'default': This column is missing"
    ):
        read_training_table(path, FEATURES, TARGET)


def test_training_needs_rows(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text(HEADER)
    with pytest.raises(InvalidTableError, match="There is no row below the header"):
        read_training_table(path, FEATURES, TARGET)


def test_training_refuses_wrong_values(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text(f"{HEADER}\n35,own,1,1\n35,rent,1,0\n")
    with pytest.raises(InvalidTableError, match="2 fault") as caught:
        read_training_table(path, FEATURES, TARGET)
    assert [(fault.row, fault.column, fault.value) for fault in caught.value.faults] == [
        (3, "housing", "rent"),
        (3, "default", 0),
    ]


def test_training_counts_outcomes_that_are_missing_and_says_how_to_leave_them_out(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text(f"{HEADER}\n35,own,1,1\n35,own,1,\n36,own,1, \n")
    with pytest.raises(
        InvalidTableError, match=r"2 of 3 rows have no value, the first is row 3: .*--drop-missing-target"
    ):
        read_training_table(path, FEATURES, TARGET)
    table = read_training_table(path, FEATURES, TARGET, drop_missing_target=True)
    assert (table.target, list(table.rows), table.dropped) == ([1], [2], 2)


def test_training_needs_an_outcome_in_some_row(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text(f"{HEADER}\n35,own,1,\n")
    with pytest.raises(InvalidTableError, match="No row has a value"):
        read_training_table(path, FEATURES, TARGET, drop_missing_target=True)


def test_training_says_which_optional_column_the_file_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "loans.csv"
    path.write_text("age,housing,default\n35,own,1\n")
    read_training_table(path, FEATURES, TARGET)
    assert caplog.messages == ["loans.csv has no column 'income': nothing is learnt from it."]


def test_training_keeps_ids_and_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text(f"{HEADER},name,note\n35,own,1,1,B-7,x\n")
    extras = [Id(name="name", description=""), Ignored(name="note", description="")]
    assert read_training_table(path, FEATURES, TARGET, extras).extras == {"name": ["B-7"]}
    with path.open("rb") as stream:
        table = read_table(stream, "loans.csv", FEATURES, TARGET, extras)
    assert table.extras == {"name": ["B-7"], "note": ["x"]}


def test_training_checks_extra_columns_too(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text(f"{HEADER},weight\n35,own,1,1,-2\n")
    weight = Number(name="weight", description="", low=0, high=9)
    with pytest.raises(InvalidTableError, match="row 2, column 'weight': -2: Must be between 0 and 9"):
        read_training_table(path, FEATURES, TARGET, [weight])


def test_training_shows_what_stands_where_the_header_should_be(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text("Alter;Wohnung\n35;own\n")
    with pytest.raises(InvalidTableError, match="reads 'Alter', 'Wohnung', separated by semicolons; the columns"):
        read_training_table(path, FEATURES, TARGET)


# what means a missing value


@pytest.mark.parametrize("cell", ["", "  ", "?", " ? ", '"?"', "-999"])
def test_a_blank_and_a_declared_marker_mean_a_missing_value(cell: str) -> None:
    features = (AGE, HOUSING, replace(INCOME, markers=("-999",)))
    stream = csv("age,housing,income", f"35,own,{cell}")
    table = read_table(stream, "loans.csv", features, TARGET, markers=["?", "own"])
    assert table.records == [{"age": 35, "housing": "own", "income": None}]


def test_json_lines_are_read_by_their_content() -> None:
    table = read(csv('{"age": 35, "housing": "own", "income": 1.5, "default": 1}', "", '{"housing": "1", "age": "36"}'))
    assert table.records == [FIRST, {"age": 36, "housing": "1", "income": None}]
    assert (table.target, list(table.rows)) == ([1, None], [1, 3])
    assert table.read_as == {"format": "jsonl", "encoding": "utf-8"}


# defaults

YEAR = Integer(name="year", description="", low=2011, high=2012, default=2012)
WEATHER = Category(name="weather", description="", values=("clear", "rain"), default="clear")
RENTALS = Integer(name="count", description="", low=0, high=1000)


@pytest.mark.parametrize(
    "stream",
    [
        csv("age", "35"),
        csv("year,age", ",35"),
        csv("weather,age,year", ",35,"),
        xlsx([["age", "year"], [35, None]]),
        xlsx([["age,year"], ["35,"]]),
    ],
)
def test_a_column_with_a_default_may_be_left_out_or_empty(stream: io.BytesIO) -> None:
    table = read_table(stream, "hours.csv", (AGE, YEAR, WEATHER), RENTALS)
    table.check((AGE, YEAR, WEATHER), RENTALS)
    assert RecordEncoder((AGE, YEAR, WEATHER)).fit_transform(table.records).tolist() == [[35, 2012, 0]]


def test_a_value_that_is_there_has_no_default() -> None:
    table = read_table(csv("age,year,weather", "35,2013,Rain"), "hours.csv", (AGE, YEAR, WEATHER), RENTALS)
    with pytest.raises(InvalidTableError) as caught:
        table.check((AGE, YEAR, WEATHER), RENTALS)
    assert [(fault.column, fault.value) for fault in caught.value.faults] == [("year", 2013), ("weather", "Rain")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["age,weather,count", "35,rain,7"], "  column 'year': This column is missing."),
        (["age,year,count", "35,2011,7"], "  column 'weather': This column is missing."),
        (["age,year,weather,count", "35,2011,rain,7", "35,,rain,7"], "  row 3, column 'year': None: Field may not be"),
        (["age,year,weather,count", "35,2011,,7", "35,2012,rain,7"], "  row 2, column 'weather': None: Field may not"),
    ],
)
def test_no_default_stands_in_for_what_training_learns_from(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "hours.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidTableError) as caught:
        read_training_table(path, (AGE, YEAR, WEATHER), RENTALS)
    first, fault = str(caught.value).splitlines()
    assert first == "hours.csv: 1 fault(s)"
    assert fault.startswith(message)


def test_training_reads_a_column_with_a_default_that_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "hours.csv"
    path.write_text("age,year,weather,count\n35,2011,rain,7\n")
    table = read_training_table(path, (AGE, YEAR, WEATHER), RENTALS)
    assert table.records == [{"age": 35, "year": 2011, "weather": "rain"}]
    assert table.target == [7]


def test_training_still_allows_what_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "loans.csv"
    path.write_text(f"{HEADER}\n35,own,,1\n")
    assert read_training_table(path, FEATURES, TARGET).records == [{**FIRST, "income": None}]


def test_the_real_data_are_the_same_in_the_bank_s_own_form(credit: UseCase, tmp_path: Path) -> None:
    target = credit.target.feature
    table = read_training_table(credit.path, credit.features, target)
    columns = [*table.records[0], target.name]
    rows = [row.values() for row in with_target(table)]
    path = tmp_path / "export.xlsx"
    path.write_bytes(xlsx([[",".join(columns)], *([",".join(map(str, row))] for row in rows)]).getvalue())
    exported = read_training_table(path, credit.features, target)
    assert (exported.records, exported.target) == (table.records, table.target)


def test_a_column_without_a_name_is_refused_by_its_letter_with_the_way_out() -> None:
    message = refused(io.BytesIO(b",age,housing,income,default\n0,35,own,1.5,1\n"))
    assert "1 column(s) have no name, A: remove them, such as row numbers, or name and declare them." in message
    assert "unknown" not in message
