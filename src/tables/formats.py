"""The kinds of files that hold tables. The first bytes decide how a file is read, never its name alone."""

from typing import Protocol

from tabserve.errors import UnsupportedFileError
from tabserve.tables.limits import NOT_A_TABLE

WORKBOOK, PARQUET, FEATHER, TEXT = "workbook", "parquet", "feather", "text"
STREAM = b"\xff\xff\xff\xff"  # how an Arrow IPC stream begins, which is read as Feather is
_TEXTS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
ENDINGS = (*_TEXTS, ".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".parquet", ".feather", ".arrow", ".arrows")
_MAGIC = {
    b"PK\x03\x04": WORKBOOK,
    b"\xd0\xcf\x11\xe0": WORKBOOK,  # OLE: XLS, and XLSX with a password
    b"PAR1": PARQUET,
    b"PARE": PARQUET,  # encrypted
    b"ARROW1": FEATHER,
    STREAM: FEATHER,
    b"FEA1": FEATHER,  # version 1
}
_LONGEST = max(map(len, _MAGIC))
_OLD_EXCEL = (b"\x09\x00\x04\x00", b"\x09\x02\x06\x00", b"\x09\x04\x06\x00")  # Excel 2, 3 and 4


class Seekable(Protocol):
    """A stream that is read from its beginning more than once."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> object: ...


def kind_of(stream: Seekable) -> str:
    """How a file is read.

    Parameters
    ----------
    stream : binary file
        It is read from its beginning and left there.

    Returns
    -------
    str
        `WORKBOOK`, `PARQUET`, `FEATHER` or, for everything that is none of these, `TEXT`.

    Raises
    ------
    UnsupportedFileError
        For workbooks of Excel 4 and before.
    """
    stream.seek(0)
    beginning = stream.read(_LONGEST)
    stream.seek(0)
    if beginning.startswith(_OLD_EXCEL):
        raise UnsupportedFileError("The file is a workbook of Excel 4 or before: save it as XLSX.")
    return next((kind for magic, kind in _MAGIC.items() if beginning.startswith(magic)), TEXT)


def check_file_name(name: str) -> None:
    """Refuse a file whose name does not end as those of tables do, in upper or lower case.

    Raises
    ------
    UnsupportedFileError
        With what can be read.
    """
    if not name.casefold().endswith(ENDINGS):
        raise UnsupportedFileError(NOT_A_TABLE)
