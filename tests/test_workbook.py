"""Workbooks: the child process that reads them, and how it ends."""

import io
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from tabserve.errors import FileLimitError, InvalidTableError, NoMemoryError, TabserveError, UnsupportedFileError
from tabserve.tables import workbook as workbooks
from tabserve.tables import workbook_child
from tabserve.tables.batched import BatchedRows
from tabserve.tables.limits import NOT_A_TABLE, Deadline
from tabserve.tables.workbook import open_workbook
from tests.conftest import ROOT, children_of, wait_until
from tests.test_hostile_files import book

MARKER = "hunter2"
HERE = os.getpid()


def workbook(*rows: list[Any], epoch: datetime | None = None) -> io.BytesIO:
    book = Workbook()
    if epoch:
        book.epoch = epoch
    for row in rows:
        book.active.append(row)
    stream = io.BytesIO()
    book.save(stream)
    stream.seek(0)
    return stream


def rows_of(stream: BinaryIO, seconds: float | None = None) -> list[Any]:
    with open_workbook(stream, "a.xlsx", Deadline(seconds)) as sheets:
        (sheet,) = sheets
        return list(sheet.rows)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs other code in place of the child's."""

    def run(code: str) -> None:
        path = tmp_path / "child.py"
        path.write_text(code)
        monkeypatch.setattr(workbooks, "_CHILD", path)

    return run


def children() -> list[int]:
    """This process's children that read files; it may have other children."""
    return [pid for pid in children_of(HERE) if "child.py" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_every_kind_of_cell_keeps_its_type_and_times_become_texts() -> None:
    header = ["int", "float", "bool", "text", "date", "time", "moment", "span", "error", "formula", "none", "last"]
    moments = [date(2024, 2, 29), time(12, 30), datetime(1999, 12, 31, 23, 59), timedelta(1.5)]
    row = [7, -1.5e300, True, 'a\nä\U0001f600"', *moments]
    ((_, head, _), (number, cells, width)) = rows_of(workbook(header, [*row, "#N/A", "=1+1", None, 2**53]))
    assert head == header
    assert (number, width) == (2, 12)
    assert cells == [
        7, -1.5e300, True, "a\nä\U0001f600\"", date(2024, 2, 29), "12:30:00", datetime(1999, 12, 31, 23, 59),
        "1 day, 12:00:00", "#N/A", "#FORMULA!", None, 2**53,
    ]  # fmt: skip
    assert [type(cell) for cell in cells[:3]] == [int, float, bool]


def test_dates_are_counted_from_the_workbook_s_own_beginning() -> None:
    stream = workbook(["day"], [date(2024, 2, 29)], epoch=CALENDAR_MAC_1904)
    assert rows_of(stream)[1][1] == [date(2024, 2, 29)]


def test_blank_rows_count_and_are_left_out() -> None:
    assert [number for number, *_ in rows_of(workbook([], ["a"], [], [None, ""], ["b"]))] == [2, 5]


def test_rows_end_with_their_last_filled_cell() -> None:
    assert rows_of(workbook(["a", None, "c"], [None, 2], [1, 2, 3, None, 5])) == [
        [1, ["a", None, "c"], 3],
        [2, [None, 2], 2],
        [3, [1, 2, 3, None, 5], 5],
    ]


def test_any_kind_of_stream_is_read_from_its_beginning(tmp_path: Path) -> None:
    content = workbook(["a"], [1]).getvalue()
    (tmp_path / "a.xlsx").write_bytes(content)
    with (tmp_path / "a.xlsx").open("rb") as file, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(content)
        spooled.seek(0)
        file.read(4)
        file.seek(0)
        assert rows_of(file) == rows_of(spooled) == rows_of(io.BytesIO(content)) == [[1, ["a"], 1], [2, [1], 1]]


def test_many_files_are_read_at_the_same_time() -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append((n, rows_of(workbook(["a"], *[[n]] * 500))))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(n for n, _ in found) == list(range(8))
    assert all({cells[0] for _, cells, _ in rows[1:]} == {n} for n, rows in found)


def test_the_child_learns_no_secret_and_inherits_no_socket(child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SIGNING_KEY", MARKER)
    child(
        "import json, os\n"
        "files = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 2 "
        "and os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "print(json.dumps({'sheet': json.dumps([dict(os.environ), files, os.getcwd()]), 'format': 'xlsx'}))\n"
        "print('{\"end\": true}')"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)  # as a server's socket may be
        with open_workbook(io.BytesIO(b"x"), "a", Deadline(30)) as sheets:
            (sheet,) = sheets
    environment, files, _ = json.loads(sheet.read_as["sheet"])
    assert MARKER not in str(environment)
    assert environment.keys() <= {"PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONHOME", "LC_CTYPE"}
    assert not [name for name in files if name.startswith(("socket", "pipe"))]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import time; time.sleep(60)", FileLimitError, "takes longer than 0.5 seconds"),
        ("while True: pass", FileLimitError, "takes longer than 0.5 seconds"),
        (
            'print(\'{"sheet": "a", "format": "xlsx"}\', flush=True)\nwhile True: pass',
            FileLimitError,
            "takes longer than 0.5 seconds",
        ),
        ("import os; os.kill(os.getpid(), 9)", NoMemoryError, "no memory for this file at the moment"),
        ("import os; os.kill(os.getpid(), 24)", FileLimitError, "too much memory"),
        ("import os; os.kill(os.getpid(), 11)", FileLimitError, "too much memory"),
        ("import os; os._exit(3)", FileLimitError, "too much memory"),
        ('print(\'{"sheet": "a", "format": "xlsx"}\\n[1, ["a\')', UnsupportedFileError, NOT_A_TABLE),
        ('print(\'{"sheet": "a", "format": "xlsx"}\')', UnsupportedFileError, NOT_A_TABLE),
        ("raise ValueError", UnsupportedFileError, NOT_A_TABLE),
        ("", UnsupportedFileError, NOT_A_TABLE),
        ("print('nonsense')", UnsupportedFileError, NOT_A_TABLE),
        ('print(\'{"limit": "is green"}\')', FileLimitError, "The file is green: save the table alone"),
    ],
)
def test_a_child_that_dies_hangs_or_talks_nonsense_is_an_error_of_its_file(
    child: Any, code: str, error: type[TabserveError], message: str
) -> None:
    child(code)
    seconds = 0.5 if "0.5" in message else 30
    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        rows_of(io.BytesIO(b"PK"), seconds)
    assert not children()


def test_a_child_whose_rows_nobody_wants_is_ended(child: Any) -> None:
    lines = '{"sheet": "a", "format": "xlsx"}\\n[1, [1], 1]\\n{"heads": true}'
    piece = '{"rows": 1, "columns": ["floats"], "bytes": 18}'
    child(f"print('{lines}', flush=True)\nwhile True: print('{piece}\\n' + chr(0) * 16 + '[]', end='')")
    with open_workbook(io.BytesIO(b"PK"), "a", Deadline(None)) as sheets:
        rows = next(sheets).rows
        assert next(rows) == [1, [1], 1]
        assert next(rows) == (0, [0], 1)
        assert children()
    assert not children()


@pytest.mark.parametrize("put_aside", [1, 300, 10**6])
def test_rows_come_in_their_order_however_many_are_put_aside(monkeypatch: pytest.MonkeyPatch, put_aside: int) -> None:
    monkeypatch.setattr(workbooks, "_AT_ONCE", 1)
    monkeypatch.setattr(workbooks, "_ASIDE", put_aside)
    rows = rows_of(workbook(*([number, f"text {number}"] for number in range(200))))
    assert [cells[0] for _, cells, _ in rows] == list(range(200))


def test_the_child_is_gone_before_rows_that_were_put_aside_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "_AT_ONCE", 1)
    with open_workbook(workbook(*([number] for number in range(200))), "a", Deadline(None)) as sheets:
        rows = next(sheets).rows
        for _ in range(100):
            next(rows)
        wait_until(lambda: not any(map(is_running, children())), 30, "the child goes on")


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    stream = workbook(["a"], *[["b" * 100]] * 20_000)
    (tmp_path / "a.xlsx").write_bytes(stream.getvalue())
    code = (
        "import time\n"
        "from tabserve.tables.workbook import open_workbook\n"
        "from tabserve.tables.limits import Deadline\n"
        "with open('a.xlsx', 'rb') as stream, open_workbook(stream, 'a', Deadline(None)) as sheets:\n"
        "    next(next(sheets).rows)\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"begun\n"
        (pid,) = children_of(parent.pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(pid), 30, "The child goes on without its parent.")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # a zombie is over
    except OSError:
        return False


def test_the_child_imports_nothing_of_the_project_and_no_library_but_calamine(tmp_path: Path) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['child', '2000000000', '0', '1000000', '50', '{HERE}']\n"
        f"runpy.run_path({str(ROOT / 'src' / 'tables' / 'workbook_child.py')!r}, run_name='__main__')\n"
        "print(*sys.modules)"
    )
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook(["a"], [1]).getvalue())
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], stdin=file, capture_output=True, text=True, check=True, env=environment
        )
    assert '[2,[1],1]\n{"heads":true}\n{"end":true}\n' in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "python_calamine" in loaded
    assert not {"openpyxl", "numpy", "tabserve"} & loaded


def test_no_room_for_another_process_is_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(FileLimitError, match="send it as CSV, or try again later"):
        rows_of(io.BytesIO(b"PK"))


def first_row(cells: str, *, texts: str = "") -> Any:
    """The cells of a sheet's only row."""
    ((_, values, _),) = rows_of(io.BytesIO(book(f"<row>{cells}</row>", texts=texts)))
    return values


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("<c><f>1+1</f></c>", "#FORMULA!"),
        ("<c><f>1+1</f><v/></c>", "#FORMULA!"),
        ('<c t="s"><f>A1</f></c>', "#FORMULA!"),
        ('<c t="str"><f>A1</f></c>', "#FORMULA!"),
        ('<c t="str"><f>A1</f><v/></c>', None),
        ('<c t="str"><f>A1</f><v>x</v></c>', "x"),
        ("<c><f>1+1</f><v>2</v></c>", 2),
        ("<c><v>1.5e3</v></c>", 1500),
        ("<c><v>1.5</v></c>", 1.5),
        ('<c t="e"><v>#N/A</v></c>', "#N/A"),
        ("<c><v>-7</v></c>", -7),
        ("<c><v>1_0</v></c>", "1_0"),
        ("<c><v>\u0661\u0662</v></c>", "\u0661\u0662"),
        ("<c><v>NaN</v></c>", "nan"),
        (f"<c><v>{'1' * 5000}</v></c>", "inf"),
        ('<c t="b"><v>true</v></c>', True),
        ('<c t="b"><v>0</v></c>', False),
    ],
)
def test_a_cell_is_its_value_or_a_text_that_shows_what_is_wrong(cell: str, value: Any) -> None:
    values = first_row(cell + "<c><v>1</v></c>")
    assert values == [value, 1]
    assert type(values[0]) is type(value)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("_x005F_", "_"),
        ("a_x000D_\nb", "a\r\nb"),
        ("_x005F_x000D_", "_x000D_"),
        ("_x005F_x005F_", "_x005F_"),
        ("Mondayx005F_", "Mondayx005F_"),
        ("_xD83D_", "_xD83D_"),
        ("_x00e4_", "\u00e4"),
    ],
)
def test_an_escape_is_decoded_once_in_every_form_of_a_text(written: str, text: str) -> None:
    forms = f'<c t="s"><v>0</v></c><c t="inlineStr"><is><t>{written}</t></is></c><c t="str"><v>{written}</v></c>'
    assert first_row(forms, texts=f"<si><t>{written}</t></si>") == [text] * 3


@pytest.mark.parametrize(
    "rows",
    [
        '<row><c r="5"><v>1</v></c></row>',
        '<row><c r="1"><v>1</v></c></row>',
        '<row r="0"><c><v>1</v></c></row>',
        '<row r="1_0"><c><v>1</v></c></row>',
        '<row><c t="s"><v>1</v></c></row>',
    ],
)
def test_places_that_no_spreadsheet_has_or_texts_that_are_not_there_are_a_broken_file(rows: str) -> None:
    with pytest.raises(UnsupportedFileError):
        rows_of(io.BytesIO(book(rows, texts="<si><t>a</t></si>")))


def test_rows_and_cells_may_leave_out_where_they_are() -> None:
    rows = '<row><c><v>1</v></c><c r="C1"><v>2</v></c><c><v>3</v></c></row><row r="4"><c r="B4"><v>5</v></c></row><row>'
    content = book(f"{rows}<c><v>6</v></c></row>")
    assert rows_of(io.BytesIO(content)) == [[1, [1, None, 2, 3], 4], [4, [None, 5], 2], [5, [6], 1]]


@pytest.mark.parametrize("declared", ["<!DOCTYPE worksheet>", '<!DOCTYPE c [<!ENTITY a "1">]>'])
def test_a_doctype_is_refused_where_formulas_and_errors_are_looked_for(declared: str) -> None:
    broken = '<row><c t="e"><v>#N/A</v></c></row>'
    assert rows_of(io.BytesIO(book(broken))) == [[1, ["#N/A"], 1]]
    with pytest.raises(FileLimitError, match="has a DOCTYPE"):
        rows_of(io.BytesIO(book(broken, before=declared)))


def test_the_case_of_the_names_of_parts_does_not_matter() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book())) as source, zipfile.ZipFile(content, "w") as copy:
        for name in source.namelist():
            copy.writestr(name.swapcase(), source.read(name))
    assert rows_of(io.BytesIO(content.getvalue())) == rows_of(io.BytesIO(book()))


def sheets_of(stream: BinaryIO, sheet: str | None = None) -> dict[str, list[Any]]:
    """The rows of each sheet, less their widths."""
    with open_workbook(stream, "a.xlsx", Deadline(None), sheet) as sheets:
        return {one.read_as["sheet"]: [row[:2] for row in one.rows] for one in sheets}


def three_sheets() -> io.BytesIO:
    made = Workbook()
    made.active.title = "Loans"
    made.active.append(["a"])
    for title, state in (("Lists", "hidden"), ("Secret", "veryHidden"), ("More", "visible"), ("Empty", "visible")):
        made.create_sheet(title).sheet_state = state
        if title != "Empty":
            made[title].append([title])
    made.create_chartsheet("Chart")
    stream = io.BytesIO()
    made.save(stream)
    return stream


def test_visible_sheets_with_data_are_read() -> None:
    assert sheets_of(three_sheets()) == {"Loans": [[1, ["a"]]], "More": [[1, ["More"]]]}


@pytest.mark.parametrize(("name", "title"), [("More", "More"), (" more", "More"), ("Lists", "Lists")])
def test_a_sheet_is_chosen_by_its_name_even_a_hidden_one(name: str, title: str) -> None:
    assert sheets_of(three_sheets(), name) == {title: [[1, [title]]]}


def test_a_sheet_that_is_not_there_is_refused_with_the_names_of_those_that_are() -> None:
    with pytest.raises(UnsupportedFileError, match=r"no sheet of that name; its sheets are: 'Loans', 'More', 'Empty'"):
        sheets_of(three_sheets(), "loan\0s?")


def test_one_of_several_long_sheets_is_read_to_its_end() -> None:
    made = Workbook()
    for title in ("First", "Second"):
        for number in range(120):
            made[title].append([title, number]) if title in made else made.create_sheet(title).append([title, number])
    stream = io.BytesIO()
    made.save(stream)
    with open_workbook(stream, "a.xlsx", Deadline(None)) as sheets:
        first, second = sheets
        heads = [next(first.rows) for _ in range(50)], [next(second.rows) for _ in range(50)]
        rest = list(second.rows)
    assert [row[1][1] for row in heads[0]] == list(range(50))
    assert [row[1] for row in [*heads[1], *rest]] == [["Second", number] for number in range(120)]


def test_cells_merged_with_the_one_above_are_marked() -> None:
    made = Workbook()
    for row in (["hour", "when", None], [None, "month", "year"], [1, "May", 2012], [2, None, 2012], [3, "June", 2013]):
        made.active.append(row)
    for merged in ("A1:A2", "B1:C1", "B3:B4"):
        made.active.merge_cells(merged)
    stream = io.BytesIO()
    made.save(stream)
    assert [cells for _, cells, _ in rows_of(stream)] == [
        ["hour", "when"],
        ["#MERGED!", "month", "year"],
        [1, "May", 2012],
        [2, "#MERGED!", 2012],
        [3, "June", 2013],
    ]


def test_errors_and_formulas_are_found_wherever_they_stand() -> None:
    above = '<row r="2"><c r="B2"><v>1</v></c></row>'
    below = '<row r="9"><c r="D9"><f>A1</f></c><c r="E9" t="e"><v>#REF!</v></c></row>'
    assert rows_of(io.BytesIO(book(above + below))) == [
        [2, [None, 1], 2],
        [9, [None, None, None, "#FORMULA!", "#REF!"], 5],
    ]


@pytest.mark.parametrize("half", range(0, 48, 5))
def test_times_of_a_day_are_exact(half: int) -> None:
    moment = datetime(2024, 2, 28) + timedelta(minutes=30 * half)
    (_, (cell,), _) = rows_of(workbook(["at"], [moment]))[1]
    assert str(cell) == str(moment if half else moment.date())


def test_a_percentage_is_its_number() -> None:
    made = Workbook()
    made.active.append([0.05])
    made.active["A1"].number_format = "0%"
    stream = io.BytesIO()
    made.save(stream)
    assert rows_of(stream)[0][1] == [0.05]


def strict(content: bytes) -> bytes:
    """A workbook under the names that strict Open XML has for the same things."""
    return changed_xml(
        content,
        lambda text: text.replace(
            "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://purl.oclc.org/ooxml/spreadsheetml/main"
        ).replace(
            "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
            "http://purl.oclc.org/ooxml/officeDocument/relationships",
        ),
    )


def changed_xml(content: bytes, change: Callable[[str], str]) -> bytes:
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(source.read(name).decode()))
    return copy.getvalue()


def test_strict_workbooks_with_odd_styles_and_a_wrong_dimension_are_read() -> None:
    plain = workbook(["a", "b"], [1, "=1+1"], [date(2024, 2, 29), "x"]).getvalue()
    expected = [[1, ["a", "b"], 2], [2, [1, "#FORMULA!"], 2], [3, [date(2024, 2, 29), "x"], 2]]
    odd = changed_xml(plain, lambda text: text.replace("<fill><patternFill/></fill>", "<fill/>"))
    wrong = changed_xml(plain, lambda text: text.replace('<dimension ref="A1:B3"', '<dimension ref="A1"'))
    assert plain != odd
    assert plain != wrong
    for content in (plain, strict(plain), odd, wrong):
        assert rows_of(io.BytesIO(content)) == expected


def ole(*names: str) -> io.BytesIO:
    """What is seen of an OLE file: its beginning, and the names in its directory."""
    directory = b"".join((name + "\0").encode("utf-16-le").ljust(128, b"\0") for name in names)
    return io.BytesIO(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0") + directory)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["EncryptionInfo", "EncryptedPackage"], "The file has a password: save it without one"),
        (["WordDocument"], "The file is a Word document: save the table as XLSX or CSV"),
        (["PowerPoint Document"], "The file is a presentation: save"),
        (["Outlook"], "The file is not a workbook: save"),
        (["Workbook"], "neither CSV"),  # a broken one
    ],
)
def test_an_ole_file_that_cannot_be_read_is_told_the_way_out(names: list[str], message: str) -> None:
    with pytest.raises(UnsupportedFileError, match=message):
        rows_of(ole(*names))


OPEN_DOCUMENT = "urn:oasis:names:tc:opendocument:xmlns"
ONE = '<table:table-cell office:value-type="float" office:value="1"/>'


def ods(rows: str, kind: str = "spreadsheet", styles: str = "", more: str = "") -> io.BytesIO:
    names = {"office": "office", "table": "table", "text": "text", "style": "style"}
    spaces = " ".join(f'xmlns:{short}="{OPEN_DOCUMENT}:{name}:1.0"' for short, name in names.items())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}", zipfile.ZIP_STORED)
        archive.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{OPEN_DOCUMENT}:manifest:1.0"/>')
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:automatic-styles>{styles}</office:automatic-styles>"
            f'<office:body><office:spreadsheet><table:table table:name="T">{rows}</table:table>{more}'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return stream


def test_open_documents_are_read_without_hidden_sheets_and_the_empty_rest_of_a_sheet() -> None:
    cells = (
        f'{ONE}<table:table-cell office:value-type="date" office:date-value="2024-02-29"/>'
        '<table:table-cell office:value-type="boolean" office:boolean-value="true"/>'
        '<table:table-cell office:value-type="string" table:number-columns-repeated="2"><text:p>x</text:p>'
        '</table:table-cell><table:table-cell table:number-columns-repeated="16000"/>'
    )
    hidden = (
        '<style:style style:name="h" style:family="table"><style:table-properties table:display="false"/></style:style>'
    )
    more = f'<table:table table:name="H" table:style-name="h"><table:table-row>{ONE}</table:table-row></table:table>'
    rest = '<table:table-row table:number-rows-repeated="1048575"><table:table-cell/></table:table-row>'
    stream = ods(f"<table:table-row>{cells}</table:table-row>{rest}", styles=hidden, more=more)
    assert sheets_of(stream) == {"T": [[1, [1, date(2024, 2, 29), True, "x", "x"]]]}


def test_an_open_document_that_repeats_cells_without_end_is_refused() -> None:
    cell = '<table:table-cell office:value-type="float" office:value="1" table:number-columns-repeated="16384"/>'
    with pytest.raises((FileLimitError, UnsupportedFileError)):
        rows_of(ods(f'<table:table-row table:number-rows-repeated="1048576">{cell}</table:table-row>'), 60)


def test_an_open_document_that_is_no_spreadsheet_is_refused() -> None:
    with pytest.raises(UnsupportedFileError, match="OpenDocument, but not a spreadsheet"):
        rows_of(ods("", kind="text"))


def test_an_archive_that_lies_about_its_size_is_refused() -> None:
    content = bytearray(book(after=" " * 3_000_000))
    name = b"xl/worksheets/sheet1.xml"
    for head, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = content.rindex(head, 0, content.index(name) if at == 22 else content.rindex(name))
        content[place + at : place + at + 4] = (1_000).to_bytes(4, "little")
    with pytest.raises((UnsupportedFileError, FileLimitError)):
        rows_of(io.BytesIO(bytes(content)))


FIXTURES = Path(__file__).with_name("fixtures")


@pytest.mark.parametrize("name", ["loans.xls", "loans.ods"])
def test_workbooks_of_libreoffice_are_read(name: str) -> None:
    with (FIXTURES / name).open("rb") as stream:
        sheets = sheets_of(stream)
    assert sheets["Loans"] == [
        [1, ["Loans of the branch"]],
        [3, ["age", "code", "paid", "since", "at", "share", "housing", "note"]],
        [4, [35, "007", True, date(2024, 2, 29), datetime(2024, 2, 29, 13, 45), 0.05, "own", "ok"]],
        [5, [41, 3, False, date(1999, 12, 31), date(2001, 1, 1), 0.125, "rent "]],
        [6, ["29", 1.5, "yes", date(2000, 1, 1), datetime(2000, 1, 1, 0, 0, 1), 1, "free", "\xe9 \u2013 \xfc"]],
        [8, [60, None, None, 61, None, None, None, "after a blank row"]],
    ]
    assert set(sheets) == {"Loans", "Merged"}


@pytest.mark.parametrize("name", ["locked.xls", "locked.ods"])
def test_a_password_has_its_own_sentence(name: str) -> None:
    with (
        (FIXTURES / name).open("rb") as stream,
        pytest.raises(UnsupportedFileError, match="The file has a password: save it without one"),
    ):
        sheets_of(stream)


def test_an_open_document_that_is_encrypted_as_a_whole_has_a_password() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest:encryption-data/>")
        archive.writestr("encrypted-package", b"\x17" * 100)
    with pytest.raises(UnsupportedFileError, match="password"):
        sheets_of(stream)


CELLS = st.one_of(
    st.just(""),
    st.sampled_from([1.0, 0.0, -2.5, 1e300, math.inf, math.nan, True, False, 7, "a", "\u00e4\n", "1"]),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.timedeltas(),
    st.text(max_size=3),
)
COLUMNS = st.one_of(
    st.lists(st.sampled_from([1.0, 2.5, ""])), st.lists(st.sampled_from(["a", "b", ""])), st.lists(CELLS)
)


@given(st.lists(COLUMNS, min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 3))
def test_pieces_of_columns_hold_what_rows_do(columns: list[list[Any]], piece: int, block: int) -> None:
    table = [*itertools.zip_longest(*columns, fillvalue="")]
    rows = [(2 * number, [*row]) for number, row in enumerate(table, 1) if any(cell != "" for cell in row)]
    expected = [workbook_child._row(number, [*map(workbook_child._cell, row)]) for number, row in rows]
    cells = {"_PIECE": piece * len(columns), "_BLOCK": block * len(columns), "_FEWEST": 1}
    with patch.multiple(workbook_child, **cells):
        pieces = [*workbook_child._pieces(iter(rows))]
    batches = [workbooks._batch(line, content) for line, content in pieces]
    found = [*BatchedRows("f", [], iter(batches)).rows()]
    decoded = json.loads(json.dumps(expected), object_hook=workbooks._dated)
    assert [[*row] for row in found] == decoded
    assert [[*map(type, cells)] for _, cells, _ in found] == [[*map(type, cells)] for _, cells, _ in decoded]
    fitted = [*BatchedRows("f", [], iter(batches)).batches(len(columns))]
    assert all(batch.cells.num_columns == len(columns) for batch in fitted)


def test_a_long_text_in_a_piece_divides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook_child, "MAX_ROW_TEXT", 60)
    rows = [(number, [f"{number}" * 50, 1.0]) for number in range(1, 9)]
    pieces = [*workbook_child._pieces(iter(rows))]
    assert len(pieces) == 8
    assert [number for line, content in pieces for number in workbooks._batch(line, content).rows] == [*range(1, 9)]


@pytest.mark.parametrize(
    "line",
    [
        {"rows": 1, "columns": ["floats"], "bytes": 17},
        {"rows": 9, "columns": ["floats"], "bytes": 18},
        {"rows": -1, "columns": ["floats"], "bytes": 18},
        {"rows": 1, "columns": ["cells"], "bytes": 18},
        {"rows": 1, "columns": ["other"], "bytes": 18},
        {"rows": 1, "columns": 5, "bytes": 18},
        {"arrow": 1, "bytes": 18},
        {"bytes": 10**12},
        {"bytes": -1},
        {"bytes": "a"},
    ],
)
def test_a_piece_that_is_broken_is_an_error_of_its_file(child: Any, line: dict[str, Any]) -> None:
    head = '{"sheet": "a", "format": "xlsx"}\\n[1, [1], 1]\\n{"heads": true}\\n'
    child(f"print('{head}{json.dumps(line)}\\n' + chr(0) * 16 + '[]', end='')")
    with pytest.raises(UnsupportedFileError, match="neither CSV"):
        rows_of(io.BytesIO(b"PK"), 30)


def test_a_row_that_is_longer_than_the_header_is_told_from_batches() -> None:
    rows = [["a", "b"], *[[number, "x"] for number in range(60)], [1, 2, 3], [1], [1, 2, None, 4]]
    with open_workbook(workbook(*rows), "a.xlsx", Deadline(None)) as sheets:
        sheet = next(sheets)
        next(sheet.rows)
        with pytest.raises(InvalidTableError) as caught:
            [*sheet.batches(2)]
    assert "row 62: The row has 3 cells and the header 2." in str(caught.value)
    assert "row 64: The row has 4 cells and the header 2." in str(caught.value)
