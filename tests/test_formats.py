"""Kinds of files: by their first bytes, and by their names."""

import io

import pytest

from tabserve.errors import UnsupportedFileError
from tabserve.tables.formats import FEATHER, PARQUET, TEXT, WORKBOOK, check_file_name, kind_of


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (b"PK\x03\x04", WORKBOOK),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", WORKBOOK),
        (b"PAR1", PARQUET),
        (b"PARE", PARQUET),
        (b"ARROW1\0\0", FEATHER),
        (b"FEA1", FEATHER),
        (b"age,housing", TEXT),
        (b"PK", TEXT),
        (b"", TEXT),
    ],
)
def test_the_first_bytes_decide_how_a_file_is_read(beginning: bytes, kind: str) -> None:
    stream = io.BytesIO(beginning)
    assert kind_of(stream) == kind
    assert stream.read() == beginning


def test_a_workbook_older_than_excel_5_is_told_the_way_out() -> None:
    with pytest.raises(UnsupportedFileError, match="Excel 4 or before: save it as XLSX"):
        kind_of(io.BytesIO(b"\x09\x04\x06\x00\x00\x00"))


@pytest.mark.parametrize("name", ["a.csv", "A.XLSX", "a.xls.csv", "a.xls", "a.Parquet", "a.ods", "a.feather"])
def test_the_name_of_a_table_is_accepted(name: str) -> None:
    check_file_name(name)


@pytest.mark.parametrize("name", ["csv", "", "a.csv.exe", "a.docx"])
def test_a_name_of_another_kind_is_refused_with_what_can_be_read(name: str) -> None:
    with pytest.raises(UnsupportedFileError, match="neither CSV"):
        check_file_name(name)
