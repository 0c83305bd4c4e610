"""XLSX files: the child process that reads them, and how it ends."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from openpyxl import Workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from tabserve.errors import FileLimitError, TabserveError, UnsupportedFileError
from tabserve.tables import xlsx
from tabserve.tables.limits import NOT_A_TABLE, Deadline
from tabserve.tables.xlsx import open_xlsx
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
    with open_xlsx(stream, "a.xlsx", Deadline(seconds)) as (_, rows):
        return list(rows)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs other code in place of the child's."""

    def run(code: str) -> None:
        path = tmp_path / "child.py"
        path.write_text(code)
        monkeypatch.setattr(xlsx, "_CHILD", path)

    return run


def children() -> list[int]:
    """This process's children that read files; it may have other children."""
    return [pid for pid in children_of(HERE) if "child.py" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_every_kind_of_cell_keeps_its_type_and_dates_become_texts() -> None:
    header = ["int", "float", "bool", "text", "date", "time", "moment", "span", "error", "formula", "none", "last"]
    moments = [date(2024, 2, 29), time(12, 30), datetime(1999, 12, 31, 23, 59), timedelta(1.5)]
    row = [7, -1.5e300, True, 'a\nä\U0001f600"', *moments]
    ((_, head, _), (number, cells, width)) = rows_of(workbook(header, [*row, "#N/A", "=1+1", None, 2**53]))
    assert head == header
    assert (number, width) == (2, 12)
    assert cells == [
        7, -1.5e300, True, "a\nä\U0001f600\"", "2024-02-29 00:00:00", "12:30:00", "1999-12-31 23:59:00",
        "1 day, 12:00:00", "#N/A", "#FORMULA!", None, 2**53,
    ]  # fmt: skip
    assert [type(cell) for cell in cells[:3]] == [int, float, bool]


def test_dates_are_counted_from_the_workbook_s_own_beginning() -> None:
    stream = workbook(["day"], [date(2024, 2, 29)], epoch=CALENDAR_MAC_1904)
    assert rows_of(stream)[1][1] == ["2024-02-29 00:00:00"]


def test_blank_rows_count_and_are_left_out() -> None:
    assert [number for number, *_ in rows_of(workbook([], ["a"], [], [None, ""], ["b"]))] == [2, 5]


def test_rows_are_no_wider_than_the_first_and_say_how_far_they_reach() -> None:
    assert rows_of(workbook(["a", None, "c"], [None, 2], [1, 2, 3, None, 5])) == [
        [1, ["a", None, "c"], 3],
        [2, [None, 2], 2],
        [3, [1, 2, 3], 5],
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
        "print(json.dumps({'sheets': [json.dumps([dict(os.environ), files, os.getcwd()])]}))\n"
        "print('{\"end\": true}')"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)  # as a server's socket may be
        with open_xlsx(io.BytesIO(b"x"), "a", Deadline(30)) as (place, rows):
            assert list(rows) == []
    environment, files, _ = json.loads(place.removeprefix("a, sheet '").removesuffix("'"))
    assert MARKER not in str(environment)
    assert environment.keys() <= {"PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONHOME", "LC_CTYPE"}
    assert not [name for name in files if name.startswith(("socket", "pipe"))]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import time; time.sleep(60)", FileLimitError, "takes longer than 0.5 seconds"),
        ("while True: pass", FileLimitError, "takes longer than 0.5 seconds"),
        ('print(\'{"sheets": ["a"]}\', flush=True)\nwhile True: pass', FileLimitError, "takes longer than 0.5 seconds"),
        ("import os; os.kill(os.getpid(), 9)", FileLimitError, "too much memory"),
        ("import os; os.kill(os.getpid(), 11)", FileLimitError, "too much memory"),
        ("import os; os._exit(3)", FileLimitError, "too much memory"),
        ('print(\'{"sheets": ["a"]}\\n[1, ["a\')', UnsupportedFileError, NOT_A_TABLE),
        ('print(\'{"sheets": ["a"]}\')', UnsupportedFileError, NOT_A_TABLE),
        ("raise ValueError", UnsupportedFileError, NOT_A_TABLE),
        ("", UnsupportedFileError, NOT_A_TABLE),
        ("print('nonsense')", UnsupportedFileError, NOT_A_TABLE),
        ('print(\'{"limit": "is green"}\')', FileLimitError, "The XLSX file is green: save the table alone"),
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
    child("print('{\"sheets\": [\"a\"]}', flush=True)\nwhile True: print('[1, [1], 1]')")
    with open_xlsx(io.BytesIO(b"PK"), "a", Deadline(None)) as (_, rows):
        assert next(rows) == [1, [1], 1]
        assert children()
    assert not children()


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    stream = workbook(["a"], *[["b" * 100]] * 20_000)
    (tmp_path / "a.xlsx").write_bytes(stream.getvalue())
    code = (
        "import time\n"
        "from tabserve.tables import xlsx\n"
        "from tabserve.tables.limits import Deadline\n"
        "with open('a.xlsx', 'rb') as stream, xlsx.open_xlsx(stream, 'a', Deadline(None)) as (place, rows):\n"
        "    next(rows)\n"
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


def test_the_child_imports_no_library_for_a_table_without_dates(tmp_path: Path) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['child', '2000000000', '0', '1000000', '{HERE}']\n"
        f"runpy.run_path({str(ROOT / 'src' / 'tables' / 'xlsx_child.py')!r}, run_name='__main__')\n"
        "print(*sys.modules)"
    )
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook(["a"], [1]).getvalue())
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], stdin=file, capture_output=True, text=True, check=True
        )
    assert '[2,[1],1]\n{"end":true}\n' in done.stdout
    assert not {"openpyxl", "numpy", "tabserve"} & set(done.stdout.splitlines()[-1].split())


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
        ("<c><v>1.5e3</v></c>", 1500.0),
        ("<c><v>-7</v></c>", -7),
        ("<c><v>1_0</v></c>", "1_0"),
        ("<c><v>\u0661\u0662</v></c>", "\u0661\u0662"),
        ("<c><v>NaN</v></c>", "NaN"),
        (f"<c><v>{'1' * 5000}</v></c>", "1" * 5000),
        ('<c t="b"><v>true</v></c>', True),
        ('<c t="b"><v>0</v></c>', False),
        ('<c t="b"><v>maybe</v></c>', "maybe"),
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
        '<row><c r="A1"><v>1</v></c><c r="A1"><v>2</v></c></row>',
        '<row><c r="B1"><v>1</v></c><c r="A1"><v>2</v></c></row>',
        '<row><c/><c/><c r="B1"><v>2</v></c></row>',
        '<row><c r="5"><v>1</v></c></row>',
        '<row><c r="1"><v>1</v></c></row>',
        '<row r="2"><c r="A7"><v>1</v></c></row>',
        '<row r="2"><c><v>1</v></c></row><row r="2"><c><v>1</v></c></row>',
        '<row r="2"><c><v>1</v></c></row><row r="1"><c><v>1</v></c></row>',
        '<row r="0"><c><v>1</v></c></row>',
        '<row r="1_0"><c><v>1</v></c></row>',
        '<row><c t="s"><v>-1</v></c></row>',
        '<row><c t="s"><v>1</v></c></row>',
        '<row><c t="s"><v>0_0</v></c></row>',
    ],
)
def test_cells_and_rows_out_of_order_or_to_texts_that_are_not_there_are_a_broken_file(rows: str) -> None:
    with pytest.raises(UnsupportedFileError):
        rows_of(io.BytesIO(book(rows, texts="<si><t>a</t></si>")))


def test_rows_and_cells_may_leave_out_where_they_are() -> None:
    rows = '<row><c><v>1</v></c><c r="C1"><v>2</v></c><c><v>3</v></c></row><row r="4"><c r="B4"><v>5</v></c></row><row>'
    content = book(f"{rows}<c><v>6</v></c></row>")
    assert rows_of(io.BytesIO(content)) == [[1, [1, None, 2, 3], 4], [4, [None, 5], 2], [5, [6], 1]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_doctype_is_refused_and_a_text_or_comment_that_names_it_is_not(encoding: str) -> None:
    def with_sheet(before: str) -> io.BytesIO:
        content = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(book())) as source, zipfile.ZipFile(content, "w") as copy:
            for name in source.namelist():
                part = source.read(name)
                copy.writestr(name, (before + part.decode()).encode(encoding) if "sheet1" in name else part)
        return io.BytesIO(content.getvalue())

    comment = f"<!-- <!DOCTYPE x> {'x' * 50_000} -->"
    assert len(rows_of(with_sheet(comment))) == 2
    for doctype in ("<!DOCTYPE worksheet>", '<!DOCTYPE c [<!ATTLIST c s CDATA "1">]>'):
        with pytest.raises(FileLimitError, match="has a DOCTYPE"):
            rows_of(with_sheet(comment + doctype))


def test_the_case_of_the_names_of_parts_does_not_matter() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book())) as source, zipfile.ZipFile(content, "w") as copy:
        for name in source.namelist():
            copy.writestr(name.swapcase(), source.read(name))
    assert rows_of(io.BytesIO(content.getvalue())) == rows_of(io.BytesIO(book()))
